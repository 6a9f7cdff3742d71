"""The hosts and runs of the catalogue, which need no running daemon to be read, also as whole documents for the API.

`find` returns what a name refers to. `all_hosts` and `all_runs` return documents with escaped texts; call them in a
thread. They raise `HarvestError` as opening the catalogue does.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy import Row as TableRow

from harvestd.catalogue import queries
from harvestd.catalogue.entries import GONE
from harvestd.convention.structs import Immutable
from harvestd.documents.forms import Document, HostView, run_document
from harvestd.errors import ExitCode, Fatal
from harvestd.inventory.file_sd import TargetsFiles
from harvestd.inventory.lambda_provider import LambdaCloudHosts
from harvestd.planning.records import ExperimentRecord, RunRecord
from harvestd.planning.run_status import CurrentStatus, current_status
from harvestd.settings import Settings

_NEVER_SEEN: Final = "never seen"
_SHORTEST_ID: Final = 6
_MOST_NAMES: Final = 20
"""Of names with the same beginning, as many as are listed."""


def hosts(connection: Connection, settings: Settings) -> list[HostView]:
    """Return all hosts by name: configured ones, and ones that were seen before."""
    addresses = {host.name: host.address for host in settings.hosts}
    judged = queries.verdicts(connection)
    found = tuple(_other_providers(settings))
    seen = {
        row.name: HostView(
            name=row.name,
            address=addresses.get(row.name, row.address),
            state=row.state,
            configured=row.name in addresses or (row.identity.startswith(found) and row.state != GONE),
            identity=row.identity,
            method=row.method,
            first_seen=row.first_seen,
            last_success=row.last_success,
            pending_bytes=row.pending_bytes,
            error=row.error,
            judged=judged.get(row.identity),
        )
        for row in queries.hosts(connection)
    }
    fresh = [
        HostView(name, address, _NEVER_SEEN, configured=True) for name, address in addresses.items() if name not in seen
    ]
    return sorted([*seen.values(), *fresh], key=lambda host: host.name)


def _other_providers(settings: Settings) -> Iterator[str]:
    """Yield the prefixes of identities from providers other than the tables."""
    if settings.targets.files:
        yield f"{TargetsFiles.name}:"
    if settings.lambda_cloud.enabled:
        yield f"{LambdaCloudHosts.name}:"


class RunStatuses:
    """The standing of every run at one moment."""

    def __init__(self, connection: Connection) -> None:
        self._hosts: Mapping[str, TableRow[Any]] = {row.name: row for row in queries.hosts(connection)}
        self._now = time.time()

    def of(self, run: RunRecord) -> CurrentStatus:
        """Return the standing of a run."""
        host = self._hosts.get(run.host)
        return current_status(
            finished=run.finished,
            problem=run.problem,
            step_at=run.step_at,
            host_seen_at=host.last_success if host else None,
            host_is_gone=host is not None and host.state == GONE,
            now=self._now,
        )


def run_documents(
    runs: Iterable[RunRecord], experiments: Mapping[str, ExperimentRecord], standings: RunStatuses
) -> list[Document]:
    """Return the documents of runs, in their order."""
    return [run_document(run, directory_of(run, experiments), standings.of(run)) for run in runs]


def directory_of(run: RunRecord, experiments: Mapping[str, ExperimentRecord]) -> str | None:
    """Return the directory of a run's experiment; None: it has none yet."""
    found = experiments.get(run.experiment) if run.experiment else None
    return found.directory if found else None


def all_hosts(settings: Settings) -> dict[str, object]:
    """Return all hosts that are configured or were ever seen, by name."""
    with queries.questions(settings.state) as connection:
        views = hosts(connection, settings)
    return {"hosts": escaped_documents([view.document(watched=view.is_watched(daemon=True)) for view in views])}


def all_runs(settings: Settings, limit: int) -> dict[str, object]:
    """Return the newest `limit` runs that were ever seen, newest first."""
    with queries.questions(settings.state) as connection:
        found = list(islice(queries.runs(connection), limit))
        experiments = queries.experiments(connection)
        standings = RunStatuses(connection)
    return {"runs": escaped_documents(run_documents(found, experiments, standings))}


def escaped_documents(found: Iterable[Document]) -> list[object]:
    """Return documents with every text escaped, for the API."""
    from harvestd.telemetry.serialize import plain  # noqa: PLC0415  (structlog: only the API needs it)

    return [plain(document) for document in found]


class Found(Immutable):
    """What a name refers to."""

    experiment: ExperimentRecord | None
    """None for a run that has none yet."""
    runs: tuple[RunRecord, ...]


def find(connection: Connection, name: str) -> Found:
    """Return what `name` refers to: an experiment's directory or id, a run, or the only one with this beginning.

    Raise `Fatal` (4) where there is none, or where two runs on different hosts have the name.
    """
    wanted = name.rstrip("/")
    experiments = queries.experiments(connection)
    runs = queries.runs(connection)
    called = _called(experiments.values(), wanted)
    if called is not None:
        return _of_experiment(called, runs)
    named = [run for run in runs if wanted in {run.name, run.id}]
    if len({run.experiment or run.id for run in named}) > 1:
        raise Fatal(
            f"{len(named)} runs are called {wanted}:\n"
            + "\n".join(
                f"  {run.host}:{run.place} in {directory_of(run, experiments) or 'no experiment yet'}" for run in named
            ),
            hint="give the name of the experiment",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    if named:
        experiment = experiments.get(named[0].experiment or "")
        return _of_experiment(experiment, runs) if experiment else Found(None, tuple(named))
    begun = _begun(wanted, experiments.values(), runs)
    if len(begun) == 1:
        return find(connection, begun[0])
    if begun:
        raise Fatal(
            f"{len(begun)} names begin with {wanted}:\n" + "\n".join(f"  {each}" for each in begun[:_MOST_NAMES]),
            hint="give more of the name",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    known = [experiment.directory for experiment in experiments.values()] + [run.name for run in runs]
    import difflib  # noqa: PLC0415  (for an unknown name alone)

    close = difflib.get_close_matches(wanted, known, n=1)
    raise Fatal(
        f"no experiment and no run is called {wanted}",
        hint=f"did you mean {close[0]}?" if close else "`harvestd runs` lists what is known",
        exit_code=ExitCode.UNKNOWN_NAME,
    )


def _of_experiment(experiment: ExperimentRecord, runs: Iterable[RunRecord]) -> Found:
    return Found(experiment, tuple(run for run in runs if run.experiment == experiment.id))


def _called(experiments: Iterable[ExperimentRecord], wanted: str) -> ExperimentRecord | None:
    """Return the experiment of this directory, past directory or beginning of an id; present names have precedence."""
    known = list(experiments)
    is_long = len(wanted) >= _SHORTEST_ID
    for fits in (
        lambda each: wanted == each.directory,
        lambda each: wanted in each.aliases,
        lambda each: is_long and each.id.startswith(wanted),
    ):
        for experiment in known:
            if fits(experiment):
                return experiment
    return None


def _begun(wanted: str, experiments: Iterable[ExperimentRecord], runs: Iterable[RunRecord]) -> list[str]:
    """Return the names with this beginning; a run whose experiment has it too is counted with the experiment."""
    found = {each.id: each.directory for each in experiments if wanted and each.directory.startswith(wanted)}
    named = {run.name for run in runs if wanted and run.name.startswith(wanted) and run.experiment not in found}
    return sorted({*found.values(), *named})
