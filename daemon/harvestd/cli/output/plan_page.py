"""The plan of a pass, host by host: the page and the JSON document of `harvestd plan`."""

from collections.abc import Sequence

from harvestd.cli.output import left_out, units
from harvestd.cli.output.page import Page
from harvestd.cli.output.pass_summary import WAITING, outcome_document, waiting_documents, waiting_rows
from harvestd.cli.output.tables import Column, Row
from harvestd.convention.scan.model import LeftOut
from harvestd.harvest.host.passes import HostOutcome
from harvestd.planning.plan import Plan

_FETCH = (
    Column("SIZE", "right"),
    Column("KIND"),
    Column("FROM", wide=True),
    Column("TO", wide=True, mark="→ "),
    Column("BECAUSE", wide=True, mark="  "),
)
_TIDY = (Column("DO"), Column("WITH", wide=True), Column("TO", wide=True, mark="→ "))


def write(page: Page, outcomes: Sequence[HostOutcome]) -> None:
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
        ("left out", left_out.COLUMNS, left_out.rows(_left_out(plan))),
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
        said += f"; {len(omitted)} left out, {left_out.total(omitted)}"
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


def document(outcomes: Sequence[HostOutcome]) -> dict[str, object]:
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
        "left_out": left_out.documents(_left_out(plan)),
    }
