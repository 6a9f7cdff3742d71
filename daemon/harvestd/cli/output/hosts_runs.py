"""Hosts and runs from the catalogue, as rows of a page and as JSON."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy import Row as TableRow

from harvestd.catalogue import queries
from harvestd.catalogue.entries import ENDING, FAILED, GONE, VerdictRecord
from harvestd.cli.output import units, verdict_page
from harvestd.cli.output.page import Column, Row, Styled
from harvestd.convention.structs import Immutable
from harvestd.inventory.file_sd_watch import TargetsFiles
from harvestd.inventory.lambda_provider import LambdaCloudHosts
from harvestd.planning.records import ExperimentRecord, RunRecord
from harvestd.planning.run_status import RunStatus, Standing, standing
from harvestd.settings import Settings
from harvestd.store.lock import Holder

_STATUS_STYLES: Final = {
    RunStatus.STALLED: "yellow",
    RunStatus.DIVERGED: "yellow",
    RunStatus.DIED: "red",
    RunStatus.FINISHED: "green",
}
_SHOWN_FOR: Final = 86_400.0
"""Seconds for which the live screen shows a run that died."""


class Standings:
    """The standing of every run at one moment."""

    def __init__(self, connection: Connection) -> None:
        self._hosts: Mapping[str, TableRow[Any]] = {row.name: row for row in queries.hosts(connection)}
        self._now = time.time()

    def of(self, run: RunRecord) -> Standing:
        """Return the standing of a run."""
        host = self._hosts.get(run.host)
        return standing(
            finished=run.finished,
            trouble=run.trouble,
            step_at=run.step_at,
            host_seen_at=host.last_success if host else None,
            host_is_gone=host is not None and host.state == GONE,
            now=self._now,
        )


def cell_of(found: Standing) -> Styled:
    """Return a standing for a table, with its age where that is known: `died 3h ago`."""
    words = [str(found.status)]
    if found.since is not None and found.status is RunStatus.UNKNOWN:
        words.append(f"since {units.age(found.since)}")
    elif found.since is not None:
        words.append(units.age(found.since))
    return Styled(" ".join(words), _STATUS_STYLES.get(found.status, ""))


def is_news(status: RunStatus, since: float | None, now: float) -> bool:
    """Return whether the live screen shows a run: one in progress or stalled, or one that died recently."""
    if status is RunStatus.DIED:
        return since is not None and now - since < _SHOWN_FOR
    return status not in {RunStatus.FINISHED, RunStatus.UNKNOWN}


HOSTS = (
    Column("HOST"),
    Column("STATE"),
    Column("READ BY"),
    Column("LAST SUCCESS"),
    Column("PENDING", "right"),
    Column("VERDICT", wide=True),
    Column("COST", wide=True),
    Column("ADDRESS", wide=True),
    Column("ERROR", wide=True),
)
RUNS = (
    Column("RUN"),
    Column("HOST"),
    Column("STEP", "right"),
    Column("LEFT", "right"),
    Column("STATE"),
    Column("EXPERIMENT", wide=True),
)
_STYLES = {
    "connected": "green",
    "visited": "green",
    ENDING: "red",
    "lost": "yellow",
    "quarantined": "red",
    FAILED: "red",
}
_ONLY_WITH_A_DAEMON = {"connected", ENDING}
_NEVER = "never seen"
_NOT_WATCHED = "not watched"


class HostView(Immutable):
    """A host, from the configuration and the catalogue."""

    name: str
    address: str
    state: str
    """connected, ending (read as well), visited (by `once`), lost, quarantined, failed, gone, or never seen."""
    configured: bool
    """Whether the file names it, or another provider listed it the last time."""
    method: str = ""
    first_seen: float | None = None
    last_success: float | None = None
    pending_bytes: int = 0
    error: str = ""
    judged: VerdictRecord | None = None
    """The newest verdict on it; None: there is none."""


def hosts(connection: Connection, settings: Settings) -> list[HostView]:
    """Return all hosts by name: configured ones, and ones that were seen before."""
    addresses = {host.name: host.address for host in settings.hosts}
    judged = queries.verdicts(connection)
    found = tuple(_elsewhere(settings))
    seen = {
        row.name: HostView(
            name=row.name,
            address=addresses.get(row.name, row.address),
            state=row.state,
            configured=row.name in addresses or (row.identity.startswith(found) and row.state != GONE),
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
        HostView(name, address, _NEVER, configured=True) for name, address in addresses.items() if name not in seen
    ]
    return sorted([*seen.values(), *fresh], key=lambda host: host.name)


def _elsewhere(settings: Settings) -> Iterator[str]:
    """Yield the prefixes of identities from providers other than the tables."""
    if settings.targets.files:
        yield f"{TargetsFiles.name}:"
    if settings.lambda_cloud.enabled:
        yield f"{LambdaCloudHosts.name}:"


def is_watched(host: HostView, daemon: Holder | None) -> bool:
    """Return whether `daemon` watches this host, so that state and verdict are current; None: none runs."""
    return daemon is not None and host.configured and host.state != GONE


def host_row(host: HostView, *, watched: bool) -> Row:
    """Return a row of `HOSTS`; `watched` as returned by `is_watched`."""
    return (
        host.name,
        state_of(host, watched=watched),
        host.method or units.NOTHING,
        units.age(host.last_success),
        units.size(host.pending_bytes) if host.pending_bytes else units.NOTHING,
        verdict_page.cell(host.judged, watched=watched),
        verdict_page.cost(host.judged, watched=watched),
        host.address,
        Styled(host.error, "yellow"),
    )


def state_of(host: HostView, *, watched: bool) -> Styled:
    """Return a host's state for display; `watched` as above."""
    if not host.configured and host.state != GONE:
        return styled("not configured")
    return styled(_state_now(host, watched=watched))


