"""Everything that is known goes to disk and comes back, whatever bytes and numbers a box made it of."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace
from sqlalchemy import text

from harvestd import failpoints
from harvestd.catalogue import queries
from harvestd.catalogue.engine import reading as stored
from harvestd.catalogue.entries import HostRecord, Transfer
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.repository import Catalogue
from harvestd.catalogue.restore import RestoredRecords
from harvestd.catalogue.state_dir import InconsistentRows
from harvestd.convention.kinds import Finetuned, Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.scan.snapshot import Version
from harvestd.errors import DiskFull
from harvestd.planning.records import EvalLink, ExperimentRecord, FileRecord, RunRecord
from support.history import loaded

pytestmark = pytest.mark.anyio

NAME = ExperimentName(
    Part("gns_test", "naming rule 1"),
    Part("2025-08-20", "run directory"),
    Part("qwen2_5_1_5b", "config.yaml backbone"),
    Part("h100", "host entry gpu-a"),
    Part("64", "config.yaml total_steps (provisional)"),
)
EXPERIMENT = ExperimentRecord("e1", NAME, moved_to="exp")
ODD = "caf\udcff\udce9\n\x1b[31mé😀"
"""A name with bytes that are no UTF-8, beside a newline, an escape and more than one plane."""
RUN = RunRecord(
    id="r1",
    storage="fs-1",
    place=f"/data/{ODD}/run_2025-08-20_03-31-43",
    host="gpu-a",
    name="run_2025-08-20_03-31-43",
    config=ConfigFacts("Qwen/Qwen2.5-1.5B", "qwen2_5_15", 64, "gsm8k", gns_probe=True),
    config_version=Version(2000, -1, 2**63 - 1, 2**64 - 1),
    experiment="e1",
    final=TrainingInfo(64, None, 8),
    final_version=Version(900, 5, 6, 7),
    tunings=frozenset({Finetuned("qwen\udcff", "gsm8k"), Finetuned("a", "math")}),
    step=63,
    seconds_left=12.5,
    base_model="Qwen/Qwen2.5-1.5B",
    writer="node\udcff",
    identity="i-1",
)
FILE = FileRecord(
    storage="fs-1",
    place=f"/data/{ODD}/metrics.csv",
    target=LocalPath(("exp", ODD, "metrics.csv")),
    host="gpu-a",
    experiment="e1",
    kind=Kind.METRICS,
    version=Version(1200, -(2**63), 2**63 - 1, 2**64 - 1),
    size=1200,
    sha256="0" * 64,
    fetched_at=1755700000.25,
    reason=f"its name is {ODD}",
    marker=True,
)


@contextmanager
def opened(directory: Path) -> Iterator[Catalogue]:
    """Open the catalogue of a data root, and close it."""
    with closing(open_catalogue(directory, "root-1")) as catalogue:
        yield catalogue


async def test_an_experiment_comes_back(tmp_path: Path) -> None:
    """With the source of each part of its name, and its directory taken."""
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
    with opened(tmp_path) as catalogue:
        assert catalogue.knowledge.experiment("e1") == EXPERIMENT
        assert catalogue.knowledge.is_directory_taken(EXPERIMENT.directory.upper())
    with stored(tmp_path) as connection:
        assert connection is not None
        assert queries.experiments(connection) == {"e1": EXPERIMENT}


@pytest.mark.parametrize(
    "run", [RUN, replace(RUN, final=None, final_version=None, experiment=None, step=None, tunings=frozenset())]
)
async def test_a_run_comes_back(tmp_path: Path, run: RunRecord) -> None:
    """With its facts, its place in any bytes, and numbers of 64 bits."""
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, replace(RUN, id="r0", place="/elsewhere"))
        await catalogue.add_run(run)
        changed = await catalogue.change_run(run.key, lambda now: replace(now, step=64))
        assert changed == replace(run, step=64, row_version=1)
    with opened(tmp_path) as catalogue:
        assert catalogue.knowledge.run_at(run.storage, run.place) == changed
    with stored(tmp_path) as connection:
        assert connection is not None
        assert changed in queries.runs(connection)


async def test_a_discovery_is_known_once_it_is_written(tmp_path: Path) -> None:
    """What is not on disk is in no plan; the directory's name is taken from the beginning."""
    with opened(tmp_path) as catalogue:
        saving = catalogue.save_discovery(EXPERIMENT, RUN)
        try:
            saving.send(None)
        except StopIteration:
            pytest.fail("it never waited for the disk")
        assert catalogue.knowledge.run_at(RUN.storage, RUN.place) is None
        assert catalogue.knowledge.is_directory_taken(EXPERIMENT.directory)
        saving.close()
        assert not catalogue.knowledge.is_directory_taken(EXPERIMENT.directory)


