"""The state of runs and of their hosts: processes that live, stalls, idle hosts.

Detects runs that do not make progress: silent logs, dead runs, and losses that are not finite. Each is logged once,
and again only after the run went on. The finding stays on record until the next line of the run's log.

Queries whether any process that could write a run is alive; rarely, since the query is expensive. A run that several
hosts show may be written by any of them, so all of these that are connected are queried.

Detects idle hosts, which cost money: no changes in their trees and no GPU processes for hours. Based on observations
by the local clock. A host that can't report its GPU processes is never called idle.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Final, Protocol

import anyio.lowlevel
from msgspec.structs import replace

from harvestd.convention.kinds import Kind, run_name
from harvestd.convention.log_rows import lines_of
from harvestd.convention.metadata.progress import Reading, StepRate, advanced, readings, seconds_left
from harvestd.convention.scan.model import RunDir, ScanResult, Source
from harvestd.convention.scan.snapshot import Snapshot, Version
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.errors import HostQuarantined, Retry
from harvestd.harvest.context import Context
from harvestd.harvest.state import IdleState
from harvestd.inventory.host import Host
from harvestd.planning.records import FileRecord, NotLoaded, RunRecord
from harvestd.planning.run_status import Liveness, RunProblem, RunStatus, has_died, quiet_for
from harvestd.remote.api import Box
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_BEHIND: Final = 64 * 1024
"""If more bytes of a log than this are missing here, its lines arrive as fast as they are read.

Their times then say nothing about the pace of the run. Fewer missing bytes are a torn line.
"""
_PARSED_AT_ONCE: Final = 100
"""Lines that are parsed, in a millisecond, before other tasks have their turn: thousands may come together."""
_ASK_AGAIN: Final = 300.0
"""Seconds after which the processes of a silent run are queried again: they may have ended since."""
_SILENT_FOR_GOOD: Final = 6 * 3600.0
"""Seconds after which a silent run counts as stalled if neither its step rate nor its processes are known."""


class LastScanView(Protocol):
    """The result of the last scan of a host, and a way to query more."""

    sightings: StabilityTracker
    seen: ScanResult | None

    async def liveness(self) -> Liveness:
        """Query the processes that could still write."""
        ...


class StallDetector:
    """Tracks the runs of one host for as long as a connection lasts."""

    def __init__(self, host: Host, context: Context) -> None:
        """Silence counts from here on: the time before the connection proves nothing."""
        self._host = host
        self._context = context
        self._storage = context.storage_of(host)
        self._since = time.monotonic()
        self._caught_up: dict[tuple[str, str], bool] = {}
        """By run: whether all of its log was here when it was last read, on this connection."""
        self._queried: dict[tuple[str, str], float] = {}
        """By run: when the host's processes were queried for it."""

    def process(
        self, run: RunRecord, found: Sequence[Reading], *, behind: int
    ) -> tuple[RunProblem | None, Reading | None]:
        """Process the readings in new lines of a run's log, of which `behind` bytes are missing.

        Return its trouble, and the reading by which it has diverged just now, to be logged once that is on record.
        """
        live = self._caught_up.get(run.key, False)
        self._caught_up[run.key] = behind <= _BEHIND
        self._queried.pop(run.key, None)
        before = self._context.step_rates.get(run.key)
        now = advanced(before, found, time.monotonic(), live=live)
        self._context.step_rates[run.key] = now
        known = before is not None and before.diverged is not None and before.began == now.began
        fresh = None if known or run.finished else now.diverged
        has_diverged = run.problem is not None and run.problem.status is RunStatus.DIVERGED
        if has_diverged and (now.diverged is not None or not now.finite):
            # This process has read no finite loss since, so the recorded trouble stays.
            return run.problem, fresh
        return (None if now.diverged is None else RunProblem(RunStatus.DIVERGED, time.time())), fresh

    def log_diverged(self, run: RunRecord, reading: Reading) -> None:
        """Log that a run has diverged. After it is on record: a process that is killed here finds it again."""
        get_logger().warning(
            Event.RUN_DIVERGED,
            host=self._host.name,
            run_id=run.name,
            step=reading.step,
            what=f"loss is {reading.loss}",
        )

    async def check(self, observer: LastScanView) -> None:
        """Detect runs that fell silent, by the last scan. Raise `Retry`, `HostQuarantined`."""
        now = time.monotonic()
        for run in observer.seen.runs if observer.seen is not None else ():
            record = self._context.catalogue.knowledge.run_at(self._storage, run.place)
            if record is not None and record.finished:
                self._context.step_rates.pop(record.key, None)
            elif record is not None:
                await self._check_run(run, record, observer, now)

    async def _check_run(self, run: RunDir, record: RunRecord, observer: LastScanView, now: float) -> None:
        rate = self._context.step_rates.get(record.key)
        silent = quiet_for(run, observer.sightings, now)
        if rate is not None:
            silent = min(silent, self._silence(run, observer.sightings, rate.at, now))
        is_stalled = rate is not None and rate.is_stalled(silent)
        is_quiet = math.isfinite(silent) and silent >= self._context.settings.verdict.idle_for.total_seconds()
        if (
            record.is_over
            or not (is_stalled or is_quiet)
            or now < self._queried.get(record.key, -math.inf) + _ASK_AGAIN
        ):
            return
        self._queried[record.key] = now
        liveness = await observer.liveness()
        present = self._context.catalogue.knowledge.run_at(self._storage, run.place)
        if self._context.step_rates.get(record.key) is not rate or present is None or present.is_over:
            return  # it went on meanwhile, or another host that shows it has examined it
        # Without a process it has died, even if it has not been quiet long enough to be presumed dead.
        has_died_now = has_died(run, record.shown_by, liveness, observer.sightings, now)
        if (is_stalled and liveness.gpu_processes == 0) or has_died_now or self._was_followed(record, rate, is_quiet):
            await self._note(present, RunStatus.DIED, silent)
        elif is_stalled or (has_died_now is None and silent >= _SILENT_FOR_GOOD):
            await self._note(present, RunStatus.STALLED, silent)
            self._log_stalled(present, rate, silent)

    async def _note(self, run: RunRecord, status: RunStatus, silent: float) -> None:
        """Record the trouble of a run; log if it died."""
        if run.problem is not None and run.problem.status is status:
            return
        problem = RunProblem(status, time.time() - silent)
        await self._context.catalogue.change_run(run.key, partial(replace, problem=problem))
        if status is RunStatus.DIED:
            get_logger().warning(
                Event.RUN_DIED, host=self._host.name, run_id=run.name, step=run.step, seconds=round(silent)
            )

    def _log_stalled(self, run: RunRecord, rate: StepRate | None, silent: float) -> None:
        if rate is None or rate.settled:
            return
        self._context.step_rates[run.key] = replace(rate, settled=True)
        get_logger().warning(
            Event.RUN_STALLED,
            host=self._host.name,
            run_id=run.name,
            step=rate.step,
            seconds=round(silent),
            usual_seconds=round(rate.usual or 0.0, 3),
        )

    def _silence(self, run: RunDir, sightings: StabilityTracker, at: float, now: float) -> float:
        """Return the seconds without a new step while this host was connected."""
        silent = now - max(at, self._since)
        logs = [wanted.source for wanted in run.growing if wanted.kind is Kind.TRAIN_LOG]
        for log in logs:
            # Bytes that are written but not here yet, because they wait for space or a slot, are not silence of the
            # run.
            if self._is_behind(log):
                silent = min(silent, sightings.age(log, now))
        return silent

    def _is_behind(self, log: Source) -> bool:
        try:
            copies = self._context.catalogue.knowledge.copies(self._storage, log.place)
        except NotLoaded:
            return False  # the records of a host are dropped only while everything that it shows is here
        return all(log.version.size - copy.size > _BEHIND for copy in copies)

    def _was_followed(self, run: RunRecord, rate: StepRate | None, is_quiet: bool) -> bool:  # noqa: FBT001
        """Return whether another run began on this storage since: then this one no longer runs."""
        others = {
            key: each for key, each in self._context.step_rates.items() if key[0] == self._storage and key != run.key
        }
        if rate is not None:
            return any(other.began > rate.at for other in others.values())
        # For a run that fell silent before this process began, the names decide which run began later.
        return is_quiet and any(key[1].rpartition("/")[2] > run.name for key, each in others.items() if each.gaps)


