"""`harvestd once`, `plan` and `sync`: one pass over hosts, with or without transfers, or for one remote eval job.

The same code as the daemon's.
"""

import sys
from collections.abc import Sequence

import click

from harvestd.cli import completion
from harvestd.cli.errors import run_interruptible
from harvestd.cli.flags import Flags, settings_of, with_flags, with_json
from harvestd.cli.one_pass import pass_exit_code, print_failures, visit
from harvestd.cli.output import pass_pages, units
from harvestd.cli.output.page import Page, print_json
from harvestd.errors import ExitCode, Retry
from harvestd.harvest.host import passes
from harvestd.harvest.host.passes import HostOutcome
from harvestd.lambda_eval.syncing import Synced, sync_job
from harvestd.settings import Settings
from harvestd.telemetry.log import configure

_ONCE = """\b
Exit codes: 0 everything complete is here, 3 some hosts or files failed,
4 unknown host, 5 no host reachable, 6 disk full, 7 a daemon is at work.

\b
--json: files, bytes, providers_failed[] {message, hint}, hosts[]:
  name, error {message, hint}, missing_roots[], seconds, files, bytes,
  failed[] {from, reason, attempts}, conflicts[] {to, reason},
  waiting[] {from, bytes, reason, seconds}, disk_full
"""
_PLAN = """\b
Exit codes: 0, 3 some hosts failed, 4 unknown host, 5 no host reachable.

\b
--json: bytes_to_fetch, providers_failed[] {message, hint}, hosts[]:
  name, error {message, hint}, missing_roots[], seconds, nothing_to_do,
  bytes_to_fetch, fetch[] {from, to[], kind, bytes, reason, group},
  append[] {from, to, kind, bytes, reason}, check[] {from, to, bytes},
  move[] {from, to}, link[] {path, target},
  waiting[] {from, bytes, reason, seconds},
  left_out[] {from, bytes, entries, reason, gone_at}
"""


@click.command(epilog=_ONCE)
@click.argument("hosts", metavar="[HOST]...", nargs=-1, shell_complete=completion.hosts)
@click.option("-v", "--verbose", is_flag=True, help="List what still waits, too.")
@with_json
@with_flags
@click.pass_obj
def once(flags: Flags, hosts: tuple[str, ...], *, verbose: bool, as_json: bool) -> ExitCode:
    """Make one full pass over HOSTs (all), then exit.

    Brings home everything that is complete now; what only has to settle is waited for.
    """
    settings = settings_of(flags)
    outcomes, failures = run_interruptible(_pass, settings, flags, hosts)
    print_failures(settings, outcomes, failures)
    if as_json:
        print_json(pass_pages.results_document(outcomes) | _failed_document(failures))
    else:
        pass_pages.write_results(Page(), outcomes, verbose=verbose)
    return pass_exit_code(outcomes, failures)


async def _pass(settings: Settings, flags: Flags, names: Sequence[str]) -> tuple[list[HostOutcome], Sequence[Retry]]:
    found = await passes.find_hosts(settings, names)
    return await visit(settings, flags, found.hosts), found.failures


@click.command(epilog=_PLAN)
@click.argument("hosts", metavar="[HOST]...", nargs=-1, shell_complete=completion.hosts)
@with_json
@with_flags
@click.pass_obj
def plan(flags: Flags, hosts: tuple[str, ...], *, as_json: bool) -> ExitCode:
    """Show what a pass over HOSTs (all) would fetch, and why.

    Also what waits until it is complete, and what is left out. Changes nothing, and works beside a running daemon.
    """
    settings = settings_of(flags)
    configure(flags.form_for_people, flags.log_level or "error", stream=sys.stderr)
    outcomes, failures = run_interruptible(_plan, settings, hosts)
    print_failures(settings, outcomes, failures)
    if as_json:
        print_json(pass_pages.plans_document(outcomes) | _failed_document(failures))
    else:
        pass_pages.write_plans(Page(), outcomes)
    return pass_exit_code(outcomes, failures)


async def _plan(settings: Settings, names: Sequence[str]) -> tuple[list[HostOutcome], Sequence[Retry]]:
    found = await passes.find_hosts(settings, names)
    return await passes.plan(settings, found.hosts), found.failures


def _failed_document(failures: Sequence[Retry]) -> dict[str, object]:
    return {"providers_failed": [pass_pages.error_document(failure) for failure in failures]}


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

    JOB_ID is the name of its file in jobs.directory, without `.json`. When everything is here, the time and the place
    are written to that file. A running daemon does that by itself for each job that has finished.
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