async def test_a_discovery_that_can_not_be_written_is_none(tmp_path: Path) -> None:
    """With a full disk at that moment nothing of it is known, so that it is made again when there is room."""

    def full() -> None:
        raise DiskFull("no room")

    with opened(tmp_path) as catalogue:
        with failpoints.armed("catalogue.changed", full), pytest.raises(DiskFull):
            await catalogue.save_discovery(EXPERIMENT, RUN)
        assert not catalogue.knowledge.runs()
        assert not catalogue.knowledge.experiments()
        assert not catalogue.knowledge.is_directory_taken(EXPERIMENT.directory)
        with pytest.raises(InconsistentRows):
            await catalogue.add_run(RUN)
        with pytest.raises(InconsistentRows):
            await catalogue.save_files([FILE])
        with pytest.raises(InconsistentRows):
            await catalogue.save_experiment(EXPERIMENT)
        await catalogue.save_discovery(EXPERIMENT, RUN)
    with opened(tmp_path) as catalogue:
        assert catalogue.knowledge.runs() == [RUN]
        assert catalogue.knowledge.experiments() == [EXPERIMENT]


async def test_two_changes_of_a_run_at_a_time_are_both_made(tmp_path: Path) -> None:
    """Hosts of one storage learn different things of a run: none writes back what it read before the other's change."""
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(catalogue.change_run, RUN.key, lambda run: replace(run, step=70))
            tasks.start_soon(catalogue.change_run, RUN.key, lambda run: replace(run, writer="node-1"))
            tasks.start_soon(catalogue.change_run, RUN.key, lambda run: replace(run, head="1" * 64))
        expected = replace(RUN, step=70, writer="node-1", head="1" * 64, row_version=3)
        assert catalogue.knowledge.runs() == [expected]
        assert await catalogue.change_run(("fs-9", "/nowhere"), lambda run: run) is None
    with opened(tmp_path) as catalogue:
        assert catalogue.knowledge.runs() == [expected]


async def test_a_change_of_an_old_record_is_refused(tmp_path: Path) -> None:
    """Two processes read one row: the second one that writes it back does not undo the first one's change."""
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
    with opened(tmp_path) as catalogue, opened(tmp_path) as other:
        changed = replace(EXPERIMENT, aliases=("a",))
        await catalogue.save_experiment(changed)
        await catalogue.change_run(RUN.key, lambda run: replace(run, step=70))
        newest = catalogue.knowledge.experiment("e1")
        late: list[Callable[[], Awaitable[object]]] = [
            partial(other.save_experiment, EXPERIMENT),
            partial(other.move_experiment, replace(EXPERIMENT, moved_to="b")),
            partial(other.record_gone, EXPERIMENT),
            partial(other.change_run, RUN.key, partial(replace, writer="node-1")),
            partial(other.move_run, RUN.key, partial(replace, place="/elsewhere")),
            partial(catalogue.save_experiment, changed),
        ]
        for each in late:
            with pytest.raises(InconsistentRows):
                await each()
        assert other.knowledge.experiments() == [EXPERIMENT]
        assert other.knowledge.runs() == [RUN]
    with opened(tmp_path) as catalogue:
        assert catalogue.knowledge.experiments() == [newest] == [replace(changed, row_version=1)]
        assert catalogue.knowledge.runs() == [replace(RUN, step=70, row_version=1)]


async def test_directories_that_differ_in_case_only_are_restored(tmp_path: Path) -> None:
    """A person made the first of them; a new experiment gets neither name."""
    by_hand = ExperimentRecord("e0", NAME, moved_to=EXPERIMENT.directory.upper())
    with opened(tmp_path) as catalogue:
        await catalogue.restoring.restore(RestoredRecords([by_hand, EXPERIMENT], [RUN]))
        twin = replace(RUN, id="r2", place="/2", experiment="e2")
        with pytest.raises(InconsistentRows):
            await catalogue.save_discovery(replace(EXPERIMENT, id="e2", moved_to="Exp"), twin)
    with opened(tmp_path) as catalogue:
        assert {each.directory for each in catalogue.knowledge.experiments()} == {"exp", "EXP"}
        assert not catalogue.restoring.is_pending


