"""`harvestd experiments`: list the directories of the data root, and how much of each is here."""

from collections.abc import Mapping, Sequence

import click
from sqlalchemy import Connection

from harvestd.catalogue import queries
from harvestd.cli.flags import Flags, with_flags, with_json
from harvestd.cli.load_settings import settings_of
from harvestd.cli.output import units
from harvestd.cli.output.hosts_runs import cell_of
from harvestd.cli.output.page import Column, Page, Row, Styled, print_json
from harvestd.convention.structs import Immutable
from harvestd.documents.stored import Standings
from harvestd.json_text import timestamp
from harvestd.planning.records import ExperimentRecord, RunRecord
from harvestd.planning.run_status import ORDER, RunStatus, Standing

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
    standing: Standing | None
    """Of its run; None where no run was ever seen."""

    @property
    def finished(self) -> bool:
        return self.standing is not None and self.standing.status is RunStatus.FINISHED

    @property
    def newest_run(self) -> str:
        return max((run.name for run in self.runs), default="")

    @property
    def state(self) -> Styled:
        if self.experiment.gone:
            return Styled("taken away", "yellow")
        return Styled("no run seen", "") if self.standing is None else cell_of(self.standing)


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
    standings = Standings(connection)
    views = [
        _View(each, own, holdings.get(each.id, nothing), _liveliest([standings.of(run) for run in own if run.was_seen]))
        for each in known
        for own in [runs.get(each.id, [])]
    ]
    views.sort(key=lambda view: view.experiment.directory)
    return sorted(views, key=lambda view: view.newest_run, reverse=True)


def _liveliest(found: Sequence[Standing]) -> Standing | None:
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
        "state": view.standing.status.value if view.standing else None,
        "finished": view.finished,
        "evals": view.holding.evals,
        "files": view.holding.files,
        "bytes": view.holding.size,
        "newest": timestamp(view.holding.newest),
    }
