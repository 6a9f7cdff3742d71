"""The inputs of a verdict on one host, as one value. Whatever is unknown is marked so, and counts against the host.

They are gathered from one full scan, the host's report about itself and the data root; `check` uses nothing else.

Keeps what was found out about each directory until one of its inputs changes. Pure. A directory whose part of the
plan is kept (`HostPlanner.kept`: the same object) has the same evidence as before.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Protocol, TypeVar, cast

from msgspec import field

from harvestd.convention.kinds import LossKind
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import EvalDir, RunDir
from harvestd.convention.scan.snapshot import Listing
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.convention.structs import Immutable
from harvestd.planning.host_plan.planner import HostPlanner
from harvestd.planning.plan import Plan
from harvestd.planning.records import RunRecord
from harvestd.planning.run_status import Life, has_died, quiet_for
from harvestd.safety.circumstances import Circumstances
from harvestd.safety.verdict import Loss


class Look(Immutable):
    """One scan of all trees of a host, and the plan of what would have to be fetched from this host alone."""

    listings: tuple[Listing, ...]
    plan: Plan
    """Made as if no other host were connected: a file that another host provides counts only once it is local."""
    age: float
    """Seconds since the scan began."""
    whole: bool = False
    """Whether every entry was scanned for this verdict, including directories that regular scans skip as idle."""
    rejected: int = 0
    """The number of names that can't be used and therefore were not scanned."""
    waived: frozenset[str] = frozenset()
    """The absolute paths of unreadable directories that `select.exclude` matches."""


class RunState(Immutable):
    """The state of one run on the host."""

    place: str
    ended: bool
    """Whether nothing more will be written: it is finished, or has died."""
    elsewhere: bool = False
    """Whether another known machine writes it; never true on storage of the host's own."""
    left: float | None = None
    """Seconds until it counts as ended if nothing changes; None: unknown."""


def run_state(
    run: RunDir,
    record: RunRecord | None,
    host: str,
    life: Life,
    sightings: StabilityTracker,
    now: float,
    hoping: float | None = None,
) -> RunState:
    """Return the state of a run on `host` at `now` (monotonic seconds); `elsewhere` is set by the caller.

    `hoping`: `left` for a run whose state depends on its processes, if these have not been queried yet.
    """
    if record is not None and record.finished:
        return RunState(run.place, ended=True)
    died = has_died(run, record.shown_by if record else host, life, sightings, now)
    quiet = quiet_for(run, sightings, now)
    left = hoping if died is None else life.idle_for - quiet if quiet < life.idle_for else None
    return RunState(run.place, ended=died is True, left=left)


class NotHere(Immutable):
    """A wanted file that is not proven to be local and that the plan neither fetches nor waits for."""

    place: str
    size: int
    reason: str
    """Why it is not fetched."""
    hindered: bool = True
    """Whether something local blocks it; otherwise nothing fetches it."""


class Damaged(Immutable):
    """A local file from this host that differs from its record."""

    path: LocalPath
    size: int
    """The expected bytes."""


class Evidence(Immutable):
    """All facts about one host at one time; the defaults stand for a host of which nothing is known."""

    connected: bool = False
    unreadable: str = ""
    """Why it is not connected; empty if unknown."""
    look: Look | None = None
    roots: tuple[str, ...] = ()
    """As configured."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """By the absolute path of a tree: its device when something was first seen in it."""
    seen: bool = False
    """Whether any run or eval that may be this host's own was ever seen on it."""
    quiet: float = 0.0
    """Seconds without any change by our own scans; never more than the time covered by scans."""
    still_since: float | None = None
    """The time of the last change, from which `quiet` counts: monotonic seconds, constant until the next change."""
    idle_for: float = float("inf")
    """Seconds of quiet that are required."""
    runs: tuple[RunState, ...] = ()
    not_here: tuple[NotHere, ...] = ()
    failing: Mapping[str, str] = field(default_factory=dict)
    """By absolute path: why something can't be read on the host."""
    damaged: tuple[Damaged, ...] = ()
    transfers: int = 0
    """The number of our transfers in progress."""
    losses: tuple[Loss, ...] = ()
    """What is in the trees, neither local nor wanted, and not excluded by the operator."""
    through: str | None = None
    """Another connected host with the same storage, which outlives both; None: there is none."""
    circumstances: Circumstances | None = None
    """None: the host was not queried."""
    accepted: frozenset[LossKind] = field(default_factory=frozenset)
    """Kinds of losses that the operator accepts."""


T = TypeVar("T")


class Memo(Protocol):
    """Returns a kept value, or computes it."""

    def of(self, what: str, directory: RunDir | EvalDir, basis: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()`, or its earlier result for the same directory and `basis`; `what` names the value."""
        ...


class NoMemo:
    """Computes every value."""

    def of(self, _what: str, _directory: RunDir | EvalDir, _basis: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()`."""
        return compute()


_Value = tuple[object, Hashable, object]
"""The kept part and the basis with which a value was computed, and the value."""


class DirectoryMemo:
    """Keeps the values of one host's directories from one verdict to the next."""

    def __init__(self, planner: HostPlanner) -> None:
        self._planner = planner
        self._before: dict[tuple[str, int], _Value] = {}
        """By the kind of value and the directory's id."""
        self._values: dict[tuple[str, int], _Value] = {}

    def begin(self) -> None:
        """Begin another verdict: what it does not ask for is dropped."""
        self._before, self._values = self._values, {}

    def of(self, what: str, directory: RunDir | EvalDir, basis: Hashable, compute: Callable[[], T]) -> T:
        """Return a value; see `Memo.of`."""
        kept = self._planner.kept(directory)
        if kept is None:
            return compute()
        key = what, id(directory)
        known = self._before.get(key)
        if known is None or known[0] is not kept or known[1] != basis:
            known = kept, basis, compute()
        self._values[key] = known
        return cast("T", known[2])
