"""When a daemon scans a connected host, and which of the hosts of one storage it fetches from."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from weakref import ref

import anyio
import pytest
import structlog
from msgspec.structs import replace

from harvestd.catalogue.loading import KEPT
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Listing, Snapshot, TreeState
from harvestd.harvest.context import Context
from harvestd.harvest.host import failures, loop, observer
from harvestd.harvest.host.loop import HostLoop
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.startup import open_context
from harvestd.harvest.sync import Broadcast, Leases
from harvestd.harvest.transfer import large
from harvestd.harvest.transfer.pool import BulkConnection
from harvestd.inventory.host import Host as Known
from harvestd.planning.records import FileRecord, Section
from harvestd.remote.api import OnPartialScan, OwnScan, ignore_partial
from harvestd.safety.verdict import ReasonKind
from harvestd.settings import load
from harvestd.store.root import DataRoot
from support.scripted_box import PATHS, Change, Deed, Host, ScriptedBox
from support.waiting import events, until

pytestmark = pytest.mark.anyio

TIMEOUT = 60.0
RUN = "run_2025-08-20_03-31-43"
LONG = timedelta(hours=1)
SHORT = timedelta(milliseconds=200)


class Pushing(ScriptedBox):
    """A host that tells of changes by itself all the time, and counts how it is looked at."""

    def __init__(self, host: Host, *, pushes: bool = False) -> None:
        super().__init__(host, [], lambda: None)
        self.scans = 0
        self.heard = 0
        self.blind = False
        """Whether its roots are not there."""
        self.pushes = pushes
        self.on_scan: Callable[[], object] = lambda: None

    def garble(self, path: str) -> None:
        """Break the next two answers about a file."""
        self._garbled[path] += 2

    async def scan(self, on_partial: OnPartialScan = ignore_partial) -> Snapshot:
        """Show all, unless it is blind."""
        self.scans += 1
        self.on_scan()
        if not self.blind:
            return await super().scan(on_partial)
        snapshot = await super().scan()
        return replace(snapshot, listings=tuple(Listing(each.tree, TreeState.NO_ROOT) for each in snapshot.listings))

    async def pushed(self) -> Snapshot:
        """Report that something changed, and not what only a scan shows."""
        self.heard += 1
        looked = self.last_scan_began
        snapshot = replace(await ScriptedBox.scan(self), changed=True)
        self.last_scan_began = looked
        return snapshot

    async def changed(self) -> None:
        """Report at once, or never."""
        if not self.pushes:
            await anyio.sleep_forever()


class Reporting(Pushing):
    """A host that scans by itself, and reports that nothing has changed when a test says so."""

    def __init__(self, host: Host, *, pushes: bool = False) -> None:
        super().__init__(host, pushes=pushes)
        self.has_failed = False
        self._reports: list[OwnScan] = []
        self._arrived = anyio.Event()

    def scan_every(self, seconds: float | None) -> bool:
        """Do so."""
        return seconds is not None

    async def report(self) -> None:
        """Report scans until the program fails."""
        while not self.has_failed:
            self.last_scan_began = time.monotonic()
            self._reports.append(OwnScan(self.last_scan_began, 0.001))
            self._arrived.set()
            await anyio.sleep(0.01)

    async def changed(self) -> None:
        """Wait for a report, or push at once."""
        if not self.pushes:
            await self._arrived.wait()

    def own_scans(self) -> Sequence[OwnScan] | None:
        """Return the reports, unless there is a push."""
        if self.pushes:
            return None
        found, self._reports, self._arrived = self._reports, [], anyio.Event()
        return found

    async def pushed(self) -> Snapshot:
        """Report what the reports said: no change."""
        return replace(await super().pushed(), changed=self.pushes)


class Exact(Reporting):
    """One that says of each scan whether anything is new, as a probe does."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._before: tuple[Listing, ...] = ()

    async def scan(self, on_partial: OnPartialScan = ignore_partial) -> Snapshot:
        """Compare it with the scan before."""
        snapshot = await super().scan(on_partial)
        before, self._before = self._before, snapshot.listings
        return replace(snapshot, changed=before != snapshot.listings)


