"""Sync one job: scan its host for its run alone, check what is here, and record it in the job's file.

Where a daemon holds the data root it does the work, since it watches the same files; where another job is being synced,
this one waits.
"""

import time
from collections.abc import Sequence

import anyio
import anyio.to_thread
from msgspec.structs import replace

from harvestd.convention.structs import Immutable
from harvestd.errors import DiskFull, ExitCode, Fatal, HarvestError, unwrapped
from harvestd.harvest.host.passes import HostOutcome, visited
from harvestd.harvest.host.results import PassResult
from harvestd.harvest.monitor import NullListener
from harvestd.harvest.startup.open import open_context
from harvestd.inventory.host import Host
from harvestd.lambda_eval.boxes import boxes_of
from harvestd.lambda_eval.failures import SyncFailed
from harvestd.lambda_eval.job_files import FINISHED, RUNNING, Job, mark_synced, read_job
from harvestd.lambda_eval.judging import experiment_of, missing
from harvestd.settings import Settings
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger
from harvestd.telemetry.sanitize import escaped

_PATIENCE = 60.0
"""Seconds within which the holder of the data root should have ended, or have recorded its results."""
_ASK_EVERY = 0.5
_MOST_REASONS = 5


class Synced(Immutable):
    """A job whose results are all here."""

    job: Job
    """The present content of its file."""
    files: int = 0
    bytes: int = 0
    """Files and bytes that were fetched this time."""
    by_daemon: bool = False


async def sync_job(settings: Settings, job_id: str) -> Synced:
    """Fetch the run and the evals of a job into the data root, and record their place in its file.

    Raise `SyncFailed` for every failure, and for a job that still runs: a file with a recorded result would not be
    checked again. Files that were fetched until then stay.
    """
    directory = settings.jobs.directory
    job = await anyio.to_thread.run_sync(read_job, directory, job_id)
    if job.run is None:
        raise SyncFailed(f"{job.id} names no training run", exit_code=ExitCode.UNKNOWN_NAME)
    try:
        with unwrapped():
            return await _in_turn(settings, job, await boxes_of(settings, job))
    except SyncFailed:
        raise
    except Fatal as error:
        raise SyncFailed(str(error), hint=error.hint, exit_code=error.exit_code) from error
    except DiskFull as error:
        raise SyncFailed(str(error), hint=error.hint, exit_code=ExitCode.DISK_FULL) from error
    except HarvestError as error:
        raise SyncFailed(str(error), hint=error.hint, exit_code=ExitCode.PARTIAL) from error


async def _in_turn(settings: Settings, job: Job, hosts: Sequence[Host]) -> Synced:
    """Sync the job as soon as no other process holds the data root; that process may sync it meanwhile."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with unwrapped():
                return await _brought(settings, job, hosts)
        except Fatal as error:
            if error.exit_code is not ExitCode.LOCKED:
                raise
            found = await anyio.to_thread.run_sync(read_job, settings.jobs.directory, job.id)
            if found.synced_at is not None:
                return Synced(found, by_daemon=True)
            if time.monotonic() >= deadline:
                raise SyncFailed(
                    f"{error}, and has not brought all of {job.id} yet (its status is {escaped(str(found.status))})",
                    hint=f"a daemon brings it by itself when it is {FINISHED}; its events (job.waiting) say what waits",
                    exit_code=ExitCode.LOCKED,
                ) from error
        await anyio.sleep(_ASK_EVERY)


async def _brought(settings: Settings, job: Job, hosts: Sequence[Host]) -> Synced:
    async with open_context(settings, NullListener()) as (context, root):
        context.selection = replace(context.selection, only=job.run)
        results = _results(job, await visited(hosts, context, root))
        if any(result.disk_full for result in results):
            raise SyncFailed(
                f"not all of {job.id} was fetched: no room at {settings.data_root}", exit_code=ExitCode.DISK_FULL
            )
        reasons = await missing(job, context, list(context.states.outlooks()))
        reasons += [f"{place}: {why}" for result in results for place, why in result.conflicts.items()]
        experiment = experiment_of(job, context.catalogue.knowledge)
        if reasons or experiment is None:
            raise SyncFailed(f"not all of {job.id} is here: {told(reasons)}", exit_code=ExitCode.PARTIAL)
        here = f"{settings.data_root}/{experiment.directory}"
    # The status from before the pass: a job that finished since may have written more.
    if job.status == RUNNING:
        raise SyncFailed(
            f"what {job.id} has written so far is in {here}; it is not noted as synced, for its status is {RUNNING}",
            hint=f"sync it again when it is {FINISHED}; a daemon does so by itself",
            exit_code=ExitCode.PARTIAL,
        )
    job = await anyio.to_thread.run_sync(mark_synced, settings.jobs.directory, job.id, here)
    get_logger().info(Event.JOB_SYNCED, job_id=job.id, run_id=job.run, path=here)
    return Synced(job, sum(result.files for result in results), sum(result.bytes for result in results))


def _results(job: Job, outcomes: Sequence[HostOutcome]) -> list[PassResult]:
    """Return the results of the hosts that could be read; raise `SyncFailed` (5) where none could."""
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if errors and not results:
        message = f"the box of {job.id} can't be read: {escaped(str(errors[0]))}"
        raise SyncFailed(message, hint=errors[0].hint, exit_code=ExitCode.NO_HOST) from errors[0]
    return results


def told(reasons: Sequence[str]) -> str:
    """Return the first reasons in a line, safe to display."""
    more = [f"and {len(reasons) - _MOST_REASONS} more"] if len(reasons) > _MOST_REASONS else []
    return "; ".join([escaped(reason) for reason in reasons[:_MOST_REASONS]] + more)
