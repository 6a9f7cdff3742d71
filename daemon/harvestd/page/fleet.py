"""The fleet: a row a host, what needs a person, the transfers and the newest events."""

from collections.abc import Iterable, Sequence
from typing import Final

import anyio.to_thread
from msgspec.structs import replace
from starlette.requests import Request

from harvestd.api.state import Source
from harvestd.convention.structs import Immutable
from harvestd.harvest.transfer.pool import TransferProgress
from harvestd.page import banner, curves, events, rows, words
from harvestd.page.rows import HostRow
from harvestd.page.scores import Scores
from harvestd.planning.index import PlanningIndex
from harvestd.telemetry.sanitize import escaped

MOST_WHOLE: Final = 15
"""Hosts that are shown in full; of more, those that need no person are shown in a line each."""
_MOST_TRANSFERS: Final = 12
_NEWEST_EVENTS: Final = 8
_scores: Final = Scores()


class Figure(Immutable):
    """One of the figures at the top."""

    label: str
    value: str
    unit: str
    about: str


class Group(Immutable):
    """Hosts that are listed together."""

    title: str
    """Empty for the only one."""
    note: str
    rows: tuple[HostRow, ...]
    is_whole: bool
    """Whether each host is shown in full."""


class TransferLine(Immutable):
    """One transfer."""

    host: str
    folders: str
    name: str
    moved: int
    size: int
    here: str
    rate: str
    left: str


async def values(source: Source, _request: Request) -> dict[str, object]:
    """Return the values of the fleet's template."""
    context = source.context
    free = await anyio.to_thread.run_sync(source.root.free_bytes)
    knowledge = context.catalogue.knowledge if context.catalogue_opened.is_set() else PlanningIndex()
    hosts = sorted(context.fleet.present.values(), key=lambda host: host.name)
    runs = rows.by_host(knowledge, hosts)
    found = [rows.of(host, source, knowledge, runs[host.identity]) for host in hosts]
    if len(found) <= MOST_WHOLE:
        found = await _with_results(found, source)
    transfers = context.transfers.all()
    root = escaped(str(context.settings.data_root))
    needs = banner.needs(found, free, context.settings.limits.free_space, root, paused=context.fleet.is_paused)
    return {
        "title": f"({len(needs)}) Fleet" if needs else "Fleet",
        "hosts": found,
        "figures": figures(found, transfers),
        "needs": needs,
        "needs_shown": banner.SHOWN,
        "groups": groups(found),
        "has_curves": any(row.loss for row in found),
        "has_scores": any(row.score for row in found),
        "transfers": [transfer_line(each) for each in transfers[:_MOST_TRANSFERS]],
        "more_transfers": max(0, len(transfers) - _MOST_TRANSFERS),
        "transfer_note": _transfer_note(transfers),
        "events": events.newest(_NEWEST_EVENTS),
        "free_bytes": free,
        "is_ready": source.ready.is_set(),
        "settings": context.settings,
        "config_name": _config_of(source),
    }


async def _with_results(found: Sequence[HostRow], source: Source) -> list[HostRow]:
    """Return the rows with the loss and the newest pass rate of their runs."""
    names = [row.run.experiment for row in found if row.run is not None and row.run.experiment is not None]
    known = await _scores.of(source, names) if source.ready.is_set() else {}
    made = []
    for row in found:
        experiment = None if row.run is None else row.run.experiment
        loss = None if row.run is None else await curves.loss_of(source, experiment, row.run.step)
        made.append(replace(row, loss=loss, score=known.get(experiment) if experiment else None))
    return made


def transfer_line(transfer: TransferProgress) -> TransferLine:
    """Return the line of a transfer; a path gives up its folders before its name."""
    parts = transfer.place.rstrip("/").split("/")
    seconds, rate = transfer.seconds_left, transfer.rate
    return TransferLine(
        host=words.told(transfer.host),
        folders=words.told("/".join(parts[-2:-1]) + "/") if len(parts) > 1 else "",
        name=words.told(parts[-1]),
        moved=transfer.moved,
        size=transfer.size,
        here=words.size_of(transfer.moved, transfer.size),
        rate="begins" if rate is None else f"{words.size(int(rate))}/s",
        left=words.DASH if seconds is None else words.duration(seconds),
    )


