"""The interface for the launcher of remote evals: `sync_results`, which blocks and returns a bool.

It needs no event loop of the caller's and leaves none behind. Events go to the logger "harvestd" of `logging`, unless
the program has configured structlog itself.
"""

import asyncio
import os
from pathlib import Path

import anyio

from harvestd.errors import ExitCode, Fatal
from harvestd.lambda_eval.failures import SyncFailed
from harvestd.lambda_eval.syncing import sync_job
from harvestd.settings import Settings, find_config, load
from harvestd.settings.access import require_access, require_account
from harvestd.settings.load import CONFIG_VARIABLE
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger, speak_through_logging

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
