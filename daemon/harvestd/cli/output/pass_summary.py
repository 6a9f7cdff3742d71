"""The results of a pass, host by host: the page and the JSON document of `harvestd once`."""

from collections.abc import Iterator, Sequence

from harvestd.cli.output import units
from harvestd.cli.output.page import Page
from harvestd.cli.output.tables import Column, Row, Styled
from harvestd.errors import HarvestError
from harvestd.harvest.host.passes import HostOutcome
from harvestd.harvest.host.results import PassResult
from harvestd.planning.plan import Waiting

WAITING = (
    Column("HOST"),
    Column("SIZE", "right"),
    Column("IN", "right"),
    Column("WAITS", wide=True),
    Column("BECAUSE", wide=True, mark="  "),
)
_HOSTS = (
    Column("HOST"),
    Column("FILES", "right"),
    Column("SIZE", "right"),
    Column("TIME", "right"),
    Column("RESULT", wide=True),
)
_FAILED = (
    Column("HOST"),
    Column("TRIED", "right"),
    Column("FAILED", wide=True),
    Column("BECAUSE", wide=True, mark="  "),
)
_CONFLICTS = (
    Column("HOST"),
    Column("IN THE WAY", wide=True),
    Column("BECAUSE", wide=True, mark="  "),
)


def write(page: Page, outcomes: Sequence[HostOutcome], *, verbose: bool) -> None:
    """Write the page; `verbose` also lists what waits."""
    page.table(_HOSTS, [_host(outcome) for outcome in outcomes])
    done = [(outcome.host.name, outcome.result) for outcome in outcomes if outcome.result]
    failed = [
        (name, str(trouble.attempts), place, trouble.reason)
        for name, result in done
        for place, trouble in sorted(result.failed.items())
    ]
    if failed:
        page.heading("failed")
        page.table(_FAILED, failed)
    conflicts = [(name, path, why) for name, result in done for path, why in sorted(result.conflicts.items())]
    if conflicts:
        page.heading("not placed: something else stands there")
        page.table(_CONFLICTS, conflicts)
    if verbose and any(result.waiting for _, result in done):
        page.heading("waiting")
        page.table(WAITING, [row for name, result in done for row in waiting_rows(name, result.waiting)])


def waiting_rows(host: str, waiting: Sequence[Waiting]) -> Iterator[Row]:
    """Yield a row of `WAITING` for each."""
    for each in sorted(waiting, key=lambda wait: wait.place):
        yield host, units.size(each.size), units.duration(each.seconds), each.place, each.reason


def _host(outcome: HostOutcome) -> Row:
    result = outcome.result
    took = units.duration(outcome.seconds)
    if result is None:
        return outcome.host.name, units.NOTHING, units.NOTHING, took, Styled("not reached", "red")
    troubles = [
        *(f"root {root} is missing" for root in sorted(outcome.missing_roots)),
        *(["no room on the disk"] if result.disk_full else []),
        *([f"{len(result.failed)} failed"] if result.failed else []),
        *([units.count(len(result.conflicts), "conflict")] if result.conflicts else []),
    ]
    waits = [f"{len(result.waiting)} waiting"] if result.waiting else []
    said = ", ".join([*(troubles or ["complete" if not waits else "ok"]), *waits])
    style = "red" if troubles else "green"
    return outcome.host.name, str(result.files), units.size(result.bytes), took, Styled(said, style)


def document(outcomes: Sequence[HostOutcome]) -> dict[str, object]:
    """Return the JSON document; sizes in bytes, times in seconds."""
    results = [outcome.result for outcome in outcomes if outcome.result]
    return {
        "hosts": [_host_document(outcome) for outcome in outcomes],
        "files": sum(result.files for result in results),
        "bytes": sum(result.bytes for result in results),
    }


def outcome_document(outcome: HostOutcome) -> dict[str, object]:
    """Return the part of a host's document that is common to a pass and a plan."""
    return {
        "name": outcome.host.name,
        "error": error_document(outcome.error),
        "missing_roots": sorted(outcome.missing_roots),
        "seconds": round(outcome.seconds, 3),
    }


def error_document(error: HarvestError | None) -> dict[str, str] | None:
    """Return an error for a JSON document; None: there is none."""
    return {"message": str(error), "hint": error.hint} if error else None


def waiting_documents(waiting: Sequence[Waiting]) -> list[dict[str, object]]:
    """Return the waiting entries for a JSON document."""
    return [
        {"from": each.place, "bytes": each.size, "reason": each.reason, "seconds": each.seconds} for each in waiting
    ]


def _host_document(outcome: HostOutcome) -> dict[str, object]:
    result = outcome.result or PassResult(0, 0, {}, {}, (), disk_full=False, missing_roots=frozenset())
    return {
        **outcome_document(outcome),
        "files": result.files,
        "bytes": result.bytes,
        "failed": [
            {"from": place, "reason": trouble.reason, "attempts": trouble.attempts}
            for place, trouble in sorted(result.failed.items())
        ],
        "conflicts": [{"to": path, "reason": why} for path, why in sorted(result.conflicts.items())],
        "waiting": waiting_documents(result.waiting),
        "disk_full": result.disk_full,
    }
