"""When an artifact is complete, by what a look shows and by what its bytes say."""

import json
import struct

import pytest

from harvestd.convention.metadata.parse import MAX_MARKER_BYTES, InvalidFacts
from harvestd.convention.rules import Selection
from harvestd.convention.scan.classify import survey
from harvestd.convention.scan.completeness import HEAD_BYTES, check_content, unsealed
from harvestd.convention.scan.model import Group
from harvestd.convention.scan.snapshot import EntryType, Version
from harvestd.convention.scan.stability import NO_TIME, StabilityTracker
from harvestd.planning.plan import Waiting
from support.box_trees import PRESENT, Box, Home, T, targets

RUN = f"training_runs/{T}"
LEAF = f"eval_runs/{T}_gsm8k/a"
SETTLE = 10.0


def group_of(box: Box, path: str) -> Group:
    """Return the group that stands at `path`."""
    seen = survey(box.snapshot(), Selection())
    groups = [group for run in seen.runs for group in (*run.groups, *run.checkpoints)]
    groups += [group for each in seen.evals for group in each.groups]
    return next(group for group in groups if group.place.endswith(path))


def reason(box: Box, path: str = LEAF, seconds: float = 0.0, sightings: StabilityTracker | None = None) -> str | None:
    """Return why the group at `path` is not complete, `seconds` after the first scan."""
    sightings = sightings or StabilityTracker()
    sightings.update(box.snapshot(seconds), seconds)
    found = unsealed(group_of(box, path), sightings, SETTLE, seconds)
    return found.reason if found else None


def test_a_marker_seals_its_leaf_at_once() -> None:
    """A marker that is younger than its siblings needs no waiting."""
    box = Box()
    box.add_leaf(LEAF, age=0.0)
    assert reason(box) is None


def test_a_marker_of_the_same_instant_seals() -> None:
    """A marker that is exactly as old as its siblings is not older."""
    box = Box()
    box.file(f"{LEAF}/metrics.csv", age=1.0)
    box.file(f"{LEAF}/run_meta.json", age=1.0)
    assert reason(box) is None


def test_a_marker_older_than_its_siblings_seals_nothing() -> None:
    """A re-evaluation rewrites files under an old marker: then only quiet seals."""
    box = Box()
    box.file(f"{LEAF}/run_meta.json", age=60.0)
    box.file(f"{LEAF}/metrics.csv", age=1.0)
    assert reason(box) == "run_meta.json is older than what it marks: settling"
    assert reason(box, seconds=9.5) is None


def test_records_that_are_not_wanted_still_bear_witness() -> None:
    """Records that are younger than the marker show that an evaluation is under way."""
    box = Box()
    box.add_leaf(LEAF, age=5.0)
    box.file(f"{LEAF}/records.jsonl.gz", age=1.0)
    assert reason(box) == "run_meta.json is older than what it marks: settling"


def test_a_leaf_without_a_marker_has_to_settle() -> None:
    """Without a marker the leaf counts as complete once it was quiet for long enough on the box's own clock."""
    box = Box()
    box.add_leaf(LEAF, marker="", age=0.0)
    box.file(f"{LEAF}/metrics.csv", age=3.0)
    assert reason(box) == "settling"
    assert reason(box, seconds=6.9) == "settling"
    assert reason(box, seconds=7.1) is None


def test_a_summary_seals_a_batch_eval() -> None:
    """Layout D has no run_meta.json: its summary is written last."""
    box = Box()
    box.add_leaf(LEAF, marker="summary.json", age=0.0)
    assert reason(box) is None


def test_the_marker_is_last_whatever_its_name() -> None:
    """Where a leaf holds a run_meta.json and a summary.json, the former seals it and goes last."""
    box = Box()
    box.add_leaf(LEAF, age=0.0)
    box.file(f"{LEAF}/summary.json", age=1.0)
    group = group_of(box, LEAF)
    assert [each.source.path.name for each in group.members] == ["metrics.csv", "summary.json", "run_meta.json"]
    assert group.marker == group.members[-1].source


