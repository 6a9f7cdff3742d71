"""What a verdict on one box rests on, as one value. Whatever nobody found out says so here, and counts against the box.

The harvest gathers it from one whole look, the box's own word and the data root; `judging` reads it and nothing else.
"""

from collections.abc import Mapping

from msgspec import field

from harvestd.convention.kinds import LossKind
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import RunDir
from harvestd.convention.scan.snapshot import Listing
from harvestd.convention.scan.stability import Sightings
from harvestd.convention.structs import Immutable
from harvestd.planning.liveness import Life, has_died, quiet_for
from harvestd.planning.plan import Plan
from harvestd.planning.records import RunRecord
from harvestd.safety.circumstances import Circumstances
from harvestd.safety.verdict import Loss


class Look(Immutable):
    """One look at all trees of a box, and the plan of what that box alone would have to bring."""

    listings: tuple[Listing, ...]
    plan: Plan
    """Made as though no other host showed anything: what another one brings is not here before it is."""
    age: float
    """Seconds since it began."""
    whole: bool = False
    """Whether every entry was looked at for this verdict, those too that rest."""
    rejected: int = 0
    """Names that can't be used, and therefore were not looked at."""
    waived: frozenset[str] = frozenset()
    """The places of directories that can't be listed and that `select.exclude` names."""


class RunState(Immutable):
    """How one run that the box shows stands."""

    place: str
    ended: bool
    """Whether it surely writes nothing more: it is finished, or has died."""
    elsewhere: bool = False
    """Whether another machine, which we know, writes it: on storage of its own it can't be so."""
    left: float | None = None
    """Seconds until it counts as ended if nothing moves; None: nobody knows."""


def run_state(
    run: RunDir,
    record: RunRecord | None,
    host: str,
    life: Life,
    sightings: Sightings,
    now: float,
    hoping: float | None = None,
) -> RunState:
    """Return how a run that `host` shows stands at `now` (monotonic seconds); who writes it, others know.

    `hoping`: when it will have ended where only its processes could tell, and nobody asked for them yet.
    """
    if record is not None and record.finished:
        return RunState(run.place, ended=True)
    died = has_died(run, record.shown_by if record else host, life, sightings, now)
    quiet = quiet_for(run, sightings, now)
    left = hoping if died is None else life.idle_for - quiet if quiet < life.idle_for else None
    return RunState(run.place, ended=died is True, left=left)


class NotHere(Immutable):
    """A wanted file that is not proven to be here, beside what the plan brings or waits for."""

    place: str
    size: int
    reason: str
    """Why it does not come."""
    hindered: bool = True
    """Whether it has a place at home that it can't be put into; else nobody is bringing it."""


class Damaged(Immutable):
    """A file at home that came from this box and is not as it is on record."""

    path: LocalPath
    size: int
    """Bytes that it should have."""


class Evidence(Immutable):
    """Everything about one box at one moment; the defaults are those of a box of which nothing is known."""

    connected: bool = False
    unreadable: str = ""
    """Why it is not connected; empty where that is not known."""
    look: Look | None = None
    roots: tuple[str, ...] = ()
    """As configured."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """By the place of a tree: the device that it was on when something was first seen in it."""
    seen: bool = False
    """Whether any run or eval was ever seen on this host that may be its own."""
    quiet: float = 0.0
    """Seconds for which nothing has moved, appeared or gone, by our own looks; no longer than anybody has watched."""
    still_since: float | None = None
    """The moment of the last movement that `quiet` counts from: monotonic seconds, the same until something moves."""
    idle_for: float = float("inf")
    """Seconds of quiet that are asked for."""
    runs: tuple[RunState, ...] = ()
    not_here: tuple[NotHere, ...] = ()
    failing: Mapping[str, str] = field(default_factory=dict)
    """By its place: why something can't be read on the box."""
    damaged: tuple[Damaged, ...] = ()
    transfers: int = 0
    """Of ours that are under way."""
    losses: tuple[Loss, ...] = ()
    """What of the trees is not here and not wanted, and that no word of the operator's gives up."""
    through: str | None = None
    """Another connected host that shows the same storage, which outlives both; None: there is none."""
    circumstances: Circumstances | None = None
    """None: the box was not asked."""
    accepted: frozenset[LossKind] = field(default_factory=frozenset)
    """Losses that do not stand in the way."""
