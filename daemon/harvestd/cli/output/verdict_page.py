"""Verdicts for people: a cell in a list of hosts, and a page of its own."""

import time
from collections.abc import Iterable
from typing import Final

from harvestd.catalogue.entries import VerdictRecord
from harvestd.cli.output import units
from harvestd.cli.output.page import Cell, Column, Page, Row, Styled
from harvestd.documents.forms import verdict_age
from harvestd.inventory.host import cents_since, money, rate
from harvestd.safety.verdict import Loss, Verdict, VerdictAnswer, is_fresh

_STYLES: Final = {VerdictAnswer.SAFE: "green", VerdictAnswer.SAFE_EXCEPT: "yellow", VerdictAnswer.NOT_SAFE: "red"}
_REASONS: Final = (Column("REASON"), Column("BYTES", "right"), Column("OVER IN", "right"), Column("DETAIL", wide=True))
_LOSSES: Final = (Column("LOSS"), Column("FILES", "right"), Column("BYTES", "right"), Column("WHAT", wide=True))
_SURVIVALS: Final = (*_LOSSES[:3], Column("ON"), _LOSSES[3])


def short(verdict: Verdict) -> str:
    """Return a verdict in a line that fits a list; `harvestd safe` shows the details."""
    match verdict.answer:
        case VerdictAnswer.SAFE:
            return "safe"
        case VerdictAnswer.SAFE_EXCEPT:
            return f"safe except {_named(verdict.losses)}"
        case VerdictAnswer.NOT_SAFE:
            kinds = dict.fromkeys(_words(reason.kind) for reason in verdict.reasons)
            return f"not safe: {', '.join(kinds) or 'for an unknown reason'}"


def _named(losses: Iterable[Loss]) -> str:
    sizes: dict[str, list[int | None]] = {}
    for loss in losses:
        sizes.setdefault(_words(loss.kind), []).append(loss.size)
    return ", ".join(
        kind if None in found else f"{kind} ({units.size(sum(size or 0 for size in found))})"
        for kind, found in sizes.items()
    )


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def cell(record: VerdictRecord | None, *, watched: bool) -> Cell:
    """Return the verdict for a list of hosts; `watched`: a daemon runs that updates it.

    A verdict that is not updated is not shown as current.
    """
    if record is None:
        return units.NOTHING
    if not is_fresh(verdict_age(record), watched=watched):
        return Styled(f"not known ({units.age(record.judged_at)}: {short(record.verdict)})", "dim")
    return Styled(short(record.verdict), _STYLES[record.verdict.answer])


def coloured(verdict: Verdict) -> Styled:
    """Return a verdict in its colour, short enough for a column: reasons and losses by their kinds."""
    kinds: dict[str, None] = dict.fromkeys(_words(each.kind) for each in verdict.reasons or verdict.losses)
    text = _words(verdict.answer) + (":" if verdict.answer is VerdictAnswer.NOT_SAFE and kinds else "")
    return Styled(f"{text} {', '.join(kinds)}".strip(), _STYLES[verdict.answer])


def cost(record: VerdictRecord | None, *, watched: bool) -> str:
    """Return what a host costs, for a list of hosts: an hour and, where a daemon keeps count, since it became idle.

    Empty where its price is unknown.
    """
    if record is None or record.cents_per_hour is None:
        return ""
    idle = cents_since(record.cents_per_hour, record.idle_since, time.time()) if watched else None
    return rate(record.cents_per_hour) + ("" if idle is None else f", {money(idle)} since idle")


def write(page: Page, record: VerdictRecord) -> None:
    """Write all details of a verdict that was made just now."""
    verdict = record.verdict
    page.line(f"{record.name}: {_answer(verdict)}", f"bold {_STYLES[verdict.answer]}")
    if verdict.reasons:
        page.heading("why")
        page.table(_REASONS, [_reason_row(verdict, index) for index in range(len(verdict.reasons))])
    if verdict.losses:
        accepted = f" (accepted: {', '.join(sorted(map(_words, verdict.accepted)))})" if verdict.accepted else ""
        page.heading(f"would be lost{accepted}")
        page.table(_LOSSES, [_loss_row(loss) for loss in verdict.losses])
    if verdict.survives:
        page.heading("survives elsewhere")
        rows = [(_loss_row(each.loss), each.through) for each in verdict.survives]
        page.table(_SURVIVALS, [(*row[:3], through, row[3]) for row, through in rows])
    page.heading("in short")
    for line in _sums(record):
        page.line(line)


def _answer(verdict: Verdict) -> str:
    if verdict.answer is VerdictAnswer.SAFE_EXCEPT:
        return f"safe except {_named(verdict.losses)}"
    return "safe to switch off" if verdict.answer is VerdictAnswer.SAFE else "not safe to switch off"


def _reason_row(verdict: Verdict, index: int) -> Row:
    reason = verdict.reasons[index]
    size = units.NOTHING if reason.size is None else units.size(reason.size)
    return (_words(reason.kind), size, units.duration(reason.seconds), reason.detail)


def _loss_row(loss: Loss) -> Row:
    return (_words(loss.kind), str(loss.entries), units.size(loss.size), loss.what)


def _sums(record: VerdictRecord) -> Iterable[str]:
    verdict, now = record.verdict, time.time()
    if verdict.answer is VerdictAnswer.NOT_SAFE:
        yield f"outstanding: {units.size(verdict.outstanding)}"
        left = verdict.left
        if left is None:
            yield "time left:   unknown: it depends on the host, or on a person"
        else:
            yield f"time left:   about {units.duration(left.total_seconds())}, if nothing changes"
    if record.idle_since is not None:
        yield f"idle:        for {units.duration(now - record.idle_since)}"
    if record.cents_per_hour is not None:
        idle = cents_since(record.cents_per_hour, record.idle_since, now)
        spent = "" if idle is None else f", {money(idle)} since it went idle"
        yield f"cost:        {rate(record.cents_per_hour)}{spent}"
    yield f"judged:      {units.age(record.judged_at)}"