def test_a_checkpoint_without_its_marker_is_never_complete() -> None:
    """However quiet it is: a box may be preempted in the middle of a checkpoint."""
    box = Box()
    box.add_run()
    box.add_checkpoint("step_final", whole=False)
    path = f"{RUN}/training_state/step_final"
    assert reason(box, path, seconds=1e6) == "its marker training_info.json is not there yet"
    box.add_checkpoint("step_final")
    assert reason(box, path) is None


def test_a_resumed_checkpoint_waits_for_its_new_marker_or_quiet() -> None:
    """A resumed run rewrites step_final under the old marker; while it does, nothing is taken."""
    box = Box()
    box.add_run()
    box.add_checkpoint("step_final")
    box.file(f"{RUN}/training_state/step_final/optimizer.pt", age=2.0)
    path = f"{RUN}/training_state/step_final"
    assert reason(box, path) == "training_info.json is older than what it marks: settling"


@pytest.mark.parametrize(("filesystem", "needed"), [("ext4", 10.0), ("nfs4", 60.0), ("fuse.sshfs", 60.0), ("", 10.0)])
def test_a_network_file_system_needs_a_minute(filesystem: str, needed: float) -> None:
    """Attributes may be a minute old there, so that quiet must last longer than that."""
    box = Box(filesystem=filesystem)
    box.file(f"{LEAF}/metrics.csv", age=0.0)
    home = Home(settle=SETTLE)
    waiting = home.plan(box).waiting
    assert waiting == (Waiting(f"/home/ubuntu/localfs/{LEAF}", 100, "settling", needed),)
    assert home.plan(box, needed - 0.1).waiting
    assert not home.plan(box, needed + 0.1).waiting


def test_where_times_are_coarse_even_a_marker_is_looked_at_again() -> None:
    """SFTP knows whole seconds: a file of this second may change in it once more without a trace."""
    box = Box()
    for name in ("metrics.csv", "run_meta.json"):
        box.put(f"{LEAF}/{name}", EntryType.FILE, Version(100, int(PRESENT) * 10**9))
    sightings = StabilityTracker()
    assert reason(box, sightings=sightings) == "looking again"
    assert reason(box, seconds=1.9, sightings=sightings) == "looking again"
    assert reason(box, seconds=2.0, sightings=sightings) is None


def test_records_come_apart_from_their_metrics() -> None:
    """Large records that were asked for never hold up the metrics beside them; the same marker seals both."""
    box = Box()
    box.add_run()
    box.add_leaf(LEAF, age=0.0)
    box.file(f"{LEAF}/records.jsonl.gz", 10**8, age=6.0)
    home = Home(Selection(records=True))
    home.learn(box)
    plan = home.plan(box)
    by_place = {group.place.rpartition("/")[2]: group for group in plan.groups}
    assert [file.source.path.name for file in by_place["a"].files] == ["metrics.csv", "run_meta.json"]
    assert [file.source.path.name for file in by_place["records.jsonl.gz"].files] == ["records.jsonl.gz"]
    assert by_place["a"].value < by_place["records.jsonl.gz"].value
    box.file(f"{LEAF}/records.jsonl.gz", 10**8, age=-1.0)
    assert f"{LEAF}/records.jsonl.gz" not in targets(home.plan(box))


def safetensors(*tensors: int, header: bytes | None = None) -> bytes:
    """Make a file in the format of safetensors, with tensors of these sizes."""
    start, described = 0, {"__metadata__": {"format": "pt"}}
    for i, size in enumerate(tensors):
        described[str(i)] = {"dtype": "U8", "shape": [size], "data_offsets": [start, start + size]}  # type: ignore[dict-item]  # a header mixes both
        start += size
    text = json.dumps(described).encode() if header is None else header
    return struct.pack("<Q", len(text)) + text + b"\0" * start


def check(name: str, content: bytes) -> None:
    """Check a whole file as the publisher does."""
    check_content(name, content[:HEAD_BYTES], len(content))


