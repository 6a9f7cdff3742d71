"""The hosts and runs of the catalogue, which need no running daemon to be read, also as whole documents for the API.

`all_hosts` and `all_runs` return documents with escaped texts; call them in a thread. They raise `HarvestError` as
opening the catalogue does.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy import Row as TableRow

from harvestd.catalogue import queries
from harvestd.catalogue.entries import GONE
from harvestd.documents.forms import Document, HostView, run_document
from harvestd.inventory.file_sd import TargetsFiles
from harvestd.inventory.lambda_provider import LambdaCloudHosts
from harvestd.planning.records import ExperimentRecord, RunRecord
from harvestd.planning.run_status import CurrentStatus, current_status
from harvestd.settings import Settings

_NEVER_SEEN: Final = "never seen"


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
    return {"hosts": _escaped([view.document(watched=view.is_watched(daemon=True)) for view in views])}


def all_runs(settings: Settings, limit: int) -> dict[str, object]:
    """Return the newest `limit` runs that were ever seen, newest first."""
    with queries.questions(settings.state) as connection:
        found = list(islice(queries.runs(connection), limit))
        experiments = queries.experiments(connection)
        standings = RunStatuses(connection)
    return {"runs": _escaped(run_documents(found, experiments, standings))}


def _escaped(found: list[Document]) -> list[object]:
    from harvestd.telemetry.serialize import plain  # noqa: PLC0415  (structlog: only the API needs it)

    return [plain(document) for document in found]
