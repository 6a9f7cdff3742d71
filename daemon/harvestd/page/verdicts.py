"""A host's verdict in words, and what would be lost if the host died now.

A verdict that was not renewed, or that rests on no connection, is shown as *not known*. Details name paths of a host;
the fleet shows their last component, the view of one host shows them whole.
"""

import re
import time
from collections.abc import Iterable
from typing import Final

from harvestd.convention.kinds import LossKind
from harvestd.convention.structs import Immutable
from harvestd.harvest.metrics import HostTally
from harvestd.harvest.state import Judged
from harvestd.page import words
from harvestd.safety.verdict import Loss, Reason, ReasonKind, Verdict, VerdictAnswer, is_fresh

NAMED: Final = 3
"""Reasons or losses in a row of the fleet."""
_PATH: Final = re.compile(r"/(?:[^/\s:]+/)+([^/\s:,;]+)")
_OLD: Final = 60.0
"""Seconds after which a verdict is shown with its age."""
_UNSEEN: Final = {"lost", "quarantined", "failed", "connecting"}
LOSSES: Final = {
    LossKind.CHECKPOINTS: "checkpoints without an eval",
    LossKind.EVALUATED_CHECKPOINTS: "checkpoints with an eval",
    LossKind.RECORDS: "records of evals",
    LossKind.ROLLOUTS: "rollouts",
    LossKind.WANDB: "files of W&B",
    LossKind.LINKS: "what links lead to",
    LossKind.OUTSIDE_FILES: "files elsewhere",
    LossKind.UNCOMMITTED_WORK: "work in git, not pushed",
}
_SHORT_LOSSES: Final = {
    LossKind.CHECKPOINTS: "checkpoints",
    LossKind.EVALUATED_CHECKPOINTS: "checkpoints",
    LossKind.RECORDS: "records",
    LossKind.LINKS: "links",
    LossKind.UNCOMMITTED_WORK: "code",
}


class Because(Immutable):
    """One line under a verdict."""

    text: str
    size: str = ""


class Shown(Immutable):
    """A verdict in words."""

    kind: str
    """safe, except, unsafe or unknown: the class of its icon and colour."""
    word: str
    because: tuple[Because, ...] = ()
    more: int = 0
    """How many further reasons there are."""
    age: str = ""
    """How old it is, where that is more than a minute."""


class AtRisk(Immutable):
    """What would be lost if a host died now."""

    amount: str
    what: str
    danger: bool = False
    size: int = 0
    """Its bytes, as far as they are known."""


def shown(judged: Judged | None, tally: HostTally, *, whole: bool = False) -> Shown:
    """Return the newest verdict on a host in words; `whole`: with all reasons and paths."""
    now = time.time()
    if judged is None:
        return Shown("unknown", "Not known", (Because(_never(tally)),))
    verdict, age = judged.verdict, abs(now - judged.at)
    if tally.state in _UNSEEN or not is_fresh(age, watched=True):
        return Shown("unknown", "Not known", (Because(_last_answer(judged, tally)),))
    old = f"{words.span(age)} ago" if age >= _OLD else ""
    if verdict.answer is VerdictAnswer.NOT_SAFE:
        named = verdict.reasons if whole else _telling(verdict.reasons)
        lines = list(dict.fromkeys(Because(_reason(each, whole=whole), _size(each.size)) for each in named))
        kept = lines if whole else lines[:NAMED]
        return Shown("unsafe", "Not safe", tuple(kept), len(lines) - len(kept), old)
    lines = losses_of(_unaccepted(verdict))
    kept = lines if whole else lines[:NAMED]
    if verdict.is_safe:
        here = "What would be lost is accepted" if verdict.losses else "All of it is here"
        return Shown("safe", "Safe", (Because(here + _still(judged)),), age=old)
    return Shown("except", "Safe except", tuple(kept), len(lines) - len(kept), old)