class Polls(NullListener):
    """Counts scans."""

    count = 0

    def polled(self, host: str, seconds: float) -> None:  # noqa: ARG002  (the contract's)
        """Count one."""
        self.count += 1


@dataclass
class Site:
    """An open data root."""

    context: Context
    root: DataRoot
    scan_now: Broadcast

    def session(self, name: str, box: Pushing) -> Callable[[], Coroutine[object, object, None]]:
        """Return what works on one of the hosts of one storage until cancelled."""
        known = Known(f"static:{name}", name, "127.0.0.1", "static", hardware="h100", storage="shared")

        async def passed(_pending: int) -> None:
            pass

        async def watch() -> None:
            session = HostLoop(known, self.context, self.root, box, await box.facts())
            await session.watch(self.scan_now, passed)

        return watch

    def poll(self, interval: timedelta, settle: timedelta = timedelta()) -> None:
        """Let the time between two scans be this one."""
        poll = self.context.settings.poll.model_copy(update={"interval": interval, "settle": settle})
        self.context.settings = self.context.settings.model_copy(update={"poll": poll})


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """Open a data root; large files come by the hosts' own connections."""
    config = tmp_path / "harvestd.toml"
    lines = ["version = 1", f'data_root = "{tmp_path / "data"}"', "[naming]", 'default_experiment = "trial"']
    config.write_text("\n".join([*lines, "[limits]", 'free_space = "1MiB"']) + "\n")

    @asynccontextmanager
    async def line(self: large.LargeFileFetcher, _window: int) -> AsyncIterator[BulkConnection]:
        yield BulkConnection(self._box, anyio.sleep_forever)

    monkeypatch.setattr(large.LargeFileFetcher, "_line", line)
    async with open_context(load(config, env={}), NullListener()) as (context, root):
        await context.catalogue_opened.wait()
        context.fleet.follows = True
        yield Site(context, root, Broadcast())


def written(*paths: str) -> Host:
    """Return a host on which these files were written, all of one run if none is named."""
    host = Host()
    for path in paths or [path for path in PATHS if RUN in path]:
        host.make(Change(Deed.WRITE, path))
    return host


@pytest.mark.parametrize("kind", [Pushing, Reporting])
async def test_host_that_pushes_without_end_is_scanned(site: Site, kind: type[Pushing]) -> None:
    """A scan is due after each interval: pushes may not be all, and a host that says it scans has to report scans."""
    site.poll(SHORT)
    box = kind(written(), pushes=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.session("gpu-a", box))
        await until(lambda: box.scans >= 5 and box.heard > 5, TIMEOUT)
        tasks.cancel_scope.cancel()


async def test_pushes_without_end_are_followed_ten_times_a_second(site: Site) -> None:
    """What a busy writer adds in quick succession is worked on together: a pass has a cost, however little is new."""
    site.poll(LONG)
    box = Pushing(written(), pushes=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.session("gpu-a", box))
        await until(lambda: box.heard > 0, TIMEOUT)
        before, began = box.heard, time.monotonic()
        await until(lambda: box.heard >= before + 10, TIMEOUT)
        assert time.monotonic() - began > 0.9
        tasks.cancel_scope.cancel()


