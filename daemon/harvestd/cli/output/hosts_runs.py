"""Hosts and runs from the catalogue, as rows of a page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from harvestd.catalogue import queries
from harvestd.catalogue.entries import ENDING, FAILED, GONE
from harvestd.cli.output import units, verdict_page
from harvestd.cli.output.page import Column, Row, Styled
from harvestd.documents.forms import HostView, steps
from harvestd.documents.stored import RunStatuses, directory_of
from harvestd.planning.records import ExperimentRecord, RunRecord
from harvestd.planning.run_status import CurrentStatus, RunStatus

_STATUS_STYLES: Final = {
    RunStatus.STALLED: "yellow",
    RunStatus.DIVERGED: "yellow",
    RunStatus.DIED: "red",
    RunStatus.FINISHED: "green",
}
_MOST_OVER: Final = 5
"""Runs that have finished or died in a short list."""
_SHOWN_FOR: Final = 86_400.0
"""Seconds for which the live screen shows a run that died."""


def cell_of(found: CurrentStatus) -> Styled:
    """Return a standing for a table, with its age where that is known: `died 3h ago`."""
    words = [str(found.status)]
    if found.since is not None and found.status is RunStatus.UNKNOWN:
        words.append(f"since {units.age(found.since)}")
    elif found.since is not None:
        words.append(units.age(found.since))
    return Styled(" ".join(words), _STATUS_STYLES.get(found.status, ""))


def living_and_newest(runs: Sequence[RunRecord], run_statuses: RunStatuses) -> tuple[list[RunRecord], int]:
    """Return the runs that are not over and the newest few that are, and how many others there are.

    `runs` are the newest first.
    """
    living = [run for run in runs if not run_statuses.of(run).is_over]
    over = [run for run in runs if run_statuses.of(run).is_over]
    return [*living, *over[:_MOST_OVER]], max(0, len(over) - _MOST_OVER)


def is_shown_live(status: RunStatus, since: float | None, now: float) -> bool:
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
    return styled(host.state_now(watched=watched))


def run_row(run: RunRecord, experiments: Mapping[str, ExperimentRecord], run_statuses: RunStatuses) -> Row:
    """Return a row of `RUNS`."""
    current = run_statuses.of(run)
    return (
        run.name,
        run.host,
        steps_of(run),
        units.duration(run.seconds_left) if current.goes_on else units.NOTHING,
        cell_of(current),
        directory_of(run, experiments) or units.NOTHING,
    )


def steps_of(run: RunRecord) -> str:
    """Return a run's progress, such as "400/1000"."""
    step, total = steps(run)
    return f"{units.NOTHING if step is None else step}/{'?' if total is None else total}"


def styled(state: str) -> Styled:
    """Return a state in its colour."""
    return Styled(state, _STYLES.get(state, ""))


def total_of(holdings: Iterable[queries.Holding], experiments: int) -> str:
    """Return a short text on the amount of local data."""
    found = list(holdings)
    size = units.size(sum(each.size for each in found))
    files = units.count(sum(each.files for each in found), "file")
    return f"{units.count(experiments, 'experiment')}, {files}, {size}"
