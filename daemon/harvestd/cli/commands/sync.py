"""`harvestd sync`: fetch the results of one remote eval job on request."""

import sys

import click

from harvestd.cli.errors import run_interruptible
from harvestd.cli.flags import Flags, with_flags, with_json
from harvestd.cli.load_settings import settings_of
from harvestd.cli.output import units
from harvestd.cli.output.page import Page, print_json
from harvestd.lambda_eval.syncing import Synced, sync_job
from harvestd.telemetry.log import configure

_SYNC = """\b
Exit codes: 0 all is here, 3 something is missing, or the job still runs,
4 unknown job, 5 its box can't be read, 6 disk full, 7 a daemon is at work and has not brought it yet.

\b
--json: job_id, run, local_results_dir, synced_at, files, bytes, by_daemon
"""


@click.command(epilog=_SYNC)
@click.argument("job_id")
@with_json
@with_flags
@click.pass_obj
def sync(flags: Flags, job_id: str, *, as_json: bool) -> None:
    """Bring the run and the evals of a remote eval job home.

    JOB_ID is the name of its file in jobs.directory, without `.json`. The file is told when all is here, and where. A
    running daemon does that by itself for each job that has finished.
    """
    settings = settings_of(flags)
    configure(flags.form_for_people, flags.log_level or "warning", stream=sys.stderr)
    synced = run_interruptible(sync_job, settings, job_id)
    if as_json:
        print_json(_document(synced))
    else:
        brought = "the daemon brought it" if synced.by_daemon else _came(synced)
        Page().line(f"{synced.job.id} is in {synced.job.local_results_dir}: {brought}")


def _came(synced: Synced) -> str:
    return f"{units.count(synced.files, 'file')} came, {units.size(synced.bytes)}"


def _document(synced: Synced) -> dict[str, object]:
    return {
        "job_id": synced.job.id,
        "run": synced.job.run,
        "local_results_dir": synced.job.local_results_dir,
        "synced_at": synced.job.synced_at,
        "files": synced.files,
        "bytes": synced.bytes,
        "by_daemon": synced.by_daemon,
    }
