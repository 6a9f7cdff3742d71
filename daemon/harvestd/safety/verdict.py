"""The values that make up a verdict: whether a host may be terminated, why not, and what would be lost with it.

There are three answers: *safe*; *safe except* for losses that are listed; *not safe*, with reasons. Unknown facts count
against a host: *safe* requires proofs, not just the absence of objections.

Conversion between verdicts and JSON documents, which `--json`, the catalogue, events and HTTP share. Pure.
`verdict_of(document_of(verdict)) == verdict` for every verdict. Texts are not escaped: whatever displays them does
that.

Converts a verdict made earlier to one that is valid now. Pure: the caller measures its age. A verdict is a proof for
the time at which it was made. Unless a daemon renews it, it proves nothing about the present, and what is unknown is
not safe. Every output of a verdict (table, `--json`, HTTP, metric) uses this module, so that none shows an old *safe*
as a present one.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from msgspec import field
from msgspec.structs import replace

from harvestd.convention.kinds import LossKind
from harvestd.convention.structs import Immutable


class VerdictAnswer(StrEnum):
    """The answer of a verdict."""

    SAFE = "safe"
    SAFE_EXCEPT = "safe_except"
    NOT_SAFE = "not_safe"


class ReasonKind(StrEnum):
    """Why a host is not safe to terminate; the values occur in `--json`, in events and in the state document."""

    NOT_CONNECTED = "not_connected"
    """There is no connection to the host."""
    NOT_LOOKED_AT = "not_looked_at"
    """No full scan was made for this verdict, or a part of a tree could not be read."""
    ROOT_MISSING = "root_missing"
    """A configured root does not exist."""
    ROOT_EMPTY = "root_empty"
    """A root is completely empty: not mounted, or new."""
    ROOT_CHANGED = "root_changed"
    """A root is on another device than before, or on an unknown one."""
    NOTHING_SEEN = "nothing_seen"
    """No run and no eval was ever seen on this host: it is new, or the roots are wrong."""
    OUTSTANDING = "outstanding"
    """Something wanted is not local yet."""
    WAITING = "waiting"
    """Something wanted is not complete, or waits for another host."""
    ASKED_FOR = "asked_for"
    """Something requested by hand is not local yet."""
    FAILING = "failing"
    """Something wanted can't be read on the host."""
    IN_THE_WAY = "in_the_way"
    """Something local blocks the place of something wanted."""
    MISSING_AT_HOME = "missing_at_home"
    """A fetched file is missing or has changed locally."""
    RUNNING = "running"
    """A run is being written, or is not known to have ended."""
    NOT_QUIET = "not_quiet"
    """Something changed within `verdict.idle_for`, or scans do not cover that time."""
    GPU_BUSY = "gpu_busy"
    """Processes run on its GPUs, or that is unknown."""
    LOGGED_IN = "logged_in"
    """People are logged in, or that is unknown."""
    TRANSFERS = "transfers"
    """Files are being transferred to or from it, by us or by others, or that is unknown."""
    LOSSES_UNKNOWN = "losses_unknown"
    """It could not be determined what would be lost."""


class Reason(Immutable):
    """One reason against terminating a host."""

    kind: ReasonKind
    detail: str
    """A short sentence without a full stop. It may contain text from the host and is escaped for display."""
    size: int | None = None
    """Outstanding bytes, if the reason is about bytes."""
    seconds: float | None = None
    """Seconds until it no longer holds if nothing changes; None: that depends on the host or on a person."""


class Loss(Immutable):
    """Something that would be lost, or would survive elsewhere."""

    kind: LossKind
    what: str
    """Its absolute path on the host, or a short text; escaped for display."""
    size: int | None
    """Bytes; None if unknown."""
    entries: int = 1
    """The number of files."""


class Survival(Immutable):
    """Something on storage that outlives the host and is reachable through another one."""

    loss: Loss
    through: str
    """The name of the other host."""


