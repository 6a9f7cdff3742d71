"""Detects runs that do not make progress: silent logs, dead runs, and losses that are not finite.

Each is logged once, and again only after the run went on. The finding stays on record until the next line of the run's
log.
"""

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

from msgspec.structs import replace

from harvestd.convention.kinds import Kind, run_name
from harvestd.convention.log_rows import lines_of
from harvestd.convention.metadata.progress import StepRate, newest_step, readings, seconds_left, strode
from harvestd.convention.scan.model import RunDir, ScanResult
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.harvest.context import Context
from harvestd.inventory.host import Host
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.planning.run_status import Life, RunStatus, RunTrouble, has_died, quiet_for
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_BEHIND: Final = 64 * 1024
"""If more bytes of a log than this are missing here, its lines arrive as fast as they are read.

Their times then say nothing about the pace of the run. Fewer missing bytes are a torn line.
"""
_ASK_AGAIN: Final = 300.0
"""Seconds after which the processes of a silent run are queried again: they may have ended since."""
_SILENT_FOR_GOOD: Final = 6 * 3600.0
"""Seconds after which a silent run counts as stalled if neither its step rate nor its processes are known."""


class Look(Protocol):
    """The result of the last scan of a host, and a way to query more."""

    sightings: StabilityTracker
    seen: ScanResult | None

    async def life(self) -> Life:
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
        self._asked: dict[tuple[str, str], float] = {}
        """By run: when the host's processes were queried for it."""

    def heard(self, run: RunRecord, lines: Sequence[bytes], *, behind: int) -> RunTrouble | None:
        """Process new lines of a run's log, of which `behind` bytes are still missing; return the run's trouble."""
        live = self._caught_up.get(run.key, False)
        self._caught_up[run.key] = behind <= _BEHIND
        self._asked.pop(run.key, None)
        before = self._context.step_rates.get(run.key)
        now = strode(before, readings(lines), time.monotonic(), live=live)
        self._context.step_rates[run.key] = now
        known = before is not None and before.diverged is not None and before.began == now.began
        if now.diverged is not None and not known and not run.finished:
            get_logger().warning(
                Event.RUN_DIVERGED,
                host=self._host.name,
                run_id=run.name,
                step=now.diverged.step,
                what=f"loss is {now.diverged.loss}",
            )
        has_diverged = run.trouble is not None and run.trouble.status is RunStatus.DIVERGED
        if has_diverged and (now.diverged is not None or not now.finite):
            # This process has read no finite loss since, so the recorded trouble stays.
            return run.trouble
        return None if now.diverged is None else RunTrouble(RunStatus.DIVERGED, time.time())

    async def check(self, observer: Look) -> None:
        """Detect runs that fell silent, by the last scan. Raise `Retry`, `HostQuarantined`."""
        now = time.monotonic()
        for run in observer.seen.runs if observer.seen is not None else ():
            record = self._context.catalogue.knowledge.run_at(self._storage, run.place)
            if record is not None and record.finished:
                self._context.step_rates.pop(record.key, None)
            elif record is not None:
                await self._look_at(run, record, observer, now)

    async def _look_at(self, run: RunDir, record: RunRecord, observer: Look, now: float) -> None:
        stride = self._context.step_rates.get(record.key)
        silent = quiet_for(run, observer.sightings, now)
        if stride is not None:
            silent = min(silent, self._silence(run, observer.sightings, stride.at, now))
        is_stalled = stride is not None and stride.is_stalled(silent)
        is_quiet = math.isfinite(silent) and silent >= self._context.settings.verdict.idle_for.total_seconds()
        if record.is_over or not (is_stalled or is_quiet) or now < self._asked.get(record.key, -math.inf) + _ASK_AGAIN:
            return
        self._asked[record.key] = now
        life = await observer.life()
        present = self._context.catalogue.knowledge.run_at(self._storage, run.place)
        if self._context.step_rates.get(record.key) is not stride or present is None or present.is_over:
            return  # it went on meanwhile, or another host that shows it has examined it
        # Without a process it has died, even if it has not been quiet long enough to be presumed dead.
        has_died_now = has_died(run, record.shown_by, life, observer.sightings, now)
        if (is_stalled and life.gpu_processes == 0) or has_died_now or self._was_followed(record, stride, is_quiet):
            await self._note(present, RunStatus.DIED, silent)
        elif is_stalled or (has_died_now is None and silent >= _SILENT_FOR_GOOD):
            await self._note(present, RunStatus.STALLED, silent)
            self._log_stalled(present, stride, silent)

    async def _note(self, run: RunRecord, status: RunStatus, silent: float) -> None:
        """Record the trouble of a run; log if it died."""
        if run.trouble is not None and run.trouble.status is status:
            return
        trouble = RunTrouble(status, time.time() - silent)
        await self._context.catalogue.change_run(run.key, partial(replace, trouble=trouble))
        if status is RunStatus.DIED:
            get_logger().warning(
                Event.RUN_DIED, host=self._host.name, run_id=run.name, step=run.step, seconds=round(silent)
            )

    def _log_stalled(self, run: RunRecord, stride: StepRate | None, silent: float) -> None:
        if stride is None or stride.settled:
            return
        self._context.step_rates[run.key] = replace(stride, settled=True)
        get_logger().warning(
            Event.RUN_STALLED,
            host=self._host.name,
            run_id=run.name,
            step=stride.step,
            seconds=round(silent),
            usual_seconds=round(stride.usual or 0.0, 3),
        )

    def _silence(self, run: RunDir, sightings: StabilityTracker, at: float, now: float) -> float:
        """Return the seconds without a new step while this host was connected."""
        silent = now - max(at, self._since)
        logs = [wanted.source for wanted in run.growing if wanted.kind is Kind.TRAIN_LOG]
        copies = self._context.catalogue.knowledge.copies
        for log in logs:
            # Bytes that are written but not here yet, because they wait for space or a slot, are not silence of the
            # run.
            if all(log.version.size - copy.size > _BEHIND for copy in copies(self._storage, log.place)):
                silent = min(silent, sightings.age(log, now))
        return silent

    def _was_followed(self, run: RunRecord, stride: StepRate | None, is_quiet: bool) -> bool:  # noqa: FBT001
        """Return whether another run began on this storage since: then this one no longer runs."""
        others = {
            key: each for key, each in self._context.step_rates.items() if key[0] == self._storage and key != run.key
        }
        if stride is not None:
            return any(other.began > stride.at for other in others.values())
        # For a run that fell silent before this process began, the names decide which run began later.
        return is_quiet and any(key[1].rpartition("/")[2] > run.name for key, each in others.items() if each.gaps)


class RunProgress:
    """Records the progress of one host's runs in the catalogue."""

    def __init__(self, host: Host, context: Context, stalling: StallDetector) -> None:
        self._stalling = stalling
        self._storage = context.storage_of(host)
        self._catalogue = context.catalogue

    async def heard(self, record: FileRecord, content: bytes, version: Version) -> None:
        """Process lines that were just appended to a log; other files are ignored."""
        if record.kind is not Kind.TRAIN_LOG or not content:
            return
        lines = list(lines_of(content))
        step = newest_step(lines)
        run = self._run_of(record.place)
        if run is None:
            return
        trouble = self._stalling.heard(run, lines, behind=version.size - record.size)
        heard_at = time.time()

        def with_lines(now: RunRecord) -> RunRecord:
            after = replace(now, trouble=trouble)
            if step is None or (now.step is not None and now.step >= step):
                return after
            return replace(after, step=step, step_at=heard_at, seconds_left=_left(now, step, version))

        await self._catalogue.change_run(run.key, with_lines)

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
