"""`harvestd experiments` and `report`: list the directories of the data root, and write the report of one."""

from collections.abc import Mapping, Sequence
from functools import partial

import anyio
import anyio.to_thread
import click
from sqlalchemy import Connection

from harvestd.catalogue import queries
from harvestd.cli import completion, show_details
from harvestd.cli.errors import print_warning, run_interruptible
from harvestd.cli.flags import Flags, settings_of, with_flags, with_json
from harvestd.cli.output import units
from harvestd.cli.output.hosts_runs import cell_of
from harvestd.cli.output.page import Column, Page, Row, Styled, print_json
from harvestd.cli.show_details import Shown
from harvestd.convention.paths import ANALYSIS, README
from harvestd.convention.structs import Immutable
from harvestd.documents.stored import RunStatuses
from harvestd.errors import ExitCode, Fatal
from harvestd.json_text import timestamp
from harvestd.planning.records import ExperimentRecord, RunRecord
from harvestd.planning.run_status import ORDER, CurrentStatus, RunStatus
from harvestd.report import analysis, making
from harvestd.report.making import Drawing, Written
from harvestd.report.small_files import Evals, Known
from harvestd.settings import Settings
from harvestd.store.root import DataRoot

_EXPERIMENTS = """\b
--json: experiments[] {experiment, id, aliases[], gone, runs[], state, finished, evals, files, bytes, newest}
state as of `runs`; null for evals whose run was never seen
"""
_COLUMNS = (
    Column("EXPERIMENT", wide=True),
    Column("STATE"),
    Column("EVALS", "right"),
    Column("FILES", "right"),
    Column("SIZE", "right"),
    Column("NEWEST"),
)


class _View(Immutable):
    experiment: ExperimentRecord
    runs: Sequence[RunRecord]
    holding: queries.Holding
    current: CurrentStatus | None
    """Of its run; None where no run was ever seen."""

    @property
    def finished(self) -> bool:
        return self.current is not None and self.current.status is RunStatus.FINISHED

    @property
    def newest_run(self) -> str:
        return max((run.name for run in self.runs), default="")

    @property
    def state(self) -> Styled:
        if self.experiment.gone:
            return Styled("taken away", "yellow")
        return Styled("no run seen", "") if self.current is None else cell_of(self.current)


@click.command(epilog=_EXPERIMENTS)
@with_json
@with_flags
@click.pass_obj
def experiments(flags: Flags, *, as_json: bool) -> None:
    """List all experiments, with what is here of them."""
    with queries.questions(settings_of(flags).state) as connection:
        views = _views(connection)
        waiting = queries.holdings(connection).get(None)
    if as_json:
        print_json({"experiments": [_document(view) for view in views]})
        return
    page = Page()
    if views:
        page.table(_COLUMNS, [_row(view) for view in views])
    else:
        page.line("no experiments yet")
    if waiting is not None:
        page.line(
            f"{units.count(waiting.files, 'file')} of {units.count(waiting.evals, 'eval')} wait in _unfiled: "
            "their run was not seen; `harvestd name RUN NAME` files them"
        )


def _views(connection: Connection) -> list[_View]:
    """Return all experiments, those with the newest run first."""
    holdings: Mapping[str | None, queries.Holding] = queries.holdings(connection)
    runs: dict[str | None, list[RunRecord]] = {}
    for run in queries.runs(connection):
        runs.setdefault(run.experiment, []).append(run)
    nothing = queries.Holding(0, 0)
    known = queries.experiments(connection).values()
    run_statuses = RunStatuses(connection)
    views = [
        _View(
            each, own, holdings.get(each.id, nothing), _liveliest([run_statuses.of(run) for run in own if run.was_seen])
        )
        for each in known
        for own in [runs.get(each.id, [])]
    ]
    views.sort(key=lambda view: view.experiment.directory)
    return sorted(views, key=lambda view: view.newest_run, reverse=True)


def _liveliest(found: Sequence[CurrentStatus]) -> CurrentStatus | None:
    """Return the most active standing of an experiment's run with records of several storages; None without any."""
    return min(found, key=lambda each: ORDER.index(each.status), default=None)


def _row(view: _View) -> Row:
    return (
        view.experiment.directory,
        view.state,
        str(view.holding.evals),
        str(view.holding.files),
        units.size(view.holding.size),
        units.age(view.holding.newest),
    )


def _document(view: _View) -> dict[str, object]:
    return {
        "experiment": view.experiment.directory,
        "id": view.experiment.id,
        "aliases": list(view.experiment.aliases),
        "gone": view.experiment.gone,
        "runs": [run.name for run in view.runs],
        "state": view.current.status.value if view.current else None,
        "finished": view.finished,
        "evals": view.holding.evals,
        "files": view.holding.files,
        "bytes": view.holding.size,
        "newest": timestamp(view.holding.newest),
    }


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
