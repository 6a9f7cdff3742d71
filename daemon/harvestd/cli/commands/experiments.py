"""`harvestd experiments`, `compare` and `report`: the results of the experiments here, and the report of one."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import click
from sqlalchemy import Connection

from harvestd.catalogue import queries
from harvestd.cli import completion, show_details
from harvestd.cli.errors import print_warning, run_interruptible
from harvestd.cli.flags import Flags, settings_of, with_flags, with_json
from harvestd.cli.output import results_pages, units
from harvestd.cli.output.page import Page, print_json, print_text
from harvestd.cli.show_details import Shown
from harvestd.convention.paths import ANALYSIS, README
from harvestd.documents import comparison as comparing
from harvestd.documents.comparison import COMPARE_KEYS, FEWEST, MOST
from harvestd.documents.experiments import EXPERIMENT_KEYS, ExperimentReader, ExperimentView
from harvestd.errors import ExitCode, Fatal
from harvestd.planning.run_status import ORDER
from harvestd.report import analysis, making
from harvestd.report.making import Drawing, Written
from harvestd.report.results import ResultsReader
from harvestd.report.small_files import Evals, Known
from harvestd.settings import Settings
from harvestd.store.root import DataRoot

_EXPERIMENTS = f"""\b
Exit codes: 0, 2 an unknown key to sort by.

\b
--json: experiments[]:
  {EXPERIMENT_KEYS}
state as of `runs`; null for evals whose run was never seen. base, last and
best are of `setting`, with which most of its evals were made; best is the
one with the highest pass_rate
"""

_Sorting = Callable[[ExperimentView], Any]
_SORTS: Mapping[str, tuple[_Sorting, bool]] = {
    "newest": (lambda view: view.newest_run, True),
    "name": (lambda view: view.experiment.directory, False),
    "date": (lambda view: view.part("date"), True),
    "model": (lambda view: view.part("model"), False),
    "hardware": (lambda view: view.part("hardware"), False),
    "steps": (lambda view: view.progress[1], True),
    "state": (lambda view: ORDER.index(view.current.status) if view.current else None, False),
    "last": (lambda view: view.last.rate if view.last else None, True),
    "best": (lambda view: view.best.rate if view.best else None, True),
    "size": (lambda view: view.holding.size, True),
    "left-out": (lambda view: view.left_out.size, True),
}
"""Each key with what it sorts by (None comes last), and whether the greatest comes first."""


@click.command(epilog=_EXPERIMENTS)
@click.option("--sort", "key", metavar="KEY", default="newest", show_default=True, help=f"{', '.join(_SORTS)}.")
@with_json
@with_flags
@click.pass_obj
def experiments(flags: Flags, key: str, *, as_json: bool) -> None:
    """List all experiments with their results.

    The pass rate is the share of a question's answers that are right, averaged over the questions, ± one standard
    error; the best step is the one with the highest.
    """
    settings = settings_of(flags)
    if key not in _SORTS:
        close = difflib.get_close_matches(key, _SORTS, n=1)
        raise Fatal(
            f"experiments can't be sorted by {key}",
            hint=f"{f'did you mean {close[0]}? ' if close else ''}the keys are {', '.join(_SORTS)}",
            exit_code=ExitCode.CONFIGURATION,
        )
    with queries.questions(settings.state) as connection:
        with experiment_reader(settings, connection) as reader:
            views = _sorted(reader.views(connection), key)
        waiting = queries.holdings(connection).get(None)
    if as_json:
        print_json({"experiments": [view.document() for view in views]})
        return
    page = Page()
    if views:
        results_pages.write_experiments(page, views)
    else:
        page.line("no experiments yet: `harvestd plan` shows what the hosts have, `harvestd run` brings it")
    if waiting is not None:
        page.line(
            f"{units.count(waiting.files, 'file')} of {units.count(waiting.evals, 'eval')} wait in _unfiled: "
            "their run was not seen; `harvestd name RUN NAME` files them"
        )


def _sorted(views: Sequence[ExperimentView], key: str) -> list[ExperimentView]:
    value, greatest_first = _SORTS[key]
    known = [view for view in views if value(view) is not None]
    return sorted(known, key=value, reverse=greatest_first) + [view for view in views if value(view) is None]


@contextmanager
def experiment_reader(settings: Settings, connection: Connection) -> Iterator[ExperimentReader]:
    """Provide a reader of experiments; without results, and a warning, where the data root can't be opened."""
    results = ResultsReader(Evals())
    with ExitStack() as opened:
        root = None
        if queries.experiments(connection):
            try:
                root = opened.enter_context(DataRoot.open(settings.data_root, create=False))
            except Fatal as error:
                print_warning(f"no results: {error}", error.hint)
        yield ExperimentReader(root, results)