async def test_host_whose_reports_end_is_scanned(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it reports its own scans none is requested; without reports one is, after two intervals."""
    monkeypatch.setattr(loop, "WHOLE_EVERY", 3600.0)
    site.poll(SHORT)
    box, polls = Reporting(written()), Polls()
    site.context.monitor = polls
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(box.report)
        tasks.start_soon(site.session("gpu-a", box))
        await until(lambda: polls.count > 100, TIMEOUT)
        assert box.scans <= 3, "a busy machine may be late"
        box.has_failed = True
        scans = box.scans
        await until(lambda: box.scans > scans + 3, TIMEOUT)
        tasks.cancel_scope.cancel()


async def test_reports_cost_no_plan_until_something_is_newly_known(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all is here, a report moves only the time of the last look; what another host brings makes a new plan."""
    monkeypatch.setattr(observer, "MARGIN", 0.0)
    monkeypatch.setattr(loop, "REVIEW_EVERY", 0.2 / LONG.total_seconds())
    site.poll(LONG)
    box, polls, context = Reporting(written()), Polls(), site.context
    context.monitor = polls

    async def is_quiet() -> bool:
        heard, count = box.heard, polls.count
        await until(lambda: polls.count > count + 30, TIMEOUT)
        return box.heard == heard

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(box.report)
        tasks.start_soon(site.session("gpu-a", box))
        with anyio.fail_after(TIMEOUT):
            while not await is_quiet():
                pass
        (last_scan,) = context.states.last_scans()
        assert time.monotonic() - last_scan.scanned < 5
        state = context.states.of("static:gpu-a")
        judged = state.verdict
        assert judged is not None
        await until(lambda: state.verdict is not None and state.verdict.at > judged.at, TIMEOUT)
        heard = box.heard
        (run,) = context.catalogue.knowledge.runs()
        context.catalogue.knowledge.add_run(replace(run, base_model="another"))
        await until(lambda: box.heard > heard, TIMEOUT)
        assert box.scans == 1
        site.scan_now.ring()
        await until(lambda: box.scans == 2, TIMEOUT)
        tasks.cancel_scope.cancel()


async def test_request_during_a_scan_is_not_lost(site: Site) -> None:
    """Who asks for a scan while one is under way gets another one at once, not after an interval."""
    site.poll(LONG)
    box = Pushing(written())
    box.on_scan = lambda: site.scan_now.ring() if box.scans == 1 else None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.session("gpu-a", box))
        await until(lambda: box.scans >= 2, TIMEOUT)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("pause", [1.0, 0.0], ids=["pause", "pause that is over at once"])
async def test_what_could_not_be_read_is_tried_again_before_the_next_scan_is_due(
    site: Site, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    """Two answers about a file are broken: it is requested again after its pause, however long the interval is.

    On a slow machine the pause is over before the work on the scan is.
    """
    monkeypatch.setattr(failures, "FIRST_PAUSE", pause)
    site.poll(LONG)
    metrics = f"eval_runs/{RUN}_gsm8k/step_final/t0/metrics.csv"
    box = Pushing(written())
    box.garble(metrics)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.session("gpu-a", box))
        await until(lambda: any(Path(site.root.path).glob("*/eval_results/*/*/*/metrics.csv")), TIMEOUT)
        tasks.cancel_scope.cancel()


async def test_host_that_lost_its_root_leaves_the_storage_to_one_that_sees_it(site: Site) -> None:
    """Its link is fine, its mount is gone: what the other host of the storage shows comes by that one."""
    site.poll(SHORT)
    shared = written()
    first, second = Pushing(shared), Pushing(shared)
    knowledge = site.context.catalogue.knowledge

    def arrived(line: str) -> bool:
        return any(line in path.read_text() for path in Path(site.root.path).glob("*/training_run/logs/*"))

    def is_log(file: FileRecord) -> bool:
        return file.target.parts[-1] == "train_log.jsonl"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.session("gpu-a", first))
        await until(lambda: knowledge.runs_named(RUN), TIMEOUT)
        tasks.start_soon(site.session("gpu-b", second))
        await until(lambda: second.scans >= 2, TIMEOUT)
        first.blind = True
        await until(lambda: not site.context.leases.is_free("shared") and first.scans, TIMEOUT)
        shared.make(Change(Deed.APPEND, f"training_runs/{RUN}/logs/train_log.jsonl"))
        await until(lambda: arrived(f'{{"line": {shared.ticks}}}'), TIMEOUT)
        await until(
            lambda: [file.host for file in knowledge.files_from("shared") if is_log(file)] == ["gpu-b"], TIMEOUT
        )
        # It sees again: the other one goes on, and nothing is fetched twice.
        first.blind = False
        scans = first.scans
        await until(lambda: first.scans > scans + 2, TIMEOUT)
        shared.make(Change(Deed.APPEND, f"training_runs/{RUN}/logs/train_log.jsonl"))
        await until(lambda: arrived(f'{{"line": {shared.ticks}}}'), TIMEOUT)
        tasks.cancel_scope.cancel()


