"""Bringing one job home: look at its box for its run alone, judge what is here, and say so in its file.

Where a daemon holds the data root it is left to that one, which watches the same files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import anyio
import anyio.to_thread

from harvestd.errors import DiskFull, ExitCode, Fatal, HarvestError, HostQuarantined, Retry, unwrapped
from harvestd.harvest.house import House
from harvestd.harvest.monitor import Silent
from harvestd.harvest.opening import opened_house
from harvestd.harvest.results import PassResult
from harvestd.harvest.watcher import single_pass
from harvestd.inventory.provider import Host
from harvestd.lambda_eval.boxes import boxes_of
from harvestd.lambda_eval.failures import SyncFailed
from harvestd.lambda_eval.job_files import FINISHED, Job, mark_synced, read_job
from harvestd.lambda_eval.judging import experiment_of, missing
from harvestd.settings import Settings
from harvestd.store.root import DataRoot
from harvestd.telemetry.escaping import escaped
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

_PATIENCE = 60.0
"""Seconds in which a daemon should have noted what it has brought already, or brings now."""
_ASK_EVERY = 0.25
_MOST_REASONS = 5


@dataclass(frozen=True, slots=True)
class Synced:
    """A job whose results are all here."""

    job: Job
    """As its file says now."""
    files: int = 0
    bytes: int = 0
    """What came this time."""
    by_daemon: bool = False


async def sync_job(settings: Settings, job_id: str) -> Synced:
    """Bring the run and the evals of a job into the data root, and write into its file where they are.

    Raises `SyncFailed` for all that stands in the way; whatever came home until then stays.
    """
    directory = settings.jobs.directory
    job = await anyio.to_thread.run_sync(read_job, directory, job_id)
    if job.run is None:
        raise SyncFailed(f"{job.id} names no training run", exit_code=ExitCode.UNKNOWN_NAME)
    try:
        with unwrapped():
            hosts = await boxes_of(settings, job)
            synced = await _brought(settings, job, hosts)
    except SyncFailed:
        raise
    except Fatal as error:
        if error.exit_code is ExitCode.LOCKED:
            return await _left_to_daemon(settings, job, error)
        raise SyncFailed(str(error), hint=error.hint, exit_code=error.exit_code) from error
    except DiskFull as error:
        raise SyncFailed(str(error), hint=error.hint, exit_code=ExitCode.DISK_FULL) from error
    except HarvestError as error:
        raise SyncFailed(str(error), hint=error.hint, exit_code=ExitCode.PARTIAL) from error
    return synced


async def _brought(settings: Settings, job: Job, hosts: Sequence[Host]) -> Synced:
    async with opened_house(settings, Silent()) as (house, root):
        house.selection = replace(house.selection, only=job.run)
        house.known = len(hosts)
        results = await _visited(job, hosts, house, root)
        if any(result.disk_full for result in results):
            raise SyncFailed(
                f"not all of {job.id} was fetched: no room at {settings.data_root}", exit_code=ExitCode.DISK_FULL
            )
        reasons = missing(job, house, list(house.outlooks.values()))
        reasons += [f"{place}: {why}" for result in results for place, why in result.conflicts.items()]
        experiment = experiment_of(job, house.catalogue.knowledge)
        if reasons or experiment is None:
            raise SyncFailed(f"not all of {job.id} is here: {told(reasons)}", exit_code=ExitCode.PARTIAL)
        here = f"{settings.data_root}/{experiment.directory}"
    job = await anyio.to_thread.run_sync(mark_synced, settings.jobs.directory, job.id, here)
    get_logger().info(Event.JOB_SYNCED, job_id=job.id, run_id=job.run, path=here)
    return Synced(job, sum(result.files for result in results), sum(result.bytes for result in results))


async def _visited(job: Job, hosts: Sequence[Host], house: House, root: DataRoot) -> list[PassResult]:
    """Visit the hosts one by one; raises `SyncFailed` (5) where none of them could be read."""
    results: list[PassResult] = []
    errors: list[Retry | HostQuarantined] = []
    for host in hosts:
        try:
            with unwrapped():
                results.append(await single_pass(host, house, root))
        except (Retry, HostQuarantined) as error:
            errors.append(error)
    if errors and not results:
        first = errors[0]
        message = f"the box of {job.id} can't be read: {escaped(str(first))}"
        raise SyncFailed(message, hint=first.hint, exit_code=ExitCode.NO_HOST) from first
    return results


def told(reasons: Sequence[str]) -> str:
    """Give the first reasons in a line, safe to look at."""
    more = [f"and {len(reasons) - _MOST_REASONS} more"] if len(reasons) > _MOST_REASONS else []
    return "; ".join([escaped(reason) for reason in reasons[:_MOST_REASONS]] + more)


async def _left_to_daemon(settings: Settings, job: Job, held: Fatal) -> Synced:
    """Wait until the daemon has noted in the file that all is here; raises `SyncFailed` (7) where it does not."""
    if job.status != FINISHED and job.synced_at is None:
        raise SyncFailed(
            f"{held}, which syncs {job.id} by itself once its status is {FINISHED}",
            hint=held.hint,
            exit_code=ExitCode.LOCKED,
        ) from held
    if not settings.jobs.watch:
        raise SyncFailed(f"{held}, and jobs.watch is off", hint=held.hint, exit_code=ExitCode.LOCKED) from held
    with anyio.move_on_after(_PATIENCE):
        while True:
            found = await anyio.to_thread.run_sync(read_job, settings.jobs.directory, job.id)
            if found.synced_at is not None:
                return Synced(found, by_daemon=True)
            await anyio.sleep(_ASK_EVERY)
    raise SyncFailed(
        f"{held}, and has not brought all of {job.id} yet: it goes on",
        hint="`harvestd status` says whether it reaches the box, its events (job.waiting) what is missing",
        exit_code=ExitCode.LOCKED,
    ) from held