async def test_a_directory_gets_its_own_name_back_beside_one_that_differs_in_case(tmp_path: Path) -> None:
    """A person gave another directory this name in capitals meanwhile, which no record may be refused for."""
    own, other = replace(EXPERIMENT, moved_to="aside"), ExperimentRecord("e2", NAME, moved_to="other")
    shouted = replace(other, moved_to=NAME.directory.upper())
    with opened(tmp_path) as catalogue:
        await catalogue.restoring.restore(RestoredRecords([own, other], [RUN]))
        await catalogue.move_experiment(shouted)
        await catalogue.move_experiment(replace(own, moved_to=None))
        await catalogue.save_experiment(replace(own, moved_to=None, aliases=("aside",), row_version=1))
    with opened(tmp_path) as catalogue:
        found = {each.directory for each in catalogue.knowledge.experiments()}
        assert found == {NAME.directory, NAME.directory.upper()}
        twin = replace(EXPERIMENT, id="e3", moved_to=NAME.directory.title())
        with pytest.raises(InconsistentRows):
            await catalogue.save_discovery(twin, replace(RUN, id="r3", place="/3", experiment="e3"))


async def test_a_discovery_is_written_as_one(tmp_path: Path) -> None:
    """Experiment and run are on disk together: a crash in between can't leave a directory that nobody owns."""
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
    with opened(tmp_path) as catalogue:
        assert catalogue.knowledge.runs() == [RUN]
        assert catalogue.knowledge.experiments() == [EXPERIMENT]


async def test_a_file_comes_back(tmp_path: Path) -> None:
    """Under the same target, with every number and byte as it was; a newer record replaces the older."""
    newer = replace(FILE, version=replace(FILE.version, size=1300), size=1300, sha256="1" * 64, marker=False)
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        await catalogue.save_files([FILE])
        assert catalogue.knowledge.holder(FILE.target) == FILE
    with opened(tmp_path) as catalogue:
        assert (await loaded(catalogue)).copies(FILE.storage, FILE.place) == [FILE]
        await catalogue.save_files([newer])
    with stored(tmp_path) as connection:
        assert connection is not None
        assert queries.file_at(connection, str(FILE.target)) == newer
        assert queries.files_from(connection, FILE.place) == [newer]
        assert queries.files_of(connection, "e1") == [newer]
        assert queries.holdings(connection) == {"e1": queries.Holding(1, 1300, 1, FILE.fetched_at)}


async def test_numbers_beyond_64_bits_do_not_stop_the_catalogue(tmp_path: Path) -> None:
    """A box that lies about sizes and times gets the nearest number, and nobody is halted for it."""
    lying = replace(FILE, version=Version(2**70, 2**63, -(2**64), 2**64))
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        await catalogue.save_files([lying])
        await catalogue.left_out.save("gpu-a", "i-gpu-a", {None: (LeftOut("/x", 2**65, 1, "lies"),)})
        await catalogue.restoring.restore(
            RestoredRecords(left_out=[("gpu-b", None, LeftOut("/y", 2**65, 2**65, "lies"))])
        )
        await catalogue.hosts.save(HostRecord("gpu-a", "i-gpu-a", "192.0.2.1", "connected", pending_bytes=2**64))
    with stored(tmp_path) as connection:
        assert connection is not None
        assert [host.pending_bytes for host in queries.hosts(connection)] == [2**63 - 1]
    with opened(tmp_path) as catalogue:
        (found,) = (await loaded(catalogue)).copies(lying.storage, lying.place)
        assert (found.version.size, found.version.mtime_ns) == (2**63 - 1, 2**63 - 1)


async def test_a_rename_of_a_directory_changes_no_row_of_a_file(tmp_path: Path) -> None:
    """However many files and links are in it: they are recorded below it."""

    def rows(catalogue: Catalogue) -> list[object]:
        with catalogue.database.engine.connect() as connection:
            return [connection.execute(text(f"SELECT * FROM {table}")).all() for table in ("files", "links")]  # noqa: S608

    link = LocalPath(("exp", "training_run", "step_latest"))
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        await catalogue.save_files([FILE])
        await catalogue.save_link(link, "step_40")
        before = rows(catalogue)
        await catalogue.move_experiment(replace(EXPERIMENT, moved_to=ODD))
        assert rows(catalogue) == before
        moved = replace(FILE, target=LocalPath((ODD, *FILE.target[1:])))
        assert catalogue.knowledge.files_of("e1") == [moved]
    with opened(tmp_path) as catalogue:
        assert await catalogue.files.files_of("e1") == [moved]
        assert await catalogue.files.holder(moved.target) == moved
        assert await catalogue.files.holder(FILE.target) is None
        assert catalogue.knowledge.link_at(LocalPath((ODD, *link[1:]))) == "step_40"
        assert catalogue.knowledge.link_at(link) is None


