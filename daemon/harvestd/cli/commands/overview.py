"""`harvestd status`, `hosts`, `runs`, `show` and `explain`: what is known, with or without a running daemon."""

import sys
import time
from datetime import timedelta
from itertools import islice

import click

from harvestd.catalogue import queries
from harvestd.cli import completion, explain_details, show_details
from harvestd.cli.daemon import condition_of, daemon_document, watcher_of
from harvestd.cli.errors import print_warning
from harvestd.cli.explain_details import LocalPlace, local_place, place_of
from harvestd.cli.flags import Flags, optional_span, settings_of, with_flags, with_json
from harvestd.cli.output import hosts_runs, units
from harvestd.cli.output.page import Page, console_on, print_json
from harvestd.documents import forms, stored
from harvestd.documents.stored import RunStatuses
from harvestd.errors import ExitCode, Fatal
from harvestd.planning.requests import RequestKind

_HOST_KEYS = f"""{forms.HOST_KEYS}
Without a daemon no state is connected or ending but not_watched, and no
verdict is fresh: `safe` is false then, `answer_then` says what it was."""
_RUN_KEYS = f"""{forms.RUN_KEYS}
state is running, stalled (silent), diverged (its loss is no number), died,
  unknown (not finished, and its host is not watched), or finished"""
_FILE_KEYS = """path, kind, bytes, sha256, host, from, from_bytes,
  from_modified, fetched, reason"""
_STATUS = """\b
Exit codes: 0, 7 no daemon runs: what is shown is what the catalogue knows.
--watch on a terminal ends with 0, by Ctrl-C or SIGTERM.

\b
--json: daemon {running, pid, answers, paused, stuck}, data_root,
  experiments, files, bytes, requests_outstanding, hosts[] as of `hosts`, runs[] as of `runs`
"""
_HOSTS = f"""\b
Exit codes: 0, 4 unknown host.

\b
--json: daemon {{running, pid}}, hosts[]:
  {_HOST_KEYS}
"""
_RUNS = f"""\b
--json: runs[]:
  {_RUN_KEYS}
"""
_SHOW = f"""\b
Exit codes: 0, 4 unknown name, or one that two runs have.

\b
--json: experiment, id, aliases[], gone, name {{PART: {{value, source}}}}, runs[] as of `runs`,
requests[] {{id, kind, what, state, asked, taken, settled, outcome}},
left_out[] {{host, from, bytes, entries, reason, gone_at}}, files[]:
  {_FILE_KEYS}
"""
_EXPLAIN = f"""\b
PATH: a local one, absolute or relative to here or to the data root;
HOST:/PATH or /PATH for one on a box. Exit codes: 0, 4 nothing is known of it.

\b
--json: asked, directory, note,
left_out[] {{host, from, bytes, entries, reason, gone_at}}, files[]:
  {_FILE_KEYS}
"""


@click.command(epilog=_STATUS)
@click.option("--watch", is_flag=True, help="Show it live until Ctrl-C; off a terminal it is shown once.")
@with_json
@with_flags
@click.pass_obj
def status(flags: Flags, *, watch: bool, as_json: bool) -> ExitCode:
    """Show how hosts and runs stand."""
    settings = settings_of(flags)
    # rich takes a pipe for a terminal where a variable requests colours; a live screen needs a real one.
    console = console_on(sys.stdout) if watch and not as_json and sys.stdout.isatty() else None
    if console is not None and not console.is_dumb_terminal:
        from harvestd.cli.watch import watch_status  # noqa: PLC0415  (rich: only a terminal needs it)

        watch_status(settings, console)
        return ExitCode.OK
    daemon = watcher_of(settings)
    condition = condition_of(settings, daemon)
    with queries.questions(settings.state) as connection:
        hosts = stored.hosts(connection, settings)
        runs = queries.runs(connection)
        experiments = queries.experiments(connection)
        run_statuses = RunStatuses(connection)
        holdings = queries.holdings(connection).values()
        outstanding = [
            request
            for request in queries.requests(connection)
            if request.is_open and request.kind is not RequestKind.JUDGE
        ]
    if daemon is None:
        print_warning("no daemon runs; this is what the catalogue knows", "`harvestd run` starts one")
    if as_json:
        print_json(
            {
                "daemon": {
                    **daemon_document(daemon),
                    "answers": condition.answers,
                    "paused": condition.paused,
                    "stuck": condition.stuck,
                },
                "data_root": str(settings.data_root),
                "hosts": [host.document(watched=host.is_watched(daemon=daemon is not None)) for host in hosts],
                "runs": stored.run_documents(runs, experiments, run_statuses),
                "experiments": len(experiments),
                "files": sum(each.files for each in holdings),
                "bytes": sum(each.size for each in holdings),
                "requests_outstanding": len(outstanding),
            }
        )
    else:
        page = Page()
        if daemon is not None:
            page.line(f"The daemon is process {daemon.pid}." if daemon.pid else "The daemon starts at this moment.")
            if condition.trouble:
                page.line(condition.trouble, "yellow")
        page.heading("hosts" if hosts else "no hosts")
        rows = [hosts_runs.host_row(host, watched=host.is_watched(daemon=daemon is not None)) for host in hosts]
        page.table(hosts_runs.HOSTS, rows)
        page.heading("runs" if runs else "no runs")
        shown, hidden = hosts_runs.living_and_newest(runs, run_statuses)
        page.table(hosts_runs.RUNS, [hosts_runs.run_row(run, experiments, run_statuses) for run in shown])
        if hidden:
            page.line(f"and {units.count(hidden, 'earlier run')}: `harvestd runs` lists all")
        if outstanding:
            page.heading(f"{len(outstanding)} asked for by hand, outstanding")
        page.heading("at home")
        page.line(f"{hosts_runs.total_of(holdings, len(experiments))} in {settings.data_root}")
    return ExitCode.LOCKED if daemon is None else ExitCode.OK


