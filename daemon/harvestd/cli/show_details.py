"""One experiment or one run: find it by a name, and show everything that is known of it."""

from collections.abc import Iterable

from sqlalchemy import Connection

from harvestd.catalogue import queries
from harvestd.cli.output import hosts_runs, lists, units
from harvestd.cli.output.page import Column, Page, Row
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.structs import Immutable
from harvestd.documents import stored
from harvestd.documents.stored import RunStatuses
from harvestd.json_text import timestamp
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
from harvestd.planning.requests import Request

_NAME = (Column("PART"), Column("VALUE", wide=True), Column("FROM", wide=True, mark="  from "))
_FILES = (
    Column("SIZE", "right"),
    Column("KIND"),
    Column("SHA256"),
    Column("FETCHED"),
    Column("FILE", wide=True),
    Column("FROM", wide=True, mark="← "),
)
_SHORT_HASH = 12


class Shown(Immutable):
    """The experiment or runs that a name refers to."""

    experiment: ExperimentRecord | None
    """None for a run that has none yet."""
    runs: tuple[RunRecord, ...]
    run_statuses: RunStatuses
    files: tuple[FileRecord, ...] = ()
    left_out: tuple[tuple[str, LeftOut], ...] = ()
    """As (host, entry)."""
    requests: tuple[Request, ...] = ()
    """Manual requests for its runs, oldest first."""


def find(connection: Connection, name: str) -> Shown:
    """Return what `name` refers to: an experiment's directory or id, a run, or the only one with this beginning.

    Raise `Fatal` (4) where there is none, or where two runs on different hosts have the name.
    """
    found = stored.find(connection, name)
    if found.experiment is None:
        requests = _requests(connection, found.runs)
        return Shown(None, found.runs, RunStatuses(connection), requests=requests)
    experiment = found.experiment
    return Shown(
        experiment,
        found.runs,
        RunStatuses(connection),
        tuple(queries.files_of(connection, experiment.id)),
        tuple(queries.left_out_of(connection, experiment.id)),
        _requests(connection, found.runs),
    )


def _requests(connection: Connection, runs: Iterable[RunRecord]) -> tuple[Request, ...]:
    keys = {run.key for run in runs}
    return tuple(request for request in queries.requests(connection) if request.run in keys)


def write(page: Page, shown: Shown) -> None:
    """Write the page."""
    experiment = shown.experiment
    if experiment is not None:
        page.heading(experiment.directory)
        page.table(_NAME, [(name, part.value, part.source) for name, part in experiment.name.parts.items()])
        if experiment.aliases:
            page.line(f"called before: {', '.join(experiment.aliases)}")
        if experiment.gone:
            page.line("its directory was taken away here: nothing of it is fetched")
    page.heading("runs")
    experiments = {experiment.id: experiment} if experiment else {}
    page.table(
        hosts_runs.RUNS[:-1], [hosts_runs.run_row(run, experiments, shown.run_statuses)[:-1] for run in shown.runs]
    )
    for run in shown.runs:
        page.line(f"{run.host}:{run.place}")
    if shown.requests:
        page.heading("asked for by hand")
        page.table(lists.REQUEST_COLUMNS, lists.request_rows(shown.requests))
    if shown.files:
        size = units.size(sum(file.size for file in shown.files))
        page.heading(f"{units.count(len(shown.files), 'file')}, {size}")
        page.table(_FILES, [_file_row(file) for file in shown.files])
    if shown.left_out:
        omitted = [each for _, each in shown.left_out]
        page.heading(f"{len(omitted)} left out, {lists.left_out_total(omitted)}")
        page.table(lists.LEFT_OUT_COLUMNS, lists.left_out_rows(omitted))


def _file_row(file: FileRecord) -> Row:
    return (
        units.size(file.size),
        str(file.kind),
        file.sha256[:_SHORT_HASH],
        units.age(file.fetched_at),
        "/".join(file.target.parts[1:]),
        f"{file.host}:{file.place}",
    )


def document(shown: Shown) -> dict[str, object]:
    """Return the JSON document; sizes in bytes."""
    experiment = shown.experiment
    experiments = {experiment.id: experiment} if experiment else {}
    parts = experiment.name.parts if experiment else {}
    return {
        "experiment": experiment.directory if experiment else None,
        "id": experiment.id if experiment else None,
        "aliases": list(experiment.aliases) if experiment else [],
        "gone": experiment.gone if experiment else False,
        "name": {name: {"value": part.value, "source": part.source} for name, part in parts.items()},
        "runs": stored.run_documents(shown.runs, experiments, shown.run_statuses),
        "requests": lists.request_documents(shown.requests),
        "files": [file_document(file) for file in shown.files],
        "left_out": [
            {"host": host, **entry}
            for (host, _), entry in zip(
                shown.left_out, lists.left_out_documents([each for _, each in shown.left_out]), strict=True
            )
        ],
    }


def file_document(file: FileRecord) -> dict[str, object]:
    """Return a local file for a JSON document."""
    return {
        "path": str(file.target),
        "kind": str(file.kind),
        "bytes": file.size,
        "sha256": file.sha256,
        "host": file.host,
        "from": file.place,
        "from_bytes": file.version.size,
        "from_modified": timestamp(file.version.mtime_ns / 1e9),
        "fetched": timestamp(file.fetched_at),
        "reason": file.reason,
    }