async def test_a_moved_file_stands_elsewhere(tmp_path: Path) -> None:
    """The old place is free, the new one is taken; in memory and on disk."""
    moved = replace(FILE, target=LocalPath(("exp", "metrics.csv")))
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        await catalogue.save_files([FILE])
        await catalogue.save_files([moved], gone=[FILE])
        assert catalogue.knowledge.copies(FILE.storage, FILE.place) == [moved]
    with opened(tmp_path) as catalogue:
        assert (await loaded(catalogue)).copies(FILE.storage, FILE.place) == [moved]
        assert catalogue.knowledge.holder(FILE.target) is None


async def test_an_intent_stands_until_it_is_fulfilled(tmp_path: Path) -> None:
    """What was about to be published survives a crash, in any bytes; what is settled goes, whatever became of it."""
    second = replace(FILE, target=LocalPath(("exp", "b")))
    third = replace(FILE, target=LocalPath(("exp", "c")), experiment=None)
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        await catalogue.intend([FILE, second])
        await catalogue.intend([third])
    with opened(tmp_path) as catalogue:
        first, last = await catalogue.intents()
        assert (first.files, last.files) == ((FILE, second), (third,))
        assert catalogue.knowledge.holder(FILE.target) is None
        await catalogue.save_files([second], [first])
        assert await catalogue.intents() == [last]
        await catalogue.save_files([], [last])
        assert await catalogue.intents() == []
        assert catalogue.knowledge.holder(second.target) == second


async def test_thousands_of_intents_are_settled_at_once(tmp_path: Path) -> None:
    """A checkpoint of very many files, and very many intents, are no more than a database takes in one statement."""
    files = [replace(FILE, target=LocalPath(("exp", str(i)))) for i in range(40_000)]
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        intents = [await catalogue.intend(files), *[await catalogue.intend([FILE]) for _ in range(600)]]
        await catalogue.save_files(files[:20_000], intents)
        assert await catalogue.intents() == []
        assert len(catalogue.knowledge.files_of("e1")) == 20_000
        await catalogue.transfers.drop([str(i) for i in range(40_000)])


async def test_a_link_comes_back(tmp_path: Path) -> None:
    """The last target that was recorded counts."""
    path = LocalPath(("exp", ODD))
    with opened(tmp_path) as catalogue:
        await catalogue.save_link(path, "step_40")
        await catalogue.save_link(path, "step_final")
    with opened(tmp_path) as catalogue:
        assert catalogue.knowledge.link_at(path) == "step_final"


async def test_an_eval_link_comes_back(tmp_path: Path) -> None:
    """With the version it was read from, one that names no run as well."""
    link = EvalLink("fs-1", f"/data/{ODD}/eval_config.yaml", Version(1, 2, 3, 2**64 - 1), "run_2025-08-20_03-31-43")
    empty = replace(link, place="/data/b", training_run=None)
    with opened(tmp_path) as catalogue:
        await catalogue.save_eval_links([replace(link, training_run="other")])
        await catalogue.save_eval_links([link, empty])
        await catalogue.save_eval_links([])
    with opened(tmp_path) as catalogue:
        assert catalogue.knowledge.eval_link(link.storage, link.place) == link
        assert catalogue.knowledge.eval_link(empty.storage, empty.place) == empty


async def test_a_transfer_goes_on_after_a_restart(tmp_path: Path) -> None:
    """The bytes that are surely on disk are known until the transfer is done."""
    first, other = Transfer("transfer-1", "fs-1", f"/data/{ODD}", 64), Transfer("transfer-2", "fs-1", "/b", 1)
    with opened(tmp_path) as catalogue:
        await catalogue.transfers.save(first)
        await catalogue.transfers.save(replace(first, synced=128))
        await catalogue.transfers.save(other)
    with opened(tmp_path) as catalogue:
        assert await catalogue.transfers.all() == [replace(first, synced=128), other]
        await catalogue.transfers.drop([])
        await catalogue.transfers.drop(["transfer-1", "never"])
        assert await catalogue.transfers.all() == [other]


async def test_a_host_is_remembered_as_it_was_last_seen(tmp_path: Path) -> None:
    """What a new sight does not say stays: the method, and when it last went well."""
    with opened(tmp_path) as catalogue:
        await catalogue.hosts.save(HostRecord("gpu-a", "i-1", "192.0.2.1", "connected", "probe", 1000.0))
        await catalogue.hosts.save(HostRecord("gpu-a", "i-1", "192.0.2.9", "lost", error=f"no answer {ODD}"))
    with stored(tmp_path) as connection:
        assert connection is not None
        (host,) = queries.hosts(connection)
        assert (host.address, host.state, host.method, host.last_success) == ("192.0.2.9", "lost", "probe", 1000.0)
        assert host.error == f"no answer {ODD}"