def _state_now(host: HostView, *, watched: bool) -> str:
    return _NOT_WATCHED if host.state in _ONLY_WITH_A_DAEMON and not watched else host.state


def run_row(run: RunRecord, experiments: Mapping[str, ExperimentRecord], standings: Standings) -> Row:
    """Return a row of `RUNS`."""
    standing = standings.of(run)
    return (
        run.name,
        run.host,
        steps_of(run),
        units.duration(run.seconds_left) if standing.goes_on else units.NOTHING,
        cell_of(standing),
        _directory(run, experiments) or units.NOTHING,
    )


def steps_of(run: RunRecord) -> str:
    """Return a run's progress, such as "400/1000"."""
    step, total = _steps(run)
    return f"{units.NOTHING if step is None else step}/{'?' if total is None else total}"


def _steps(run: RunRecord) -> tuple[int | None, int | None]:
    """Return the newest step, and the number of the last one."""
    last = run.final.step if run.final else None
    return (last or run.step), (last or run.config.total_steps)


def _directory(run: RunRecord, experiments: Mapping[str, ExperimentRecord]) -> str | None:
    found = experiments.get(run.experiment) if run.experiment else None
    return found.directory if found else None


def styled(state: str) -> Styled:
    """Return a state in its colour."""
    return Styled(state, _STYLES.get(state, ""))


def total_of(holdings: Iterable[queries.Holding], experiments: int) -> str:
    """Return a short text on the amount of local data."""
    found = list(holdings)
    size = units.size(sum(each.size for each in found))
    files = units.count(sum(each.files for each in found), "file")
    return f"{units.count(experiments, 'experiment')}, {files}, {size}"


def host_document(host: HostView, *, watched: bool) -> dict[str, object]:
    """Return a host for a JSON document; `watched` as returned by `is_watched`."""
    return {
        "name": host.name,
        "address": host.address,
        "state": _state_now(host, watched=watched).replace(" ", "_"),
        "configured": host.configured,
        "method": host.method or None,
        "first_seen": units.timestamp(host.first_seen),
        "last_success": units.timestamp(host.last_success),
        "pending_bytes": host.pending_bytes,
        "error": host.error or None,
        **verdict_page.document(host.judged, watched=watched),
    }


def run_documents(
    runs: Sequence[RunRecord], experiments: Mapping[str, ExperimentRecord], standings: Standings
) -> list[dict[str, object]]:
    """Return runs for a JSON document."""
    documents: list[dict[str, object]] = []
    for run in runs:
        step, total = _steps(run)
        standing = standings.of(run)
        documents.append(
            {
                "name": run.name,
                "host": run.host,
                "path": run.place,
                "experiment": _directory(run, experiments),
                "step": step,
                "total_steps": total,
                "seconds_left": run.seconds_left if standing.goes_on else None,
                "state": standing.status.value,
                "state_since": units.timestamp(standing.since),
                "finished": run.finished,
            }
        )
    return documents