def test_whole_safetensors_are_accepted() -> None:
    """A file that is as long as its header says is whole, one without tensors as well."""
    check("adapter_model.safetensors", safetensors(100, 50))
    check("adapter_model.safetensors", safetensors())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        safetensors(100, 50)[:-1],
        safetensors(100, 50) + b"\0",
        safetensors(100)[:30],
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 101 * 1024 * 1024) + b"{}",
        safetensors(header=b"[]"),
        safetensors(header=b"{x"),
        safetensors(header=b'{"a": 1}'),
        safetensors(header=b'{"a": {"data_offsets": []}}'),
        safetensors(header=b'{"a": {"data_offsets": [0, "x"]}}'),
        safetensors(header=b'{"a": {"data_offsets": [0, NaN]}}'),
        safetensors(header=b'{"a": {"data_offsets": [0, 1e999]}}'),
        safetensors(header=b'{"a":' * 10_000),
        safetensors(header=b"\xff\xfe"),
    ],
)
def test_torn_or_senseless_safetensors_are_refused(content: bytes) -> None:
    """A length or a header that does not fit the file is refused as a value."""
    with pytest.raises(InvalidFacts):
        check("adapter_model.safetensors", content)


def test_a_header_longer_than_what_is_looked_at_is_not_judged() -> None:
    """What can't be seen whole is not taken for torn."""
    content = struct.pack("<Q", 2 * HEAD_BYTES) + b"{" * (2 * HEAD_BYTES)
    check("adapter_model.safetensors", content)


@pytest.mark.parametrize(
    ("name", "content", "whole"),
    [
        ("run_meta.json", b'{"step": 10}', True),
        ("run_meta.json", b'{"step": 1', False),
        ("run_meta.json", b"", False),
        ("training_info.json", b"{}", True),
        ("summary.json", b"[1, 2]", True),
        ("summary.json", b"\0" * 100, False),
        ("summary.json", b'{"a": "' + b"x" * 200_000 + b'"}', True),
        ("records.jsonl.gz", b"\x1f\x8b" + b"\0" * 16, True),
        ("records.jsonl.gz", b"\x1f\x8b" + b"\0" * 15, False),
        ("records.jsonl.gz", b"PK" + b"\0" * 30, False),
        ("metrics.csv", b"", True),
        ("optimizer.pt", b"anything", True),
    ],
)
def test_content_is_judged_by_what_its_kind_can_show(name: str, content: bytes, whole: bool) -> None:  # noqa: FBT001 - a table's column
    """Markers parse, gzip has its frame; of other kinds the bytes say nothing."""
    if whole:
        check(name, content)
    else:
        with pytest.raises(InvalidFacts):
            check(name, content)


def test_a_marker_too_large_to_be_read_whole_does_not_lose_its_metrics() -> None:
    """A summary of many megabytes is believed by its times alone."""
    check_content("summary.json", b'{"a": [', MAX_MARKER_BYTES + 1)


STATE = f"{RUN}/training_state/step_40"
SHARDS: list[tuple[list[str], str | None]] = [
    (["model/adapter_model.safetensors"], None),
    (["model/model-00001-of-00002.safetensors", "model/model-00002-of-00002.safetensors"], None),
    (["model/model-00001-of-00002.safetensors"], "1 of the 2 shards of model.safetensors are there"),
    (["model/pytorch_model-00002-of-00003.bin"], "1 of the 3 shards of pytorch_model.bin are there"),
    (
        ["model/model-00001-of-00002.safetensors", "ema/deep/model-00002-of-00002.safetensors"],
        "1 of the 2 shards of model.safetensors are there",
    ),
    (["model/model-00001-of-99999.safetensors"], "1 of the 99999 shards of model.safetensors are there"),
    (["model/model-1-of-2.safetensors", "model/model-00001-of-00002.txt"], None),
    (["model/config.json", "model/tokenizer/vocab/a/b.json", "optimizer/rank_0/state.pt"], None),
]


