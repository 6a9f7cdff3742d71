"""One host whole: its verdict with all reasons, its runs and transfers, what is here of it and what is left out.

The sums of the catalogue are those of `harvestd explain HOST:/ROOT`; they are read in a thread, and kept for a while.
"""

import time
from collections import OrderedDict
from typing import Final

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request

from harvestd.api.state import Source, status_of_run
from harvestd.catalogue import queries
from harvestd.convention.structs import Immutable
from harvestd.documents.forms import steps
from harvestd.errors import HarvestError
from harvestd.inventory.host import Host
from harvestd.page import events, fleet, rows, verdicts, words
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import RunRecord
from harvestd.planning.run_status import RunStatus
from harvestd.safety.verdict import Loss

_MOST_RUNS: Final = 50
_MOST_WAITING: Final = 20
_MOST_EVENTS: Final = 20
_KEPT_FOR: Final = 30.0
"""Seconds for which the sums of the catalogue are shown again."""
_MOST_KEPT: Final = 64
STATUS: Final = {
    RunStatus.RUNNING: ("training", "running"),
    RunStatus.STALLED: ("halted", "silent"),
    RunStatus.DIVERGED: ("cross", "diverged"),
    RunStatus.DIED: ("dashes", "died"),
    RunStatus.UNKNOWN: ("unknown", "not seen now"),
    RunStatus.FINISHED: ("check", "finished"),
}


class RunOfHost(Immutable):
    """A run in the list of a host."""

    name: str
    rest: str
    url: str
    icon: str
    word: str
    steps: str
    left: str


class Sums(Immutable):
    """What the catalogue holds of a host."""

    here: queries.Holding
    left_out: tuple[queries.LeftOutSum, ...]
    at: float


_sums: OrderedDict[tuple[str, str], Sums] = OrderedDict()
"""The sums that were read last, by the catalogue's directory and the host's name."""


def present(source: Source, name: str) -> Host | None:
    """Return the present host of this name."""
    return next((host for host in source.context.fleet.present.values() if host.name == name), None)


async def values(source: Source, request: Request) -> dict[str, object]:
    """Return the values of the template; raise `HTTPException` for a host that no provider lists now."""
    host = present(source, request.path_params["name"])
    if host is None:
        raise HTTPException(404, f"No host is called \u201c{words.told(request.path_params['name'], 80)}\u201d now.")
    context = source.context
    knowledge = context.catalogue.knowledge if context.catalogue_opened.is_set() else PlanningIndex()
    tally, state = source.tally.of(host.name), context.states.of(host.identity)
    runs = rows.by_host(knowledge, [host])[host.identity]
    row = rows.of(host, source, knowledge, runs)
    shown = verdicts.shown(state.verdict, tally, whole=True)
    verdict = state.verdict.verdict if state.verdict else None
    sums, problem = await _read(source, host.name)
    plan = state.last_scan.plan if state.last_scan is not None else None
    remote = context.settings.remote_for(host)
    return {
        "title": row.name,
        "host": row,
        "verdict": shown,
        "judged_at": state.verdict.at if state.verdict else None,
        "losses": [] if verdict is None else [_loss(each) for each in verdict.losses],
        "survives": [] if verdict is None else [(*_loss(each.loss), each.through) for each in verdict.survives],
        "facts": _facts(source, host, remote.roots),
        "runs": [_run(run, source, knowledge) for run in _newest(runs)],
        "more_runs": max(0, len(runs) - _MOST_RUNS),
        "transfers": [fleet.transfer_line(each) for each in context.transfers.all() if each.host == host.name],
        "waiting": []
        if plan is None
        else [(words.told(w.place), words.told(w.reason)) for w in plan.waiting[:_MOST_WAITING]],
        "more_waiting": 0 if plan is None else max(0, len(plan.waiting) - _MOST_WAITING),
        "sums": sums,
        "problem": problem,
        "roots": [words.told(root) for root in remote.roots],
        "events": events.newest(_MOST_EVENTS, host.name),
    }


def _newest(runs: list[RunRecord]) -> list[RunRecord]:
    return sorted(runs, key=lambda run: run.name, reverse=True)[:_MOST_RUNS]


def _run(run: RunRecord, source: Source, knowledge: PlanningIndex) -> RunOfHost:
    name, rest = rows.name_of(run, knowledge)
    status = status_of_run(run, source, time.time())
    icon, word = STATUS[status.status]
    step, total = steps(run)
    made = words.DASH if step is None else words.number(step)
    of_total = f" of {words.number(total)}" if total and total != step else ""
    left = words.duration(run.seconds_left) if status.goes_on and run.seconds_left is not None else ""
    return RunOfHost(name, rest, rows.url_of(run), icon, word, made + of_total, left)


def _loss(loss: Loss) -> tuple[str, str, str]:
    return verdicts.LOSSES[loss.kind], words.told(loss.what), words.size(loss.size)


def _facts(source: Source, host: Host, roots: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return what is known of the connection and the machine, as label and value."""
    tally, now = source.tally.of(host.name), time.time()
    found = [("Address", host.address + (f", port {host.port}" if host.port else "")), ("Listed by", host.source)]
    found.append(("Read by", tally.method or words.DASH))
    if tally.first_seen is not None:
        found.append(("First seen", words.day_and_clock(tally.first_seen)))
    seen = tally.last_success
    found.append(("Last scan", "none yet" if seen is None else f"{words.span(now - seen.timestamp())} ago"))
    found += [("Root", root) for root in roots]
    if host.region:
        found.append(("Region", host.region))
    found += [("Received since the start", words.size(tally.moved)), ("Wanted and not here", words.size(tally.pending))]
    if tally.failures:
        found.append(("Failed fetches", words.number(tally.failures)))
    return [(label, words.told(value)) for label, value in found]


async def _read(source: Source, name: str) -> tuple[Sums | None, str]:
    """Return the sums of the catalogue, or why they can't be read."""
    key, now = (str(source.context.settings.state), name), time.monotonic()
    kept = _sums.get(key)
    if kept is not None and now - kept.at < _KEPT_FOR:
        return kept, ""

    def read() -> Sums:
        with queries.questions(source.context.settings.state) as connection:
            here = queries.holding_from(connection, name)
            return Sums(here, tuple(queries.left_out_from(connection, name)), now)

    try:
        found = _sums[key] = await anyio.to_thread.run_sync(read)
    except HarvestError as error:
        return None, words.told(error)
    while len(_sums) > _MOST_KEPT:
        _sums.popitem(last=False)
    return found, ""