async def test_host_that_is_back_after_its_records_were_dropped(site: Site) -> None:
    """Nothing of it is in memory any more by then: only what is new comes, and its log goes on where it ended."""
    site.poll(SHORT)
    files = site.context.catalogue.files
    host, log = written(), f"training_runs/{RUN}/logs/train_log.jsonl"

    def brought() -> list[object]:
        return [each["path"] for each in events(event_log, "file.downloaded")]

    with structlog.testing.capture_logs() as event_log:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(site.session("gpu-a", box := Pushing(host)))
            await until(lambda: box.scans >= 5 and brought(), TIMEOUT)
            assert site.context.catalogue.knowledge.sections_with_files()
            tasks.cancel_scope.cancel()
    before = {file.target: file for each in (*_experiments(site), None) for file in await files.files_of(each)}
    await files.drop_unused(0.0)
    await files.drop_unused(KEPT)
    assert not site.context.catalogue.knowledge.sections_with_files()
    host.make(Change(Deed.APPEND, log))
    with structlog.testing.capture_logs() as event_log:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(site.session("gpu-a", box := Pushing(host)))
            await until(lambda: box.scans >= 5 and brought(), TIMEOUT)
            tasks.cancel_scope.cancel()
        assert [str(path).rpartition("/")[2] for path in brought()] == ["train_log.jsonl"]
    after = {file.target: file for each in (*_experiments(site), None) for file in await files.files_of(each)}
    assert {target for target in after if after[target] != before.get(target)} == {
        LocalPath.parse(str(path)) for path in brought()
    }
    assert before.keys() == after.keys()


def _experiments(site: Site) -> list[str]:
    return [each.id for each in site.context.catalogue.knowledge.experiments()]


async def test_root_that_no_host_sees_changes_no_leader(site: Site) -> None:
    """Where the other host does not see it either, nothing is gained by changing."""
    site.poll(SHORT)
    shared = written()
    first, second = Pushing(shared), Pushing(shared)
    released = site.context.leases.released
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.session("gpu-a", first))
        await until(lambda: first.scans >= 1, TIMEOUT)
        tasks.start_soon(site.session("gpu-b", second))
        await until(lambda: second.scans >= 1, TIMEOUT)
        first.blind = second.blind = True
        before = first.scans, second.scans
        # The first look may still have shown what the other one had lost by then.
        await until(lambda: first.scans > before[0] + 3 and second.scans > before[1] + 3, TIMEOUT)
        version, before = released.version, (first.scans, second.scans)
        await until(lambda: first.scans > before[0] + 3 and second.scans > before[1] + 3, TIMEOUT)
        assert released.version == version
        tasks.cancel_scope.cancel()


async def test_lease_is_free_after_every_cancellation() -> None:
    """A host that waits for the storage while another one gives it up, and is cancelled then, leaves nothing held."""
    leases, storage = Leases(), "shared"

    async def wait() -> None:
        await leases.wait_free(storage)
        with leases.held(storage, "gpu-b"):
            await anyio.sleep_forever()

    for turns in range(6):
        async with anyio.create_task_group() as tasks:
            with leases.held(storage, "gpu-a"):
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert leases.is_free(storage)


async def test_ring_that_came_while_busy_is_heard() -> None:
    """A task that remembers the version that it saw last misses no ring."""
    bell = Broadcast()
    before = bell.version
    bell.ring()
    with anyio.fail_after(TIMEOUT):
        assert await bell.wait(before) == before + 1
    with anyio.move_on_after(0.01) as scope:
        await bell.wait(bell.version)
    assert scope.cancelled_caught


