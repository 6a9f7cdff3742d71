"""Whether two storages show one run."""

import pytest

from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Version
from harvestd.planning.identity import (
    NO_LOG,
    Fingerprint,
    Undecidable,
    head_of,
    is_part,
    leader,
    principal,
    same_run_elsewhere,
    views_of,
)
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord

NAME = "run_2025-08-20_03-31-43"


def record(storage: str, *, config: str = "c", head: str | None = "h", experiment: str = "e1") -> RunRecord:
    """Return the record of a run as one storage shows it."""
    return RunRecord(
        id=storage,
        storage=storage,
        place=f"/data/{NAME}",
        host=f"host of {storage}",
        name=NAME,
        config=ConfigFacts(),
        config_version=Version(1, 1),
        experiment=experiment,
        config_hash=config,
        head=head,
    )


def knowing(*records: RunRecord) -> PlanningIndex:
    """Return what is known."""
    knowledge = PlanningIndex()
    for number, each in enumerate(records):
        part = Part(str(number), "a test")
        knowledge.add_experiment(ExperimentRecord(each.experiment or "", ExperimentName(part, part, part, part, part)))
        knowledge.add_run(each)
    return knowledge


def log_from(storage: str, knowledge: PlanningIndex) -> FileRecord:
    """Return the log of the experiment e1 as one storage's host brought it."""
    place = (knowledge.experiment("e1").directory, "training_run", "logs", "train_log.jsonl")
    return FileRecord(
        storage=storage,
        place=f"/data/{NAME}/logs/train_log.jsonl",
        target=LocalPath(place),
        host=f"host of {storage}",
        experiment="e1",
        kind=Kind.TRAIN_LOG,
        version=Version(5, 1),
        size=5,
        sha256="0" * 64,
        fetched_at=0.0,
        reason="train_log is always wanted",
    )


@pytest.mark.parametrize(
    ("known", "seen", "connected_storages", "answer"),
    [
        (record("a"), Fingerprint("c", "h"), {"a"}, "same"),
        (record("a"), Fingerprint("c", "h"), set(), "same"),
        (record("a"), Fingerprint("c", "other"), {"a"}, "own"),
        (record("a"), Fingerprint("other", "h"), {"a"}, "own"),
        (record("a"), Fingerprint("other", None), {"a"}, "own"),
        (record("a"), Fingerprint("c", None), {"a"}, "waits"),
        (record("a"), Fingerprint("c", None), set(), "waits"),
        (record("a", head=None), Fingerprint("c", "h"), {"a"}, "waits"),
        (record("a", head=None), Fingerprint("c", "h"), set(), "own"),
        (record("a", head=None), Fingerprint("c", None), {"a"}, "waits"),
        (record("b"), Fingerprint("c", "h"), {"a"}, "own"),
    ],
)
def test_two_keys_are_one_run(known: RunRecord, seen: Fingerprint, connected_storages: set[str], answer: str) -> None:
    """Only where config and first line agree; without a line the later one waits, but not for a host that is gone."""
    found = same_run_elsewhere(NAME, "b", seen, knowing(known), connected_storages)
    expected = {"same": known, "own": None, "waits": Undecidable(known)}
    assert found == expected[answer]


WAITS = "waits"