class Verdict(Immutable):
    """The verdict on one host at one time."""

    answer: VerdictAnswer
    reasons: tuple[Reason, ...] = ()
    """The most important first; empty unless the answer is *not safe*."""
    losses: tuple[Loss, ...] = ()
    survives: tuple[Survival, ...] = ()
    accepted: frozenset[LossKind] = field(default_factory=frozenset)
    """The kinds of losses that the operator accepts in advance."""

    @property
    def outstanding(self) -> int:
        """Bytes that are wanted and not local, as far as known."""
        return sum(reason.size or 0 for reason in self.reasons)

    @property
    def is_safe(self) -> bool:
        """Whether the host may be terminated, given what the operator accepts: `harvestd safe` exits with 0 then."""
        if self.answer is VerdictAnswer.NOT_SAFE:
            return False
        return all(self.accepts(loss.kind) for loss in self.losses)

    def accepts(self, kind: LossKind) -> bool:
        """Return whether the operator accepts losses of this kind; `CHECKPOINTS` includes `EVALUATED_CHECKPOINTS`."""
        return kind in self.accepted or (
            kind is LossKind.EVALUATED_CHECKPOINTS and LossKind.CHECKPOINTS in self.accepted
        )

    @property
    def left(self) -> timedelta | None:
        """The time until it is safe if nothing changes; None if that depends on more than time."""
        if any(reason.seconds is None for reason in self.reasons):
            return None
        return timedelta(seconds=max((reason.seconds or 0.0 for reason in self.reasons), default=0.0))


def document_of(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as a JSON document; sizes in bytes, times in seconds, null for unknown values.

    `safe`, `bytes_outstanding` and `seconds_left` are derived from the rest, for the reader's convenience.
    """
    return {
        "answer": verdict.answer.value,
        "safe": verdict.is_safe,
        "reasons": [
            {"kind": each.kind.value, "detail": each.detail, "bytes": each.size, "seconds": each.seconds}
            for each in verdict.reasons
        ],
        "losses": [_loss_document(each) for each in verdict.losses],
        "survives": [_loss_document(each.loss) | {"through": each.through} for each in verdict.survives],
        "accepted": sorted(each.value for each in verdict.accepted),
        "bytes_outstanding": verdict.outstanding,
        "seconds_left": None if verdict.left is None else verdict.left.total_seconds(),
    }


def verdict_of(document: Mapping[str, Any]) -> Verdict:
    """Return the verdict in a document; raise `KeyError`, `TypeError` or `ValueError` if it is invalid."""
    return Verdict(
        VerdictAnswer(document["answer"]),
        reasons=tuple(
            Reason(ReasonKind(each["kind"]), each["detail"], each["bytes"], each["seconds"])
            for each in document["reasons"]
        ),
        losses=tuple(_loss_of(each) for each in document["losses"]),
        survives=tuple(Survival(_loss_of(each), each["through"]) for each in document["survives"]),
        accepted=frozenset(LossKind(each) for each in document["accepted"]),
    )


def text_of(verdict: Verdict) -> str:
    """Return the document as ASCII text, also for names that are not UTF-8; raise `ValueError` for infinite times."""
    return json.dumps(document_of(verdict), allow_nan=False)


def verdict_of_text(text: str) -> Verdict:
    """Return the verdict in such a text; raise errors as `verdict_of` does."""
    return verdict_of(json.loads(text))


def _loss_document(loss: Loss) -> dict[str, Any]:
    return {"kind": loss.kind.value, "what": loss.what, "bytes": loss.size, "entries": loss.entries}


def _loss_of(document: Mapping[str, Any]) -> Loss:
    return Loss(LossKind(document["kind"]), document["what"], document["bytes"], document["entries"])


FRESH_FOR: Final = 900.0
"""Seconds for which a verdict counts as present while a daemon watches its host: it is renewed within 600."""


def is_fresh(age: float, *, watched: bool) -> bool:
    """Return whether a verdict of this age (seconds) counts as present; `watched`: a daemon renews it."""
    return watched and age <= FRESH_FOR


def verdict_now(verdict: Verdict, age: float, *, watched: bool) -> Verdict:
    """Return the present verdict: `verdict` itself while fresh, else *not safe* with its age as the first reason."""
    if is_fresh(age, watched=watched):
        return verdict
    why = "no daemon has renewed it since" if not watched else "it was not renewed since"
    detail = f"the newest verdict ({_words(verdict.answer)}) is {age:.0f} s old, and {why}"
    outdated = Reason(ReasonKind.NOT_LOOKED_AT, detail)
    return replace(verdict, answer=VerdictAnswer.NOT_SAFE, reasons=(outdated, *verdict.reasons))


def document_now(verdict: Verdict, age: float, *, watched: bool) -> dict[str, Any]:
    """Return the present verdict as a JSON document: that of `document_of`, with three keys about its age.

    They are `fresh`, `age_seconds`, and `answer_then`: the answer when it was made, equal to `answer` while it is
    fresh.
    """
    return document_of(verdict_now(verdict, age, watched=watched)) | {
        "fresh": is_fresh(age, watched=watched),
        "age_seconds": round(age, 3),
        "answer_then": verdict.answer.value,
    }


def _words(answer: VerdictAnswer) -> str:
    return answer.value.replace("_", " ")
