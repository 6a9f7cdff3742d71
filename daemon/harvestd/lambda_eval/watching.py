"""The daemon's own syncing: watches job files, and records each finished job as synced once all of it is here.

The hosts are watched anyway: nothing is fetched for a job. The job's host gets one full scan at once, and the file is
written when a scan that began after the end of the job shows nothing that is not here. A directory that does not exist
yet is waited for; a file that can't be used is logged once, and never ends the daemon.

Watch the directory of job files with the kernel's notices; without notices the caller polls. The directory may
appear, vanish, or be another one after a reload: it is checked again every few seconds.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from harvestd.harvest.context import Context
from harvestd.harvest.sync import Broadcast
from harvestd.lambda_eval.job_files import Job, Stamp, SyncFailed, mark_synced, read_job, stamps
from harvestd.lambda_eval.judging import experiment_of, missing
from harvestd.lambda_eval.syncing import first_reasons
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger
from harvestd.telemetry.sanitize import escaped

_ASK_EVERY = 2.0
"""Seconds between two checks whether the directory exists, and is still the configured one."""
_QUIET = 50
"""Milliseconds without a change after which a burst of changes is over."""
_LONGEST_BURST = 500


class Notices:
    """Calls `changed` after each change in the directory."""

    def __init__(self, context: Context, changed: Callable[[], None]) -> None:
        self._context = context
        self._changed = changed

    async def run(self) -> None:
        """Follow the directory until cancelled."""
        while True:
            directory = self._context.settings.jobs.directory
            if self._context.settings.jobs.watch and await anyio.to_thread.run_sync(_is_directory, directory):
                self._changed()
                await self._follow(directory)
            await anyio.sleep(_ASK_EVERY)

    async def _follow(self, directory: Path) -> None:
        """Call back at each change until another directory is configured, this one is gone, or notices fail."""
        # Only the daemon watches files: the command line starts without this import.
        from watchfiles import awatch  # noqa: PLC0415
        from watchfiles._rust_notify import WatchfilesRustInternalError  # noqa: PLC0415

        ended = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_set_at_end, ended)
            try:
                async for changes in awatch(
                    directory,
                    watch_filter=lambda _, path: path.endswith(".json"),
                    debounce=_LONGEST_BURST,
                    step=_QUIET,
                    stop_event=ended,
                    recursive=False,
                    rust_timeout=int(_ASK_EVERY * 1000),
                    yield_on_timeout=True,
                ):
                    if changes:
                        self._changed()
                    jobs = self._context.settings.jobs
                    if jobs.directory != directory or not jobs.watch:
                        break
                    if not await anyio.to_thread.run_sync(_is_directory, directory):
                        break
            except (OSError, WatchfilesRustInternalError):
                # The kernel limits notices for each user, and editors use many: then the caller polls.
                self._changed()
            tasks.cancel_scope.cancel()


def _is_directory(directory: Path) -> bool:
    try:
        return directory.is_dir()
    except OSError:  # not readable; listing it reports that
        return False


async def _set_at_end(ended: anyio.Event) -> None:
    """End the watching thread, which nothing else can interrupt, on cancellation."""
    try:
        await anyio.sleep_forever()
    finally:
        ended.set()


_REST = 20
"""Pause after judging, as a multiple of the time that judging took."""
BACKSTOP = 30.0
"""Seconds after which the files are read although no change was reported."""
UNSEEN = 20.0
"""Seconds within which the host of a finished job should have been scanned."""


@dataclass
class _Due:
    """A finished job, until its file is marked as synced."""

    job: Job
    since: float = field(default_factory=time.monotonic)
    """When its end was read."""
    logged: str = ""
    """The last logged reason why it waits."""


class JobWatch:
    """Watches the directory of job files beside the hosts."""

    def __init__(self, context: Context, scan_now: Broadcast) -> None:
        self._context = context
        self._scan_now = scan_now
        self._changed = anyio.Event()
        """Set when a file changed since the last read of them began."""
        self._read: dict[str, Stamp] = {}
        self._due: dict[str, _Due] = {}
        """By id."""
        self._rejected: dict[str, str] = {}
        """What can't be used, by job id or directory, and why: logged once."""

    async def run(self) -> None:
        """Watch until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Notices(self._context, self._note_change).run)
            while True:
                self._changed = anyio.Event()
                if self._context.settings.jobs.watch:
                    await self._read_changed()
                else:
                    self._read.clear()
                    self._due.clear()
                with anyio.move_on_after(BACKSTOP):
                    await self._check_until_changed()

    async def _check_until_changed(self) -> None:
        """Judge what is due after each scan of a host, until a job file changes."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._check_after_scans)
            await self._changed.wait()
            tasks.cancel_scope.cancel()

    def _note_change(self) -> None:
        self._changed.set()

    async def _check_after_scans(self) -> None:
        while True:
            started, scanned_before = time.monotonic(), self._context.signals.scanned.version
            for due in list(self._due.values()):
                own = [each for each in self._context.states.last_scans() if each.host.address == due.job.address]
                if any(each.scanned >= due.since for each in own):
                    with self._context.service_failures.containing("jobs", job_id=due.job.id):
                        await self._check(due)
                elif time.monotonic() - due.since >= UNSEEN:
                    self._wait(due, self._unseen(due.job))
            duration = time.monotonic() - started
            await self._context.signals.scanned.wait(scanned_before)
            # Old jobs whose results never come must cost only a small part of the time.
            await anyio.sleep(_REST * duration)

    async def _read_changed(self) -> None:
        """Read the files that changed."""
        directory = self._context.settings.jobs.directory
        try:
            found = await anyio.to_thread.run_sync(stamps, directory)
        except SyncFailed as error:
            self._reject("", directory, error)
            return
        self._rejected.pop("", None)
        for job_id in self._read.keys() - found.keys():
            self._due.pop(job_id, None)
            self._rejected.pop(job_id, None)
        changed = [job_id for job_id, stamp in found.items() if self._read.get(job_id) != stamp]
        self._read = found
        for job_id in changed:
            taken = False
            with self._context.service_failures.containing("jobs", job_id=job_id):
                await self._take(directory, job_id)
                taken = True
            if not taken:
                # It is read again the next time, as though it had changed.
                self._read = {each: stamp for each, stamp in self._read.items() if each != job_id}

    async def _take(self, directory: Path, job_id: str) -> None:
        try:
            job = await anyio.to_thread.run_sync(read_job, directory, job_id)
        except SyncFailed as error:
            self._due.pop(job_id, None)
            self._reject(job_id, directory, error)
            return
        self._rejected.pop(job_id, None)
        if not job.is_due or job.run is None:
            self._due.pop(job_id, None)
        elif job_id not in self._due or self._due[job_id].job != job:
            self._due[job_id] = _Due(job)
            self._request_scan(job)

    def _request_scan(self, job: Job) -> None:
        at = [each.host.identity for each in self._context.states.last_scans() if each.host.address == job.address]
        if at:
            for identity in at:
                self._context.states.of(identity).wants_scan = True
            self._scan_now.ring()

    async def _check(self, due: _Due) -> None:
        reasons = await missing(due.job, self._context, list(self._context.states.last_scans()))
        if reasons:
            self._wait(due, first_reasons(reasons))
            return
        experiment = experiment_of(due.job, self._context.catalogue.knowledge)
        settings = self._context.settings
        if experiment is None:
            return
        here = f"{settings.data_root}/{experiment.directory}"
        try:
            await anyio.to_thread.run_sync(mark_synced, settings.jobs.directory, due.job.id, here)
        except SyncFailed as error:
            self._reject(due.job.id, settings.jobs.directory, error)
            return
        self._due.pop(due.job.id, None)
        get_logger().info(Event.JOB_SYNCED, job_id=due.job.id, run_id=due.job.run, path=here)

    def _unseen(self, job: Job) -> str:
        """Return why the host of a job has not been scanned since the job finished."""
        if job.address is None:
            return "its file names no host (lambda_ip)"
        hosts = [host for host in self._context.fleet.present.values() if host.address == job.address]
        if not hosts:
            return f"no host at {escaped(job.address)} is watched"
        names = ", ".join(sorted(host.name for host in hosts))
        why = next(
            (why for each in hosts if (why := self._context.states.of(each.identity).unreadable) is not None), ""
        )
        return escaped(f"{names} has not been scanned since it finished{f': {why}' if why else ''}")

    def _wait(self, due: _Due, why: str) -> None:
        """Log why a job waits, once for each reason."""
        if why != due.logged:
            get_logger().info(Event.JOB_WAITING, job_id=due.job.id, run_id=due.job.run, error=why)
        due.logged = why

    def _reject(self, job_id: str, directory: Path, error: SyncFailed) -> None:
        if self._rejected.get(job_id) != str(error):
            get_logger().warning(Event.JOB_REJECTED, job_id=job_id, path=directory, error=str(error), hint=error.hint)
        self._rejected[job_id] = str(error)