class RunProgress:
    """Records the progress of one host's runs in the catalogue."""

    def __init__(self, host: Host, context: Context, stalling: StallDetector) -> None:
        self._stalling = stalling
        self._storage = context.storage_of(host)
        self._catalogue = context.catalogue

    async def record_lines(self, record: FileRecord, content: bytes, version: Version) -> None:
        """Process lines that were just appended to a log; other files are ignored."""
        if record.kind is not Kind.TRAIN_LOG or not content:
            return
        found: list[Reading] = []
        lines = lines_of(content)
        while some := list(islice(lines, _PARSED_AT_ONCE)):
            found += readings(some)
            await anyio.lowlevel.checkpoint()
        step = max((reading.step for reading in found), default=None)
        run = self._run_of(record.place)
        if run is None:
            return
        problem, diverged = self._stalling.process(run, found, behind=version.size - record.size)
        heard_at = time.time()

        def with_lines(now: RunRecord) -> RunRecord:
            after = replace(now, problem=problem)
            if step is None or (now.step is not None and now.step >= step):
                return after
            return replace(after, step=step, step_at=heard_at, seconds_left=_left(now, step, version))

        await self._catalogue.change_run(run.key, with_lines)
        if diverged is not None:
            self._stalling.log_diverged(run, diverged)

    def _run_of(self, place: str) -> RunRecord | None:
        return self._catalogue.knowledge.run_at(self._storage, place.removesuffix("/logs/train_log.jsonl"))


