"""The inputs of a verdict on one host, as one value. Whatever is unknown is marked so, and counts against the host.

They are gathered from one full scan, the host's report about itself and the data root; `check` uses nothing else.

Keeps what was found out about each directory until one of its inputs changes. Pure. A directory whose part of the
plan is kept (`HostPlanner.kept`: the same object) has the same evidence as before.

A host's report about itself for a verdict: activity on it, and files outside its trees. Values. `Box.circumstances`
returns it. Everything is untrusted: counted, bounded, and escaped for display.

Recognises a tree's file system after its device number has changed. Pure. The kernel assigns new device numbers at
each mount of NFS, virtiofs or btrfs. Files prove that the file system is the same: another one can't reproduce the
inode, change time, modification time and size of a file that was read before.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from enum import StrEnum
from typing import Protocol, TypeVar, cast

from msgspec import field
from msgspec.structs import replace

from harvestd.convention.kinds import LossKind
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import EvalDir, RunDir
from harvestd.convention.scan.snapshot import Listing, TreeState
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.convention.structs import Immutable
from harvestd.planning.host_plan.planner import HostPlanner
from harvestd.planning.plan import Plan
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.planning.run_status import Liveness, has_died, quiet_for
from harvestd.safety.verdict import Loss


class Checkout(Immutable):
    """A git checkout in the home directory with work that is nowhere else."""

    place: str
    """The absolute path on the host."""
    changed: int
    """Files that differ from the last commit or are untracked; 0 if only commits would be lost."""
    unpushed: int
    """Commits that are on no remote branch."""


class Outside(Immutable):
    """Recently changed files outside the watched trees."""

    files: int
    size: int
    """Bytes."""
    newest: tuple[str, ...] = ()
    """Absolute paths of some of them."""
    whole: bool = True
    """Whether the home directory, the roots and the other usual places could be searched completely within the limits
    of time and number; unreadable directories of others in the usual places do not count."""
    missed: str = ""
    """The first place that was not searched, and why; empty if everything was, or if the host gives no reason."""


class CarrierState(StrEnum):
    """Why a program counts as transferring files; the values are those of the probe's protocol."""

    MOVES = "moves"
    """It transferred bytes recently."""
    OPEN = "open"
    """It has an open file below the roots."""
    UNSENT = "unsent"
    """It provides a mount, and its cache has unsent data."""
    UNKNOWN = "unknown"
    """Its activity is not visible to harvestd's user."""


class Carrier(Immutable):
    """A process that transfers files to or from a host."""

    program: str
    pid: int
    state: CarrierState


class Circumstances(Immutable):
    """Facts beside the trees for or against terminating a host. None means unknown and is treated as unsafe."""

    machine: str = ""
    """Its machine id, which is constant for an installation; empty if it has none."""
    hostname: str = ""
    gpu_processes: int | None = None
    log_ins: int | None = None
    """Sessions of people, without harvestd's own."""
    transfers: int | None = None
    """Processes that transfer files to or from the host (scp, rsync, sftp-server, rclone …), without harvestd's own."""
    carriers: tuple[Carrier, ...] = ()
    """The first few of them."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """By configured root: the device number of its file system. A root that does not exist has no entry."""
    outside: Outside | None = None
    checkouts: tuple[Checkout, ...] | None = None
    """Only those in which something would be lost."""
    unclear: str = ""
    """Why checkouts, or everything, are unknown; empty if they are known, or if the host gives no reason."""
    gpus_unclear: str = ""
    """Why the GPU processes are unknown; empty in the same cases as `unclear`."""

    def without(self, programs: Collection[str]) -> "Circumstances":
        """Return the same facts without the carriers that run one of `programs`."""
        if self.transfers is None or not programs:
            return self
        left = tuple(each for each in self.carriers if each.program not in programs)
        return replace(self, carriers=left, transfers=self.transfers - (len(self.carriers) - len(left)))


_SHOWN_CARRIERS = 3
_STATES = {
    CarrierState.MOVES: "moved bytes lately",
    CarrierState.OPEN: "has files below the roots open",
    CarrierState.UNSENT: "its cache holds unsent data",
    CarrierState.UNKNOWN: "what it does is not shown; verdict.ignore_programs passes over it",
}


def carriers_named(found: Circumstances) -> str:
    """Return the programs that transfer files as text, each with its process and reason; empty if there are none."""
    shown = [f"{each.program} (process {each.pid}: {_STATES[each.state]})" for each in found.carriers[:_SHOWN_CARRIERS]]
    return ", ".join(shown)


def renumbered(known: Mapping[str, int], listings: Iterable[Listing], files: Iterable[FileRecord]) -> dict[str, int]:
    """Return the new devices of the trees that are provably on the same file system as before.

    `known`: the recorded devices by place; `files`: the records of files fetched from this storage before this scan.
    """
    present = [each for each in listings if each.state is TreeState.PRESENT]
    moved = [each for each in present if each.device and known.get(str(each.tree), each.device) != each.device]
    records = tuple(files) if moved else ()
    return {str(each.tree): each.device for each in moved if _is_proven(each, records)}


def renumbered_roots(known: Mapping[str, int], listings: Iterable[Listing], roots: Mapping[str, int]) -> dict[str, int]:
    """Return the new devices of the roots that share a file system with a tree below, if all trees are unchanged."""
    now = {str(each.tree): each.device for each in listings if each.state is TreeState.PRESENT}
    found: dict[str, int] = {}
    for root, device in roots.items():
        below = [place for place in known if place.startswith(f"{root.rstrip('/')}/")]
        right = all(now.get(place) == known[place] for place in below)
        if known.get(root, device) != device and right and device in {now.get(place) for place in below}:
            found[root] = device
    return found


def _is_proven(listing: Listing, files: Iterable[FileRecord]) -> bool:
    """Return whether more files of a tree are exactly as they were read than have another inode, and at least one."""
    start = f"{listing.tree}/"
    versions = {each.place: each.version for each in files if each.place.startswith(start) and each.version.inode}
    if not versions:
        return False
    same = other = 0
    for path, entry in listing.entries.items():
        before = versions.get(f"{start}{path}")
        if before is not None:
            same += bool(before.ctime_ns) and before == entry.version
            other += before.inode != entry.version.inode
    return same > other


class ScanEvidence(Immutable):
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
    liveness: Liveness,
    sightings: StabilityTracker,
    now: float,
    hoping: float | None = None,
) -> RunState:
    """Return the state of a run on `host` at `now` (monotonic seconds); `elsewhere` is set by the caller.

    `hoping`: `left` for a run whose state depends on its processes, if these have not been queried yet.
    """
    if record is not None and record.finished:
        return RunState(run.place, ended=True)
    died = has_died(run, record.shown_by if record else host, liveness, sightings, now)
    quiet = quiet_for(run, sightings, now)
    left = hoping if died is None else liveness.idle_for - quiet if quiet < liveness.idle_for else None
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
    scan: ScanEvidence | None = None
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