def _config_of(source: Source) -> str:
    return escaped(str(source.config)) if source.config else ""


def figures(found: Sequence[HostRow], transfers: Sequence[TransferProgress]) -> list[Figure]:
    """Return the figures at the top."""
    states: dict[str, int] = {}
    for row in found:
        states[row.state] = states.get(row.state, 0) + 1
    about = ", ".join(f"{number} {'stopped' if state == 'failed' else state}" for state, number in states.items())
    made = [Figure("Hosts", words.number(len(found)), "", about)]
    made += [_cost(found)] if any(row.cents_per_hour is not None for row in found) else []
    made += [_safe(found), _risk(found), _transferring(transfers)]
    return made


def _cost(found: Sequence[HostRow]) -> Figure:
    total = sum(row.cents_per_hour or 0 for row in found)
    idle = [row for row in found if row.idle_since is not None]
    spent = sum(row.idle_cents or 0 for row in idle)
    wasted = words.money(sum(row.cents_per_hour or 0 for row in idle))
    about = f"{wasted} $/h of it idle, {words.money(spent)} $ so far" if idle else "none of it idle"
    return Figure("Cost", words.money(total), "$/h", about)


def _safe(found: Sequence[HostRow]) -> Figure:
    safe = [row.name for row in found if row.verdict.kind == "safe"]
    excepting = [f"{row.name} except {row.risk.amount}" for row in found if row.verdict.kind == "except"]
    named = [*safe, *excepting]
    about = "; ".join(named[:2]) + (f" and {len(named) - 2} more" if len(named) > 2 else "")  # noqa: PLR2004  (two)
    return Figure("May be switched off", str(len(safe)), f"of {len(found)}", about or "none is safe")


def _risk(found: Sequence[HostRow]) -> Figure:
    total = sum(row.risk.size for row in found)
    value, unit = words.size(total).split(words.SPACE)
    worst = max(found, key=lambda row: row.risk.size, default=None)
    about = "all that is wanted is here"
    if worst is not None and worst.risk.size:
        about = f"{words.size(worst.risk.size)} of it on {worst.name}"
    return Figure("Would be lost if all died now", value, unit, about)


def _transferring(transfers: Sequence[TransferProgress]) -> Figure:
    rate = sum(each.rate or 0.0 for each in transfers)
    value, unit = words.size(int(rate)).split(words.SPACE)
    return Figure("Transfers", value, f"{unit}/s", _transfer_note(transfers) or "nothing is on its way")


def _transfer_note(transfers: Sequence[TransferProgress]) -> str:
    if not transfers:
        return ""
    left = sum(max(0, each.size - each.moved) for each in transfers)
    return f"{words.count(len(transfers), 'transfer')}, {words.size(left)} to go"


def groups(found: Sequence[HostRow]) -> list[Group]:
    """Return the hosts in their order; of many, those that need a person first, and the others condensed."""
    if len(found) <= MOST_WHOLE:
        return [Group("", "", tuple(found), is_whole=True)]
    titles = {"attention": "Worth a look", "training": "Training", "quiet": "Quiet"}
    grouped = {key: tuple(row for row in found if row.group == key) for key in titles}
    return [
        Group(titles[key], _group_note(some), some, is_whole=key == "attention" and len(some) <= MOST_WHOLE)
        for key, some in grouped.items()
        if some
    ]


def _group_note(some: Iterable[HostRow]) -> str:
    listed = list(some)
    price = sum(row.cents_per_hour or 0 for row in listed)
    cost = f", {words.money(price)} $/h" if price else ""
    return f"{words.count(len(listed), 'host')}{cost}"