def _left(run: RunRecord, step: int, log: Version) -> float | None:
    name, total = run_name(run.name), run.config.total_steps
    if name is None or name.started is None or total is None:
        return None
    try:
        written = datetime.fromtimestamp(log.mtime_ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a host may send any number
    # Hosts run on UTC; if one does not, the pace is off by its time zone, and only this figure with it.
    return seconds_left(step, total, name.started.replace(tzinfo=UTC), written)


GOOD_FOR: Final = 60.0
"""Seconds for which an answer is valid, and in which no query is repeated."""


class LivenessMonitor:
    """Queries processes on behalf of one connected host."""

    def __init__(self, host: Host, context: Context, box: Box) -> None:
        self._host = host
        self._context = context
        self._box = box
        self._asked_at: float | None = None
        self._processes: int | None = None

    def known(self) -> Liveness:
        """Return what is known now."""
        return Liveness(
            idle_for=self._context.settings.verdict.idle_for.total_seconds(),
            gpu_processes=None if self._is_due() else self._processes,
            hosts=self._context.fleet.hosts,
            ending=self._context.fleet.ending,
        )

    async def queried(self, seen: ScanResult) -> Liveness | None:
        """Query the hosts and return the result; None if that was done just now. Raise `Retry`.

        `seen` is what this host shows; others may show a part of it as well.
        """
        if not self._is_due():
            return None
        counts = [await self._box.gpu_processes()]
        for storage in self._storages(seen):
            for identity, box in list(self._context.states.connected(storage).items()):
                if identity != self._host.identity:
                    counts.append(await _of_another(box))
        known = [count for count in counts if count is not None]
        self._processes = sum(known) if len(known) == len(counts) else None
        self._asked_at = time.monotonic()
        return self.known()

    def _storages(self, seen: ScanResult) -> set[str]:
        """Return the storages that show any run that this host shows."""
        own, knowledge = self._context.storage_of(self._host), self._context.catalogue.knowledge
        records = (knowledge.run_at(own, run.place) for run in seen.runs)
        experiments = {record.experiment for record in records if record is not None and record.experiment}
        return {own, *(run.storage for each in experiments for run in knowledge.runs_of(each))}

    def _is_due(self) -> bool:
        return self._asked_at is None or time.monotonic() - self._asked_at >= GOOD_FOR


async def _of_another(box: Box) -> int | None:
    """Query a host that another task works with; if it fails, that task detects the failure itself."""
    try:
        return await box.gpu_processes()
    except (Retry, HostQuarantined):
        return None


@contextmanager
def shown(context: Context, host: Host, box: Box) -> Iterator[None]:
    """Register this connected host for queries by others, for the duration of the body."""
    state = context.states.of(host.identity)
    state.box, state.storage = box, context.storage_of(host)
    try:
        yield
    finally:
        state.box = None


ASK_EVERY: Final = 900.0
"""Seconds between two queries of the GPUs, and seconds without a change before the first."""
IDLE_AFTER: Final = 2 * 3600.0
"""Seconds without activity after which a host is idle."""
_SLACK: Final = 60.0
"""Seconds by which a host's timestamps of a change may be off."""


class IdleDetector:
    """Tracks one host for as long as a connection lasts."""

    def __init__(self, host: Host, context: Context, box: Box) -> None:
        self._host = host
        self._context = context
        self._box = box
        self._is_first = True

    async def update(self, snapshot: Snapshot | None) -> None:
        """Process a scan, and do what `query` does. Raise `Retry`."""
        now = time.monotonic()
        state = self._context.states.of(self._host.identity)
        idle = state.idle = state.idle or IdleState(since=now, asked_at=now)
        if snapshot is None or self._has_moved(snapshot, now - idle.since):
            idle.since, idle.is_logged = now, False
        self._is_first = False
        await self.query()

    async def query(self) -> None:
        """Query the GPUs if that is due, and log when the host is idle: what time alone requires. Raise `Retry`."""
        now, idle = time.monotonic(), self._context.states.of(self._host.identity).idle
        if idle is None or now - max(idle.since, idle.asked_at) < ASK_EVERY:
            return
        idle.asked_at = now
        if await self._box.gpu_processes() != 0:
            idle.since, idle.is_logged = now, False
        elif not idle.is_logged and now - idle.since >= IDLE_AFTER:
            idle.is_logged = True
            self._log_idle(now - idle.since)

    def _has_moved(self, snapshot: Snapshot, rested: float) -> bool:
        """Return whether anything changed in the last `rested` seconds.

        The first scan of a connection always counts as changed, so its timestamps decide.
        """
        if not snapshot.changed or not self._is_first:
            return snapshot.changed
        if not snapshot.box_time_ns:
            return True
        versions = (entry.version for listing in snapshot.listings for entry in listing.entries.values())
        newest = max((max(version.mtime_ns, version.ctime_ns) for version in versions), default=0)
        return (snapshot.box_time_ns - newest) / 1e9 < rested - _SLACK

    def _log_idle(self, seconds: float) -> None:
        cents = self._host.cents_per_hour
        get_logger().warning(
            Event.HOST_IDLE,
            host=self._host.name,
            idle_seconds=round(seconds),
            cents_per_hour=cents,
            cost=None if cents is None else round(cents * seconds / 3600),
        )
