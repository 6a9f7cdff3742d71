"""The values that make up a verdict: whether a host may be terminated, why not, and what would be lost with it.

There are three answers: *safe*; *safe except* for losses that are listed; *not safe*, with reasons. Unknown facts count
against a host: *safe* requires proofs, not just the absence of objections.
"""

from datetime import timedelta
from enum import StrEnum

from msgspec import field

from harvestd.convention.kinds import LossKind
from harvestd.convention.structs import Immutable


class Answer(StrEnum):
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

    answer: Answer
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
        if self.answer is Answer.NOT_SAFE:
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