@pytest.mark.parametrize(
    ("known", "seen", "answer"),
    [
        ([record("a")], NO_LOG, "a"),
        ([], NO_LOG, None),
        ([record("a", config="other")], NO_LOG, None),
        ([record("b")], NO_LOG, None),
        ([record("a", head=None)], NO_LOG, WAITS),
        ([record("a", head=NO_LOG)], NO_LOG, WAITS),
        ([record("a"), record("c", head=NO_LOG)], NO_LOG, "a"),
        ([record("a", head=NO_LOG), record("c")], NO_LOG, "c"),
        ([record("a"), record("c", head="h")], NO_LOG, "a"),
        ([record("a"), record("c", head="other", experiment="e2")], NO_LOG, WAITS),
        ([record("a"), record("c", head=None, experiment="e2")], NO_LOG, WAITS),
        ([record("a", head=NO_LOG)], "h", "a"),
        ([record("a", head=NO_LOG)], None, WAITS),
        ([record("a", head=NO_LOG, config="other")], "h", None),
        ([record("a", head=NO_LOG), record("c", head="other")], "h", None),
        ([record("a", head=NO_LOG), record("c")], "h", "c"),
        ([record("a", head=NO_LOG), record("c", head=NO_LOG, experiment="e2")], "h", None),
    ],
)
def test_directory_without_a_log_is_a_part_of_the_only_run_it_may_be_of(
    known: list[RunRecord], seen: str | None, answer: str | None
) -> None:
    """Nothing is joined where there are several such runs; what was seen before the log waits for it, or is joined."""
    found = same_run_elsewhere(NAME, "b", Fingerprint("c", seen), knowing(*known), {"a", "c"})
    if answer == WAITS:
        assert isinstance(found, Undecidable)
    else:
        assert (found and found.storage) == answer  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("heads", "log", "named_by", "parts", "views"),
    [
        ({"a": "h"}, None, "a", "", "a"),
        ({"a": "h", "b": NO_LOG}, None, "a", "b", "a"),
        ({"a": NO_LOG, "b": "h"}, None, "b", "a", "a"),
        ({"a": NO_LOG, "b": "h"}, "b", "b", "a", "a"),
        ({"a": "h", "b": "h"}, "b", "b", "", "ab"),
        ({"a": "h", "b": NO_LOG, "c": "h", "d": NO_LOG}, "c", "c", "bd", "ac"),
        ({"a": "h", "b": "other"}, "a", "a", "b", "a"),
        ({"a": NO_LOG}, None, "a", "", "a"),
    ],
)
def test_the_disk_with_the_log_names_the_run(
    heads: dict[str, str], log: str | None, named_by: str, parts: str, views: str
) -> None:
    """Parts are no views: each is brought by its own host, whichever of them was seen first."""
    records = [record(storage, head=head) for storage, head in heads.items()]
    knowledge = knowing(*records)
    if log is not None:
        knowledge.add_file(log_from(log, knowledge))
    assert {principal(each, knowledge).storage for each in records} == {named_by}
    assert "".join(each.storage for each in records if is_part(each, knowledge)) == parts
    assert "".join(each.storage for each in views_of(records[0], knowledge)) == views
    for each in records:
        if is_part(each, knowledge):
            assert leader(each, knowledge, set(heads)) is None


def test_the_first_that_is_there_leads() -> None:
    """Whoever was seen first brings a run home, as long as its host is connected."""
    first, second, third = (record(storage) for storage in "abc")
    knowledge = knowing(first, second, third)
    assert leader(first, knowledge, {"b", "c"}) is None
    assert leader(second, knowledge, {"a", "c"}) == first
    assert leader(second, knowledge, {"c"}) is None
    assert leader(third, knowledge, {"b"}) == second


def test_who_carried_a_run_on_keeps_it() -> None:
    """The first one is back: it leaves the run to the one that goes on with its log, until that one is gone."""
    first, second, third = (record(storage) for storage in "abc")
    knowledge = knowing(first, second, third)
    knowledge.add_file(log_from("b", knowledge))
    assert leader(second, knowledge, {"a", "c"}) is None
    assert leader(first, knowledge, {"b", "c"}) == second
    assert leader(third, knowledge, {"a", "b"}) == second
    assert leader(first, knowledge, {"c"}) is None


@pytest.mark.parametrize(
    ("beginning", "whole"), [(b"", False), (b"one", False), (b"one\n", True), (b"one\ntwo", True), (b"\n", True)]
)
def test_only_a_whole_line_counts(beginning: bytes, *, whole: bool) -> None:
    """A line that has no end yet may become another one."""
    assert (head_of(beginning) is not None) == whole
    assert head_of(b"one\n") == head_of(b"one\ntwo\n") != head_of(b"two\n")