async def test_a_host_that_gets_another_name_is_one_host(tmp_path: Path) -> None:
    """What was known of it under the old name goes on under the new one; a namesake takes nothing over."""
    with opened(tmp_path) as catalogue:
        await catalogue.hosts.save(HostRecord("gpu-a", "i-1", "192.0.2.1", "connected", "probe", 1000.0))
        await catalogue.hosts.save(HostRecord("trainer", "i-1", "192.0.2.1", "lost"))
        await catalogue.hosts.save(HostRecord("gpu-a", "i-2", "192.0.2.2", "connected"))
    with stored(tmp_path) as connection:
        assert connection is not None
        first, second = queries.hosts(connection)
        assert (first.name, first.identity, first.last_success) == ("gpu-a", "i-2", None)
        assert (second.name, second.identity, second.method, second.last_success) == ("trainer", "i-1", "probe", 1000.0)


async def test_a_key_is_pinned_until_it_is_forgotten(tmp_path: Path) -> None:
    """The first key stays, whatever is put after it; a command can drop it."""
    assert not queries.forget_key(tmp_path, "i-1")
    with opened(tmp_path) as catalogue:
        assert await catalogue.get("i-1") is None
        await catalogue.put("i-1", "ssh-ed25519 AAAA")
        await catalogue.put("i-1", "ssh-ed25519 BBBB")
        assert await catalogue.get("i-1") == "ssh-ed25519 AAAA"
        assert queries.forget_key(tmp_path, "i-1")
        assert not queries.forget_key(tmp_path, "i-1")
        assert await catalogue.get("i-1") is None


LINES = {
    "e1": (LeftOut(f"/data/{ODD}", None, 3, f"its place is taken by gpu-a:/data/{ODD}"), LeftOut("/b", 5, 1, "rule")),
    None: (LeftOut("/c", 0, 1, "a link: never followed"),),
}


async def test_what_is_left_out_is_remembered(tmp_path: Path) -> None:
    """By host and experiment, in its order, after a restart as well: a host that is gone stays in its manifests."""
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        assert await catalogue.left_out.save("gpu-a", "i-gpu-a", LINES)
        assert not await catalogue.left_out.save("gpu-a", "i-gpu-a", dict(LINES))
    with opened(tmp_path) as catalogue:
        assert catalogue.left_out.of("e1") == [("gpu-a", each) for each in LINES["e1"]]
        assert not await catalogue.left_out.save("gpu-a", "i-gpu-a", LINES)
        assert not await catalogue.left_out.save("gpu-a", "i-gpu-a", {**LINES, "e2": ()})
    with stored(tmp_path) as connection:
        assert connection is not None
        assert queries.left_out_of(connection, "e1") == [("gpu-a", LINES["e1"][1]), ("gpu-a", LINES["e1"][0])]
        assert queries.left_out_at(connection, "/c") == [("gpu-a", LINES[None][0])]
        assert queries.left_out_at(connection, "/c/below/it") == [("gpu-a", LINES[None][0])]
        assert queries.left_out_at(connection, "/cc") == []


async def test_what_is_left_out_is_replaced_by_experiment(tmp_path: Path) -> None:
    """Only the lines of what changed are written anew; other hosts and experiments keep theirs."""
    with opened(tmp_path) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        other = replace(RUN, id="r2", place="/2", experiment="e2")
        await catalogue.save_discovery(ExperimentRecord("e2", NAME), other)
        await catalogue.left_out.save("gpu-a", "i-gpu-a", {**LINES, "e2": LINES["e1"]})
        await catalogue.left_out.save("gpu-b", "i-gpu-b", LINES)
        assert await catalogue.left_out.save("gpu-a", "i-gpu-a", {"e1": LINES["e1"][:1], "e2": LINES["e1"]})
    with opened(tmp_path) as catalogue:
        assert catalogue.left_out.of("e1") == [
            ("gpu-a", LINES["e1"][0]),
            *[("gpu-b", each) for each in LINES["e1"]],
        ]
        assert len(catalogue.left_out.of("e2")) == 2
        with catalogue.database.engine.connect() as connection:
            rows = connection.execute(text("SELECT host FROM left_out WHERE experiment_id IS NULL")).scalars().all()
        assert rows == ["gpu-b"]