@click.command(epilog=_HOSTS)
@click.argument("names", metavar="[HOST]...", nargs=-1, shell_complete=completion.hosts)
@with_json
@with_flags
@click.pass_obj
def hosts(flags: Flags, names: tuple[str, ...], *, as_json: bool) -> None:
    """List HOSTs (all): configured ones and ones seen before."""
    settings = settings_of(flags)
    with queries.questions(settings.state) as connection:
        known = stored.hosts(connection, settings)
    unknown = [name for name in names if name not in {host.name for host in known}]
    if unknown:
        raise Fatal(
            f"no host is called {', '.join(unknown)}",
            hint=f"known: {', '.join(host.name for host in known) or 'none; add [[hosts]] to the configuration'}",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    daemon = watcher_of(settings)
    wanted = [(host, host.is_watched(daemon=daemon is not None)) for host in known if not names or host.name in names]
    if as_json:
        listed = [host.document(watched=watched) for host, watched in wanted]
        print_json({"daemon": daemon_document(daemon), "hosts": listed})
    elif wanted:
        Page().table(hosts_runs.HOSTS, [hosts_runs.host_row(host, watched=watched) for host, watched in wanted])
    else:
        Page().line("no hosts: none is configured, and none was ever seen")


@click.command(epilog=_RUNS)
@click.option("--active", is_flag=True, help="Those alone that have neither finished nor died.")
@click.option("--since", metavar="SPAN", callback=optional_span, help="Those alone that made progress lately, e.g. 2h.")
@click.option("-n", "--newest", metavar="N", type=click.IntRange(0), help="So many at most, the newest.")
@with_json
@with_flags
@click.pass_obj
def runs(flags: Flags, *, active: bool, since: timedelta | None, newest: int | None, as_json: bool) -> None:
    """List all training runs that were seen, the newest first."""
    settings = settings_of(flags)
    with queries.questions(settings.state) as connection:
        everything = queries.runs(connection)
        experiments = queries.experiments(connection)
        run_statuses = RunStatuses(connection)
    wanted = (run for run in everything if not active or not run_statuses.of(run).is_over)
    if since is not None:
        begin = time.time() - since.total_seconds()
        wanted = (run for run in wanted if (run.step_at or 0.0) >= begin)
    known = list(islice(wanted, newest))
    if as_json:
        print_json({"runs": stored.run_documents(known, experiments, run_statuses)})
    elif known:
        Page().table(hosts_runs.RUNS, [hosts_runs.run_row(run, experiments, run_statuses) for run in known])
    elif everything:
        Page().line(f"none of {units.count(len(everything), 'run')} is of that kind")
    else:
        Page().line("no runs were seen yet")


@click.command(epilog=_SHOW)
@click.argument("name", shell_complete=completion.runs_and_experiments)
@with_json
@with_flags
@click.pass_obj
def show(flags: Flags, name: str, *, as_json: bool) -> None:
    """Show all of an experiment or a run.

    Where its name came from, its runs, its files, and what was left out. NAME is an experiment's directory or id, or
    the name of a run.
    """
    with queries.questions(settings_of(flags).state) as connection:
        shown = show_details.find(connection, name)
    if as_json:
        print_json(show_details.document(shown))
    else:
        show_details.write(Page(), shown)


@click.command(epilog=_EXPLAIN)
@click.argument("path")
@with_json
@with_flags
@click.pass_obj
def explain(flags: Flags, path: str, *, as_json: bool) -> None:
    """Explain where a file came from, or why one is not here."""
    settings = settings_of(flags)
    place = place_of(path, settings.data_root)
    with queries.questions(settings.state) as connection:
        if isinstance(place, LocalPlace):
            now = explain_details.path_now(connection, place.path)
            if now != place.path and not place.exists:
                place = local_place(now, settings.data_root)
            found = explain_details.explain_local(connection, place)
        else:
            found = explain_details.explain_remote(connection, place)
    if as_json:
        print_json(explain_details.document(found))
    else:
        explain_details.write(Page(), found)
