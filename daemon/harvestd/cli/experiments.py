"""`harvestd experiments`: the directories of the data root, and how much of each is here."""

from collections.abc import Mapping, Sequence

import click
from sqlalchemy import Connection

from harvestd.catalogue import reading
from harvestd.cli import quantities
from harvestd.cli.flags import Flags, with_flags, with_json
from harvestd.cli.loading import settings_of
from harvestd.cli.output import Page, print_json
from harvestd.cli.tables import Column, Row, Styled
from harvestd.convention.records import ExperimentRecord, RunRecord
from harvestd.convention.values import Immutable

_EXPERIMENTS = """\b
--json: experiments[] {experiment, id, aliases[], gone, runs[], finished, evals, files, bytes, newest}
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
    holding: reading.Holding

    @property
    def finished(self) -> bool:
        return all(run.finished for run in self.runs)

    @property
    def state(self) -> Styled:
        if self.experiment.gone:
            return Styled("taken away", "yellow")
        return Styled("finished", "green") if self.finished else Styled("running", "")


@click.command(epilog=_EXPERIMENTS)
@with_json
@with_flags
@click.pass_obj
def experiments(flags: Flags, *, as_json: bool) -> None:
    """List all experiments, with what is here of them."""
    with reading.questions(settings_of(flags).state) as connection:
        views = _views(connection)
        waiting = reading.holdings(connection).get(None)
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
            f"{quantities.count(waiting.files, 'file')} of {quantities.count(waiting.evals, 'eval')} wait in _unfiled: "
            "their run was not seen; `harvestd name RUN NAME` files them"
        )


def _views(connection: Connection) -> list[_View]:
    """Give all experiments, those with the newest run first."""
    holdings: Mapping[str | None, reading.Holding] = reading.holdings(connection)
    runs: dict[str | None, list[RunRecord]] = {}
    for run in reading.runs(connection):
        runs.setdefault(run.experiment, []).append(run)
    nothing = reading.Holding(0, 0)
    known = reading.experiments(connection).values()
    views = [_View(each, runs.get(each.id, []), holdings.get(each.id, nothing)) for each in known]
    return sorted(views, key=lambda view: (max((run.name for run in view.runs), default=""), view.experiment.directory))


def _row(view: _View) -> Row:
    return (
        view.experiment.directory,
        view.state,
        str(view.holding.evals),
        str(view.holding.files),
        quantities.size(view.holding.size),
        quantities.age(view.holding.newest),
    )


def _document(view: _View) -> dict[str, object]:
    return {
        "experiment": view.experiment.directory,
        "id": view.experiment.id,
        "aliases": list(view.experiment.aliases),
        "gone": view.experiment.gone,
        "runs": [run.name for run in view.runs],
        "finished": view.finished,
        "evals": view.holding.evals,
        "files": view.holding.files,
        "bytes": view.holding.size,
        "newest": quantities.timestamp(view.holding.newest),
    }