_COMPARE = f"""\b
Exit codes: 0, 2 fewer than {FEWEST}, more than {MOST}, or one of them twice,
4 unknown name.

\b
--json: {COMPARE_KEYS}
word is better, within_error (less than two standard errors), worse, or null
(too few questions). --csv: a row for each experiment and setting.
"""


@click.command(epilog=_COMPARE)
@click.argument("names", metavar="NAME NAME...", nargs=-1, shell_complete=completion.runs_and_experiments)
@click.option("--csv", "as_csv", is_flag=True, help="Answer with CSV, for a spreadsheet.")
@with_json
@with_flags
@click.pass_obj
def compare(flags: Flags, names: tuple[str, ...], *, as_csv: bool, as_json: bool) -> None:
    """Compare the results of two to eight experiments.

    NAME is an experiment's directory or id, the name of a run, or the beginning of one. Each is compared with the first
    one, at the last step at which both were evaluated with equal settings; question by question where both have the
    same ones.
    """
    settings = settings_of(flags)
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two forms of the answer: choose one")
    with queries.questions(settings.state) as connection, experiment_reader(settings, connection) as reader:
        comparison = comparing.compare(connection, reader, names)
    if as_json:
        print_json(comparison.document())
    elif as_csv:
        print_text(results_pages.comparison_csv(comparison))
    else:
        results_pages.write_comparison(Page(), comparison)


_REPORT = """\b
Exit codes: 0, 3 a script failed, 4 unknown name, or one that two runs have.

\b
--json: experiment, readme, changed, scripts_written[], scripts_edited[],
pictures[], drawn, failed[] {script, error}
"""


@click.command(epilog=_REPORT)
@click.argument("name", shell_complete=completion.runs_and_experiments)
@with_json
@with_flags
@click.pass_obj
def report(flags: Flags, name: str, *, as_json: bool) -> ExitCode:
    """Make an experiment's README and pictures anew.

    The scripts in analysis/ come with them; one that a person edited stays as it is, and its picture is theirs.
    Pictures need matplotlib. NAME is an experiment's directory or id, or the name of a run.
    """
    settings = settings_of(flags)
    with queries.questions(settings.state) as connection:
        known = _known(show_details.find(connection, name), name)
    written, drawing = run_interruptible(partial(_make, settings, known))
    failed = drawing.drawn.failed if drawing else {}
    if drawing is None:
        print_warning("matplotlib is not installed: no pictures", "pip install 'harvestd[analysis]'")
    for script, error in failed.items():
        print_warning(f"{script} failed: {error}")
    if as_json:
        print_json(_report_document(known, written, drawing))
    else:
        _write(Page(), known, written, drawing)
    return ExitCode.PARTIAL if failed else ExitCode.OK


def _known(shown: Shown, name: str) -> Known:
    if shown.experiment is None:
        raise Fatal(
            f"{name} has no experiment yet",
            hint="`harvestd plan` says what it waits for",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    return Known(shown.experiment, shown.runs, shown.files, shown.left_out)


async def _make(settings: Settings, known: Known) -> tuple[Written, Drawing | None]:
    reader = Evals()
    root = await anyio.to_thread.run_sync(partial(DataRoot.open, settings.data_root, create=False))
    with root:
        try:
            written = await anyio.to_thread.run_sync(making.write, root, known, reader)
            if not analysis.can_draw():
                return written, None
            drawing = await making.draw(root, known, written.placed, analysis.cache_in(settings.state))
            await anyio.to_thread.run_sync(making.publish_pictures, root, known, drawing, reader)
        except FileNotFoundError as error:
            raise Fatal(
                f"the directory {known.experiment.directory} is not there",
                hint="`harvestd show` says where the experiment is",
                exit_code=ExitCode.UNKNOWN_NAME,
            ) from error
        return written, drawing


def _report_document(known: Known, written: Written, drawing: Drawing | None) -> dict[str, object]:
    drawn = drawing.drawn if drawing else None
    return {
        "experiment": known.experiment.directory,
        "readme": f"{known.experiment.directory}/{README}",
        "changed": written.changed,
        "scripts_written": list(written.placed.written),
        "scripts_edited": sorted(written.placed.edited),
        "drawn": drawn is not None,
        "pictures": sorted(drawn.pictures) if drawn else [],
        "failed": [{"script": script, "error": error} for script, error in (drawn.failed if drawn else {}).items()],
    }


def _write(page: Page, known: Known, written: Written, drawing: Drawing | None) -> None:
    directory = known.experiment.directory
    page.line(f"{directory}/{README}")
    for name in sorted(written.placed.edited):
        page.line(f"{directory}/{ANALYSIS}/{name} was edited here, and stays as it is")
    for name in sorted(drawing.drawn.pictures) if drawing else ():
        page.line(f"{directory}/{ANALYSIS}/{name}")
