"""What needs a person, the most urgent first: what ends soon, data at risk, quarantine, idle hosts, the disk."""

import time
from collections.abc import Iterable, Iterator
from typing import Final

from harvestd.convention.structs import Immutable
from harvestd.page import words
from harvestd.page.rows import HostRow
from harvestd.planning.run_status import RunStatus

SHOWN: Final = 5
"""Lines that are not folded."""
_WORTH_AN_HOUR: Final = 3_600.0
"""Seconds for which a host that costs nothing is idle before it is worth a line."""


class Need(Immutable):
    """One line of the banner."""

    icon: str
    kind: str
    """bad, warn or safe: its colour."""
    subject: str
    text: str
    """The rest of the sentence."""
    amount: str
    """What it costs: time, money or bytes."""
    command: str = ""
    """What to type next; or a link:"""
    link: str = ""
    link_text: str = ""
    quote: str = ""
    """A host's own words."""


def needs(rows: Iterable[HostRow], free_bytes: int, least_free: int, data_root: str, *, paused: bool) -> list[Need]:
    """Return the lines of the banner; `least_free`: the bytes below which fetching pauses."""
    found = list(rows)
    lines = (
        [Need("pause", "warn", "harvestd", "is paused: hosts are scanned, nothing is fetched.", "")] if paused else []
    )
    for each in (_ending, _lost, _runs, _quarantined, _safe):
        lines += [need for row in found for need in each(row)]
    if free_bytes < 2 * least_free:
        state = "Nothing is fetched until" if free_bytes < least_free else "Fetching pauses below"
        text = f"has {words.size(free_bytes)} left for {data_root}. {state} {words.size(least_free)}."
        lines.append(Need("disk", "warn", "This disk", text, words.size(free_bytes), command="harvestd experiments"))
    return lines


def _look(row: HostRow) -> dict[str, str]:
    return {"link": row.url, "link_text": f"Look at {row.name}"}


def _ending(row: HostRow) -> Iterator[Need]:
    if row.state == "ending":
        lost = f"{row.risk.amount} would be lost: {row.risk.what}."
        left = lost if row.risk.size else "All that is wanted of it is here."
        text = f"is ending: {row.deviation}. {left}"
        yield Need("hourglass", "bad", row.name, text, row.risk.amount, **_look(row))


def _lost(row: HostRow) -> Iterator[Need]:
    if row.state in {"lost", "failed"}:
        why = "can't be reached" if row.state == "lost" else "stopped by a defect of harvestd, and is tried again"
        text = f"{why} since {words.clock(row.since)}."
        away = words.span(time.time() - row.since)
        command = f"harvestd doctor {row.name}"
        yield Need("struck", "bad", row.name, text, away, command=command, quote=row.error)


def _runs(row: HostRow) -> Iterator[Need]:
    if row.run is None or row.state in {"lost", "failed", "quarantined"}:
        return
    at = row.run.bar.left if row.run.bar is not None else ""
    at = f" at {at}" if at else ""
    if row.run.status == RunStatus.DIVERGED:
        yield Need("cross", "bad", row.name, f"trains on with a loss that is no number{at}.", "", **_look(row))
    elif row.run.status == RunStatus.STALLED:
        silent = row.run.bar.right.removeprefix("silent for ") if row.run.bar is not None else ""
        text = f"has written nothing to its log for {silent}{at}." if silent else f"is silent{at}."
        yield Need("halted", "warn", row.name, text, silent, **_look(row))


def _quarantined(row: HostRow) -> Iterator[Need]:
    if row.state == "quarantined":
        away = words.span(time.time() - row.since)
        text = f"is quarantined since {words.clock(row.since)}: it is not tried again soon."
        command = f"harvestd doctor {row.name}"
        yield Need("octagon", "bad", row.name, text, away, command=command, quote=row.error)


def _safe(row: HostRow) -> Iterator[Need]:
    if row.verdict.kind not in {"safe", "except"} or row.state != "connected":
        return
    idle = 0.0 if row.idle_since is None else time.time() - row.idle_since
    if not row.idle_cents and idle < _WORTH_AN_HOUR:
        return
    for_long = f" It has been idle for {words.span(idle)}." if idle >= 1 else ""
    amount = f"{words.money(row.idle_cents)}{words.SPACE}$" if row.idle_cents else words.span(idle)
    if row.verdict.kind == "safe":
        command = {"command": f"harvestd release {row.name}"} if row.is_rented else _look(row)
        yield Need("safe", "safe", row.name, f"is safe to switch off.{for_long}", amount, **command)
    else:
        text = f"is idle, and safe except for {row.risk.amount}: {row.risk.what}.{for_long}"
        yield Need("except", "warn", row.name, text, amount, **_look(row))
