"""What is read while the first look still comes in: which files, how many, and what is made of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.model import Source
from harvestd.convention.scan.snapshot import Entry, EntryType, Snapshot, Tree, TreeKind, Version
from harvestd.convention.scan.training import described_run
from harvestd.errors import HostQuarantined, Retry
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.host.indexed import EarlyReads
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import RunRecord
from harvestd.remote.api import Chunk, Closed, Failed, OnPartialScan, Opened, ReadEvent, ReadRequest

TRAINING = Tree("/r", "training_runs", TreeKind.TRAINING)
EVALS = Tree("/r", "eval_runs", TreeKind.EVAL)
RUN = "run_2025-08-20_03-00-00"
VERSION = Version(2, 1)
WHOLE = Snapshot((), 0)


@pytest.mark.parametrize(
    ("path", "run"),
    [
        (f"{RUN}/config.yaml", RUN),
        (f"{RUN}/logs/train_log.jsonl", RUN),
        (f"{RUN}/training_state/step_final/training_info.json", RUN),
        (f"group/{RUN}/config.yaml", f"group/{RUN}"),
        (f"{RUN}/training_state/step_10/training_info.json", None),
        (f"{RUN}/logs/config.yaml", None),
        (f"{RUN}/train_log.jsonl", None),
        ("notes/config.yaml", None),
        ("config.yaml", None),
        (RUN, None),
    ],
)
def test_files_that_say_what_a_run_is(path: str, run: str | None) -> None:
    """They are those that the convention reads before it names a run."""
    assert described_run(RemotePath.parse(path)) == (RemotePath.parse(run) if run else None)


class Reader:
    """Answers each file with its name's length in bytes of x, and keeps what it was asked for."""

    hashes_there = True

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self.error = error
        self.answered = anyio.Event()

    @asynccontextmanager
    async def reading(self, requests: Sequence[ReadRequest]) -> AsyncIterator[AsyncIterator[ReadEvent]]:
        """Answer."""
        self.asked += [str(request.path) for request in requests]
        if self.error:
            raise self.error
        yield self._answers(requests)
        self.answered.set()

    async def _answers(self, requests: Sequence[ReadRequest]) -> AsyncIterator[ReadEvent]:
        for request in requests:
            if "vanished" in str(request.path):
                yield Failed(request, "vanished", vanished=True)
                continue
            yield Opened(request, VERSION)
            yield Chunk(b"xx")
            yield Closed(request, VERSION, None)


def config(run: str = RUN, version: Version = VERSION) -> Entry:
    """Return a config.yaml as a look shows it."""
    return Entry(RemotePath((run, "config.yaml")), EntryType.FILE, version)


def source(entry: Entry) -> Source:
    """Return the file of an entry."""
    return Source(TRAINING, entry.path, entry.version)


@pytest.mark.anyio
async def test_read_before_the_look_is_whole() -> None:
    """The first piece's config.yaml is read while the rest is on its way; it is given once."""
    reader = Reader()
    partial_scans = EarlyReads(reader, PlanningIndex(), "s", FailureTracker("gpu-a"))

    async def scan(on_partial: OnPartialScan) -> Snapshot:
        on_partial(TRAINING, [config(), Entry(RemotePath((RUN, "other")), EntryType.FILE, VERSION)])
        with anyio.fail_after(60):
            await reader.answered.wait()
        on_partial(EVALS, [config("run_2025-08-20_03-00-01")])
        return WHOLE

    assert await partial_scans.beside(scan) is WHOLE
    assert reader.asked == [f"{RUN}/config.yaml"]
    assert partial_scans.taken() == {source(config()): b"xx"}
    assert not partial_scans.taken()


@pytest.mark.anyio
async def test_what_came_last_is_waited_for() -> None:
    """What the last piece shows is read too; what vanished meanwhile, or was replaced, is not given."""
    reader = Reader()
    partial_scans = EarlyReads(reader, PlanningIndex(), "s", FailureTracker("gpu-a"))
    replaced = config("run_2025-08-20_03-00-02", Version(2, 7))

    async def scan(on_partial: OnPartialScan) -> Snapshot:
        on_partial(TRAINING, [config(), config("run_2025-08-20_03-00-01_vanished"), replaced])
        return WHOLE

    await partial_scans.beside(scan)
    assert len(reader.asked) == 3
    assert partial_scans.taken() == {source(config()): b"xx"}


@pytest.mark.anyio
async def test_known_runs_and_links_are_left_alone() -> None:
    """A run on record is not read again, nor is anything that is no regular file."""
    knowledge = PlanningIndex()
    knowledge.add_run(RunRecord("1", "s", f"/r/training_runs/{RUN}", "gpu-a", RUN, ConfigFacts(), VERSION))
    reader = Reader()
    partial_scans = EarlyReads(reader, knowledge, "s", FailureTracker("gpu-a"))
    link = Entry(RemotePath(("run_2025-08-20_03-00-01", "config.yaml")), EntryType.LINK, VERSION, "elsewhere")

    async def scan(on_partial: OnPartialScan) -> Snapshot:
        on_partial(TRAINING, [config(), link])
        return WHOLE

    await partial_scans.beside(scan)
    assert not reader.asked


@pytest.mark.anyio
async def test_no_more_than_can_be_held() -> None:
    """A box that shows runs without end is read a few of, in however many pieces it shows them."""
    reader = Reader()
    partial_scans = EarlyReads(reader, PlanningIndex(), "s", FailureTracker("gpu-a"))

    async def scan(on_partial: OnPartialScan) -> Snapshot:
        for day in range(10, 30):
            on_partial(TRAINING, [config(f"run_2025-08-{day}_03-{minute}-00") for minute in range(10, 60)])
        return WHOLE

    await partial_scans.beside(scan)
    assert len(reader.asked) == len(partial_scans.taken()) == 256


@pytest.mark.anyio
async def test_a_lost_link_is_lost_for_the_look() -> None:
    """Whichever of the two notices it: the error comes by itself."""
    partial_scans = EarlyReads(Reader(Retry("gone")), PlanningIndex(), "s", FailureTracker("gpu-a"))

    async def scan(on_partial: OnPartialScan) -> Snapshot:
        on_partial(TRAINING, [config()])
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.fail_after(60), pytest.raises(Retry, match="gone"):
        await partial_scans.beside(scan)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [Retry("gone"), HostQuarantined("it lies")])
async def test_a_reading_that_fails_is_the_error_of_the_look(error: Exception) -> None:
    """The scan goes on over what has arrived and shows more runs: the reading's error alone comes out, by itself."""
    reader = Reader(error)
    partial_scans = EarlyReads(reader, PlanningIndex(), "s", FailureTracker("gpu-a"))

    async def scan(on_partial: OnPartialScan) -> Snapshot:
        with anyio.CancelScope(shield=True):
            on_partial(TRAINING, [config()])
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            assert reader.asked
            on_partial(TRAINING, [config("run_2025-08-20_03-00-01")])
        await anyio.lowlevel.checkpoint()
        return WHOLE

    with anyio.fail_after(30), pytest.raises(type(error), match=str(error)):
        await partial_scans.beside(scan)