@pytest.mark.parametrize(("names", "expected"), SHARDS)
def test_a_checkpoint_needs_all_its_shards(names: list[str], expected: str | None) -> None:
    """The name of one says how many there are, in each directory of its own; no waiting helps where one is missing."""
    box = Box()
    box.add_run()
    for name in names:
        box.file(f"{STATE}/{name}")
    box.file(f"{STATE}/training_info.json")
    assert reason(box, STATE, seconds=1e6) == expected


INDEX = {"model.embed": "model-a.safetensors", "model.head": "model-b.safetensors", "far": "../x/model-c.safetensors"}
INDEXES: list[tuple[object, list[str] | None, str | None]] = [
    ({"weight_map": INDEX}, ["model-a.safetensors", "model-b.safetensors", "config.json"], None),
    ({"weight_map": INDEX}, ["model-a.safetensors"], "1 of the 2 files that it names are not there"),
    ({"weight_map": INDEX}, None, None),
    ({"weight_map": {}}, [], None),
    ({"weight_map": {"a": 1}}, [], "its index of shards can't be read"),
    ({"weight_map": {"a": ["x"]}}, [], "its index of shards can't be read"),
    ({"weight_map": 7}, [], "its index of shards can't be read"),
    ([], [], "its index of shards can't be read"),
]


@pytest.mark.parametrize(("content", "beside", "expected"), INDEXES)
def test_an_index_is_held_against_what_is_there(
    content: object, beside: list[str] | None, expected: str | None
) -> None:
    """Whatever its files are called; where nobody says what is there, it is taken as it is."""
    raw = json.dumps(content).encode()
    try:
        check_content("model.safetensors.index.json", raw, len(raw), beside)
        found = None
    except InvalidFacts as e:
        found = str(e)
    assert found == expected


@pytest.mark.parametrize("exclude", [(), ("*.safetensors",)])
def test_an_index_is_planned_with_its_neighbours(exclude: tuple[str, ...]) -> None:
    """But where the operator leaves out files, an index names what nobody wants."""
    box, home = Box(), Home(Selection(exclude=exclude))
    box.add_run()
    final = f"{RUN}/training_state/step_final"
    for name in ("model/m.safetensors", "model/m.safetensors.index.json", "optimizer.pt", "training_info.json"):
        box.file(f"{final}/{name}")
    home.learn(box)
    (index,) = [
        file for group in home.plan(box).groups for file in group.files if file.source.path.name.endswith("index.json")
    ]
    assert index.beside == (None if exclude else {"m.safetensors", "m.safetensors.index.json"})


@pytest.mark.parametrize(
    "name", ["metrics.csv", "config.yaml", "eval_config.yaml", "adapter_config.json", "ratios.jsonl"]
)
def test_text_of_zero_bytes_is_not_content_yet(name: str) -> None:
    """It has its length, and nothing in it; a file without a byte is what it is."""
    with pytest.raises(InvalidFacts, match="zero bytes"):
        check_content(name, bytes(400), 400)
    with pytest.raises(InvalidFacts, match="zero bytes"):
        check_content(name, b"a: 1\n" + bytes(16) + b"b: 2\n", 26)
    for whole in (b"", b"a\0", "a: \N{LATIN CAPITAL LETTER A WITH MACRON}\n".encode("utf-32"), b"\0" * 15 + b"a"):
        check_content(name, whole, len(whole))


def test_only_what_was_long_unchanged_comes_as_it_is() -> None:
    """Content that its checksums contradict waits until nothing can be writing it; where a host ends, not at all."""
    box, home = Box(), Home(settle=SETTLE)
    box.add_run()
    box.file(f"{RUN}/training_state/step_final/optimizer.pt", age=2.0)
    box.file(f"{RUN}/training_state/step_final/training_info.json", age=1.0)
    home.learn(box)

    def as_is(seconds: float) -> dict[str, bool]:
        groups = home.plan(box, seconds).groups
        return {file.source.path.name: file.as_is for group in groups for file in group.files if group.value > 0}

    assert as_is(50.0)["optimizer.pt"] is False
    assert as_is(70.0)["optimizer.pt"] is True
    assert as_is(70.0)["training_info.json"] is False
    home.settle = NO_TIME
    assert as_is(0.0)["optimizer.pt"] is True
