"""The interface for the launcher of remote evals: `sync_results`, which blocks and returns a bool.

It needs no event loop of the caller's and leaves none behind. Events go to the logger "harvestd" of `logging`, unless
the program has configured structlog itself.

Sync one job: scan its host for its run alone, check what is here, and record it in the job's file. Where a daemon
holds the data root it does the work, since it watches the same files; where another job is being synced, this one
waits.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
from msgspec.structs import replace

from harvestd.convention.structs import Immutable
from harvestd.errors import DiskFull, ExitCode, Fatal, HarvestError, unwrapped
from harvestd.harvest.host.failures import PassResult
from harvestd.harvest.host.passes import HostOutcome, visited
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.startup import open_context
from harvestd.inventory.host import Host
from harvestd.lambda_eval.job_files import FINISHED, RUNNING, Job, SyncFailed, mark_synced, read_job
from harvestd.lambda_eval.judging import boxes_of, experiment_of, missing
from harvestd.settings import Settings, find_config, load
from harvestd.settings.access import require_access, require_account
from harvestd.settings.load import CONFIG_VARIABLE
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger, speak_through_logging
from harvestd.telemetry.sanitize import escaped

TIMEOUT = 60.0
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
    deadline = time.monotonic() + TIMEOUT
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
        reasons = await missing(job, context, list(context.states.last_scans()))
        reasons += [f"{place}: {why}" for result in results for place, why in result.conflicts.items()]
        experiment = experiment_of(job, context.catalogue.knowledge)
        if reasons or experiment is None:
            raise SyncFailed(f"not all of {job.id} is here: {first_reasons(reasons)}", exit_code=ExitCode.PARTIAL)
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


def first_reasons(reasons: Sequence[str]) -> str:
    """Return the first reasons in a line, safe to display."""
    more = [f"and {len(reasons) - _MOST_REASONS} more"] if len(reasons) > _MOST_REASONS else []
    return "; ".join([escaped(reason) for reason in reasons[:_MOST_REASONS]] + more)


EXPERIMENT = "{experiment_name}"
"""Represents an experiment's directory in a `local_dir`."""


class LambdaEvaluationManager:
    """Syncs the results of remote eval jobs by their ids."""

    def __init__(
        self,
        jobs_dir: str | Path | None = None,
        config: str | Path | None = None,
        *,
        raise_on_error: bool = False,
    ) -> None:
        """Store the parameters.

        `jobs_dir` is the directory of job files; None: `jobs.directory` of the configuration.

        `config` is harvestd's file; None: it is found in the usual places, otherwise the defaults apply.
        `raise_on_error`: raise `SyncFailed` instead of returning False.
        """
        self._jobs_dir = None if jobs_dir is None else Path(jobs_dir).expanduser().absolute()
        self._config = None if config is None else Path(config)
        self._raise_on_error = raise_on_error

    def sync_results(self, job_id: str, local_dir: str | Path | None = None) -> bool:
        """Fetch the run and the evals of a job into the usual layout; return whether everything is here.

        `local_dir` is the directory of the experiments, which makes it a data root of its own; None: the
        configuration's data root. The job file gets `synced_at` and `local_results_dir`. Blocks; raise `RuntimeError`
        inside an event loop, see `sync_results_async`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return anyio.run(self.sync_results_async, job_id, local_dir)
        raise RuntimeError("sync_results blocks: inside an event loop, await sync_results_async")

    async def sync_results_async(self, job_id: str, local_dir: str | Path | None = None) -> bool:
        """Do the same as `sync_results`, on the caller's event loop (asyncio)."""
        speak_through_logging()
        try:
            await sync_job(self._settings(local_dir), job_id)
        except Fatal as error:
            get_logger().error(Event.JOB_FAILED, job_id=job_id, error=str(error), hint=error.hint)
            if not self._raise_on_error:
                return False
            if isinstance(error, SyncFailed):
                raise
            raise SyncFailed(str(error), hint=error.hint, exit_code=error.exit_code) from error
        return True

    def _settings(self, local_dir: str | Path | None) -> Settings:
        settings = self._configured()
        if self._jobs_dir is not None:
            jobs = settings.jobs.model_copy(update={"directory": self._jobs_dir})
            settings = settings.model_copy(update={"jobs": jobs})
        root = settings.data_root if local_dir is None else data_root_of(local_dir)
        if root == settings.data_root:
            return settings
        return settings.model_copy(update={"data_root": root, "state_dir": None})

    def _configured(self) -> Settings:
        try:
            file = find_config(self._config)
        except Fatal:
            if self._config is not None or os.environ.get(CONFIG_VARIABLE):
                raise
            return Settings()
        require_account(file)
        settings = load(file)
        require_access(settings)
        return settings


def data_root_of(local_dir: str | Path) -> Path:
    """Return the data root of a `local_dir`: the part before the experiment's directory.

    Raise `SyncFailed` (2) where the experiment's placeholder is not the last component.
    """
    path = Path(local_dir).expanduser().absolute()
    root = path.parent if path.name == EXPERIMENT else path
    if "{" in str(root):
        raise SyncFailed(
            f"{local_dir} is no place for experiments",
            hint=f"a directory, or one and {EXPERIMENT} as its last component",
            exit_code=ExitCode.CONFIGURATION,
        )
    return root
