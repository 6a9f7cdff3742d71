"""A pass for people and programs: its progress, its plan and its results.

The progress is a bar for each host on the terminal of standard error, none off a terminal; it never delays a transfer.
Plan and results are pages and JSON documents of `harvestd plan` and `harvestd once`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from harvestd.cli.output import lists, units
from harvestd.cli.output.page import Column, Page, Row, Styled, console_on
from harvestd.convention.scan.model import LeftOut
from harvestd.errors import HarvestError
from harvestd.harvest.host.failures import PassResult
from harvestd.harvest.host.passes import HostOutcome
from harvestd.harvest.metrics import NullListener, ProgressListener
from harvestd.planning.plan import Plan, Waiting

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


def write_results(page: Page, outcomes: Sequence[HostOutcome], *, verbose: bool) -> None:
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


def results_document(outcomes: Sequence[HostOutcome]) -> dict[str, object]:
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


_FETCH = (
    Column("SIZE", "right"),
    Column("KIND"),
    Column("FROM", wide=True),
    Column("TO", wide=True, mark="→ "),
    Column("BECAUSE", wide=True, mark="  "),
)
_TIDY = (Column("DO"), Column("WITH", wide=True), Column("TO", wide=True, mark="→ "))


def write_plans(page: Page, outcomes: Sequence[HostOutcome]) -> None:
    """Write the page."""
    for outcome in outcomes:
        if outcome.plan is None:
            page.heading(f"{outcome.host.name}: not reached")
        else:
            _write_plan(page, outcome.host.name, outcome.plan)
    plans = [outcome.plan for outcome in outcomes if outcome.plan]
    if len(plans) > 1:
        page.heading(f"all hosts: {_in_short(plans)}")


def _write_plan(page: Page, host: str, plan: Plan) -> None:
    page.heading(f"{host}: {_in_short([plan])}")
    for title, columns, rows in (
        ("fetch", _FETCH, _fetch_rows(plan)),
        ("append", _FETCH, _append_rows(plan)),
        ("compare by hash", _FETCH, _check_rows(plan)),
        ("at home", _TIDY, _tidy_rows(plan)),
        ("waiting", WAITING, list(waiting_rows(host, plan.waiting))),
        ("left out", lists.LEFT_OUT_COLUMNS, lists.left_out_rows(_left_out(plan))),
    ):
        if rows:
            page.heading(title)
            page.table(columns, rows)


def _in_short(plans: Sequence[Plan]) -> str:
    fetched = sum(len(group.files) for plan in plans for group in plan.groups)
    grown = sum(len(plan.follows) for plan in plans)
    size = units.size(sum(plan.bytes_to_fetch for plan in plans))
    if all(plan.is_empty for plan in plans):
        said = "nothing to do"
    elif fetched or grown:
        said = f"{units.count(fetched, 'file')} to fetch, {grown} to append to, {size}"
    else:
        said = "no bytes to fetch"
    waiting = [wait for plan in plans for wait in plan.waiting]
    if waiting:
        said += f"; {len(waiting)} waiting, {units.size(sum(wait.size for wait in waiting))}"
    omitted = [each for plan in plans for each in _left_out(plan)]
    if omitted:
        said += f"; {len(omitted)} left out, {lists.left_out_total(omitted)}"
    return said


def _left_out(plan: Plan) -> list[LeftOut]:
    return sorted((each for entries in plan.left_out.values() for each in entries), key=lambda each: each.place)


def _fetch_rows(plan: Plan) -> list[Row]:
    return [
        (units.size(file.source.version.size), str(file.kind), file.source.place, str(target.path), file.reason)
        for group in plan.groups
        for file in group.files
        for target in file.targets
    ]


def _append_rows(plan: Plan) -> list[Row]:
    return [
        (units.size(each.size), str(each.kind), each.place, str(each.target.path), each.reason) for each in plan.follows
    ]


def _check_rows(plan: Plan) -> list[Row]:
    why = "its times changed, its size did not"
    return [
        (units.size(each.record.size), str(each.record.kind), each.place, str(each.record.target), why)
        for each in plan.checks
    ]


def _tidy_rows(plan: Plan) -> list[Row]:
    moves: list[Row] = [("move", str(each.record.target), str(each.target.path)) for each in plan.refiles]
    links: list[Row] = [("link", str(each.path), each.target) for each in plan.links]
    return moves + links + [("remove", str(each.directory), f"{each.newer} is here") for each in plan.removals]


def plans_document(outcomes: Sequence[HostOutcome]) -> dict[str, object]:
    """Return the JSON document; sizes in bytes, times in seconds."""
    plans = [outcome.plan for outcome in outcomes if outcome.plan]
    return {
        "hosts": [
            {**outcome_document(outcome), **_plan_document(outcome.plan or Plan(), reached=outcome.plan is not None)}
            for outcome in outcomes
        ],
        "bytes_to_fetch": sum(plan.bytes_to_fetch for plan in plans),
    }


def _plan_document(plan: Plan, *, reached: bool) -> dict[str, object]:
    return {
        "nothing_to_do": reached and plan.is_empty,
        "bytes_to_fetch": plan.bytes_to_fetch,
        "fetch": [
            {
                "from": file.source.place,
                "to": [str(target.path) for target in file.targets],
                "kind": str(file.kind),
                "bytes": file.source.version.size,
                "reason": file.reason,
                "group": group.place,
            }
            for group in plan.groups
            for file in group.files
        ],
        "append": [
            {
                "from": each.place,
                "to": str(each.target.path),
                "kind": str(each.kind),
                "bytes": each.size,
                "reason": each.reason,
            }
            for each in plan.follows
        ],
        "check": [
            {"from": each.place, "to": str(each.record.target), "bytes": each.record.size} for each in plan.checks
        ],
        "move": [{"from": str(each.record.target), "to": str(each.target.path)} for each in plan.refiles],
        "link": [{"path": str(each.path), "target": each.target} for each in plan.links],
        "remove": [{"path": str(each.directory), "newer": each.newer} for each in plan.removals],
        "waiting": waiting_documents(plan.waiting),
        "left_out": lists.left_out_documents(_left_out(plan)),
    }


@contextmanager
def progress_of(hosts: Sequence[str], stream: TextIO) -> Iterator[tuple[ProgressListener, TextIO]]:
    """Show the progress of a pass over `hosts` on `stream` while the body runs.

    Yield the monitor of the progress, and a stream for lines that do not disturb the bars.
    """
    console = console_on(stream)
    if console is None or console.is_dumb_terminal:
        yield NullListener(), stream
        return
    from harvestd.cli.output.rich_output import Bars, lines_above, progress_on  # noqa: PLC0415  (rich: only a terminal needs it)

    with progress_on(console) as progress:
        yield Bars(progress, hosts), lines_above(console, stream)