async def test_records_of_a_quiet_host_are_dropped_while_it_is_connected(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plan holds without them. A change loads them again, and only it is fetched; the second time they stay."""
    monkeypatch.setattr(loop, "REVIEW_EVERY", 1)
    site.poll(SHORT)
    box, knowledge = Exact(host := written()), site.context.catalogue.knowledge

    def brought() -> list[str]:
        return [str(each["path"]).rpartition("/")[2] for each in events(event_log, "file.downloaded")]

    async def scanned(times: int = 1) -> None:
        for _ in range(times):
            scans = box.scans
            site.scan_now.ring()
            await until(lambda: box.scans > scans, TIMEOUT)  # noqa: B023  (called in this turn)

    async def appended() -> None:
        before = len(brought())
        host.make(Change(Deed.APPEND, f"training_runs/{RUN}/logs/train_log.jsonl"))
        site.scan_now.ring()
        await until(lambda: len(brought()) > before, TIMEOUT)

    with structlog.testing.capture_logs() as event_log:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(box.report)
            tasks.start_soon(site.session("gpu-a", box))
            for _ in range(2):
                await until(lambda: brought() and not knowledge.sections_with_files(), TIMEOUT)
                await scanned()
                (last_scan,) = site.context.states.last_scans()
                assert last_scan.plan.is_empty
                assert not knowledge.sections_with_files()
                groups = [ref(each.contents.groups()) for each in last_scan.seen.evals]
                assert groups
                assert not any(each() for each in groups), "they are made anew for each use"
                await appended()
            await scanned(5)
            assert knowledge.sections_with_files()
            tasks.cancel_scope.cancel()
    assert brought()[-2:] == ["train_log.jsonl", "train_log.jsonl"]
    assert len(brought()) == len(host.files) + 2


@pytest.mark.parametrize("is_finished", [False, True])
async def test_run_of_two_disks_is_watched_while_its_records_are_dropped(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, is_finished: bool
) -> None:
    """Whether it fell silent, and what it is called, is looked into at each scan, without work for the plan."""
    monkeypatch.setattr(loop, "REVIEW_EVERY", 1)
    site.poll(SHORT, settle=LONG)
    log, config = f"training_runs/{RUN}/logs/train_log.jsonl", f"training_runs/{RUN}/config.yaml"
    box, knowledge = Exact(host := written(*([] if is_finished else [config, log]))), site.context.catalogue.knowledge

    async def rested() -> None:
        await until(lambda: knowledge.runs() and not knowledge.sections_with_files(), TIMEOUT)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(box.report)
        tasks.start_soon(site.session("gpu-a", box))
        await rested()
        (run,) = knowledge.runs()
        await site.context.catalogue.add_run(replace(run, id="part", storage="fs-2", head="", host="gpu-b"))
        host.make(Change(Deed.APPEND, log))
        site.scan_now.ring()
        for _ in range(3):
            await rested()
            scans = box.scans
            site.scan_now.ring()
            await until(lambda: box.scans > scans, TIMEOUT)  # noqa: B023  (called in this turn)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_verdict_on_a_host_whose_records_were_dropped(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, is_damaged: bool
) -> None:
    """It compares every local file with its record all the same, and needs them in memory only where one differs."""
    monkeypatch.setattr(loop, "REVIEW_EVERY", 1)
    monkeypatch.setattr(observer, "SHORTEST_STAY", 0.0)
    site.poll(SHORT)
    box, knowledge = Exact(written()), site.context.catalogue.knowledge
    state = site.context.states.of("static:gpu-a")

    def metrics() -> list[Path]:
        return list(Path(site.root.path).glob("*/eval_results/*/*/*/metrics.csv"))

    async def judged() -> list[ReasonKind]:
        await until(lambda: metrics() and not knowledge.sections_with_files(), TIMEOUT)
        loaded.clear()
        assert state.verdict_service is not None
        return [each.kind for each in (await state.verdict_service.request()).reasons]

    loaded: list[Section] = []
    mark = knowledge.mark_loaded

    def note(section: Section) -> None:
        loaded.append(section)
        mark(section)

    monkeypatch.setattr(knowledge, "mark_loaded", note)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(box.report)
        tasks.start_soon(site.session("gpu-a", box))
        # The first verdict has to compare all that the host shows with the records.
        assert ReasonKind.MISSING_AT_HOME not in await judged()
        if is_damaged:
            metrics()[0].write_bytes(b"")
        assert (ReasonKind.MISSING_AT_HOME in await judged()) == is_damaged
        assert bool(loaded) == is_damaged
        tasks.cancel_scope.cancel()
