"""The words of a verdict: whether a box may be switched off, why not, and what would be lost with it. Values alone.

Three answers, and nothing between them: *safe*; *safe except* for losses that are named; *not safe*, with reasons.
What is not known counts against a box: an answer of *safe* is given by proofs, never for want of objections.
"""

from datetime import timedelta
from enum import StrEnum

from msgspec import field

from harvestd.convention.kinds import LossKind
from harvestd.convention.structs import Immutable


class Answer(StrEnum):
    """What a verdict comes to."""

    SAFE = "safe"
    SAFE_EXCEPT = "safe_except"
    NOT_SAFE = "not_safe"


class ReasonKind(StrEnum):
    """Why a box is not safe to switch off; the names stand in `--json`, in events and in the state document."""

    NOT_CONNECTED = "not_connected"
    """Nobody reads the box now."""
    NOT_LOOKED_AT = "not_looked_at"
    """No whole look was made for this verdict, or some of a tree could not be read."""
    ROOT_MISSING = "root_missing"
    """A configured root is not there."""
    ROOT_EMPTY = "root_empty"
    """A root shows nothing at all: not mounted, or fresh."""
    ROOT_CHANGED = "root_changed"
    """Another device stands at a root than before, or nobody can say which."""
    NOTHING_SEEN = "nothing_seen"
    """No run and no eval was ever seen on this host: it is fresh, or the roots are wrong."""
    OUTSTANDING = "outstanding"
    """Something wanted is not here yet."""
    WAITING = "waiting"
    """Something wanted is not complete, or waits for another host."""
    ASKED_FOR = "asked_for"
    """Something asked for by hand is not here yet."""
    FAILING = "failing"
    """Something wanted can't be read on the box."""
    IN_THE_WAY = "in_the_way"
    """Something wanted can't be put in its place at home."""
    MISSING_AT_HOME = "missing_at_home"
    """Something that was brought is not as it was put here."""
    RUNNING = "running"
    """A run is being written, or is not known to have ended."""
    NOT_QUIET = "not_quiet"
    """Something moved within `verdict.idle_for`, or nobody has watched for that long."""
    GPU_BUSY = "gpu_busy"
    """Processes run on its GPUs, or it can't say."""
    LOGGED_IN = "logged_in"
    """Somebody is logged in, or it can't say."""
    TRANSFERS = "transfers"
    """Files are being copied to or from it, by us or by others, or it can't say."""
    LOSSES_UNKNOWN = "losses_unknown"
    """It could not be found out what would be lost."""


class Reason(Immutable):
    """One thing that stands in the way."""

    kind: ReasonKind
    detail: str
    """A short sentence without a full stop. It may quote what a box sent, and is escaped where it is shown."""
    size: int | None = None
    """Bytes that are outstanding for it, where it is about bytes."""
    seconds: float | None = None
    """It will be over after this long if nothing changes; None: that depends on the box or on a person."""


class Loss(Immutable):
    """Something that would be lost, or would survive elsewhere."""

    kind: LossKind
    what: str
    """Its place on the box, or a few words; escaped where it is shown."""
    size: int | None
    """Bytes; None where they are not counted."""
    entries: int = 1
    """How many files."""


class Survival(Immutable):
    """Something that lies on storage which outlives the box and is reachable through another."""

    loss: Loss
    through: str
    """The name of that host."""


class Verdict(Immutable):
    """All that was found out about one host at one moment."""

    answer: Answer
    reasons: tuple[Reason, ...] = ()
    """The most important first; empty unless the answer is *not safe*."""
    losses: tuple[Loss, ...] = ()
    survives: tuple[Survival, ...] = ()
    accepted: frozenset[LossKind] = field(default_factory=frozenset)
    """Losses that the operator accepts beforehand."""

    @property
    def outstanding(self) -> int:
        """Bytes that are wanted and not here, as far as they are known."""
        return sum(reason.size or 0 for reason in self.reasons)

    @property
    def is_safe(self) -> bool:
        """Whether the box may go, by what the operator accepts: `harvestd safe` exits 0 then."""
        if self.answer is Answer.NOT_SAFE:
            return False
        return all(self.accepts(loss.kind) for loss in self.losses)

    def accepts(self, kind: LossKind) -> bool:
        """Return whether the operator accepts losses of this kind; what is accepted unevaluated is so evaluated."""
        return kind in self.accepted or (
            kind is LossKind.EVALUATED_CHECKPOINTS and LossKind.CHECKPOINTS in self.accepted
        )

    @property
    def left(self) -> timedelta | None:
        """How long until it is safe if nothing changes; None where that depends on more than time."""
        if any(reason.seconds is None for reason in self.reasons):
            return None
        return timedelta(seconds=max((reason.seconds or 0.0 for reason in self.reasons), default=0.0))