def _unaccepted(verdict: Verdict) -> list[Loss]:
    return [loss for loss in verdict.losses if not verdict.accepts(loss.kind)]


def losses_of(losses: Iterable[Loss]) -> list[Because]:
    """Return the losses by their kind, each with the sum of its sizes."""
    sums: dict[LossKind, tuple[int, int | None]] = {}
    for loss in losses:
        entries, size = sums.get(loss.kind, (0, 0))
        whole = None if size is None or loss.size is None else size + loss.size
        sums[loss.kind] = (entries + loss.entries, whole)
    return [Because(LOSSES[kind], words.size(size)) for kind, (_, size) in sums.items()]


def at_risk(judged: Judged | None, tally: HostTally, *, is_training: bool, is_ending: bool) -> AtRisk:
    """Return what would be lost if a host died now, with its size or, where it can't be read, with a span of time."""
    last = tally.last_success
    if last is None:
        return AtRisk("not known", "never read")
    if tally.state in _UNSEEN:
        away = time.time() - last.timestamp()
        if is_training:
            return AtRisk(words.span(away), "of its log, at least", danger=True, size=tally.pending)
        return AtRisk(words.size(tally.pending), "when it was read last", size=tally.pending)
    losses = [] if judged is None else _unaccepted(judged.verdict)
    lost = sum(loss.size or 0 for loss in losses) + tally.pending
    if not lost and not losses:
        return AtRisk("0" + words.SPACE + "B", "all that it wrote is here") if is_training else _NOTHING
    kinds = dict.fromkeys(_SHORT_LOSSES.get(loss.kind, LOSSES[loss.kind]) for loss in losses)
    what = ", ".join(kinds) if kinds else _outstanding(judged)
    return AtRisk(words.size(lost), what, danger=is_ending, size=lost)


_NOTHING: Final = AtRisk("nothing", "all is here")


def _outstanding(judged: Judged | None) -> str:
    reasons = () if judged is None else judged.verdict.reasons
    coming = [each for each in reasons if each.kind is ReasonKind.OUTSTANDING]
    name = _PATH.search(coming[0].detail) if coming else None
    return "of its log" if name is None else f"of {words.told(name[1], 40)}"


def _reason(reason: Reason, *, whole: bool) -> str:
    detail = words.told(reason.detail)
    if whole:
        return detail
    match reason.kind:
        case ReasonKind.NOT_QUIET:
            return "it changed a short while ago"
        case ReasonKind.RUNNING:
            return "a run is being written"
        case ReasonKind.NOT_LOOKED_AT if reason.seconds == 0.0:
            return "a full scan is due"
        case ReasonKind.TRANSFERS if detail.startswith("harvestd"):
            return "harvestd is fetching from it"
    return _PATH.sub(lambda match: match[1], detail.partition("; ")[0])


def _telling(reasons: Iterable[Reason]) -> list[Reason]:
    """Return the reasons without those that follow from others or only take time, unless there are no others."""
    found = list(reasons)
    telling = [each for each in found if each.kind is not ReasonKind.NOT_LOOKED_AT or each.seconds != 0.0]
    if any(each.kind is ReasonKind.RUNNING for each in telling):
        telling = [each for each in telling if each.kind is not ReasonKind.NOT_QUIET]
    return telling or found


def _size(size: int | None) -> str:
    return words.size(size) if size else ""


def _still(judged: Judged) -> str:
    return "" if judged.idle_since is None else f"; nothing moves since {words.clock(judged.idle_since)}"


def _never(tally: HostTally) -> str:
    return "The first scan is being made" if tally.state == "connected" else "It was never read"


def _last_answer(judged: Judged, tally: HostTally) -> str:
    if tally.last_success is None:
        return "It was never read"
    seen = words.clock(tally.last_success.timestamp())
    return f"It was read last at {seen}" if tally.state in _UNSEEN else f"Last answer {words.clock(judged.at)}"
