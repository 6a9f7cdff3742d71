"""The classified parts of a snapshot: sources, groups, runs, evals, skipped entries.

Compares which trees the hosts of one storage show. Pure. A host with a working connection may have lost its file
system: a mount that failed after a reboot, or a directory that its user may no longer list. Then another host of the
same storage that shows more is the one to fetch from.
"""

from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Self
from weakref import ref

from msgspec.structs import force_setattr

from harvestd.convention.kinds import EvalStep, Finetuned, Kind, LossKind, RunName
from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.snapshot import Snapshot, Tree, TreeState, Version
from harvestd.convention.structs import Immutable, value


class Source(Immutable, gc=False):
    """One regular file on a host, as of the last scan."""

    tree: Tree
    path: RemotePath
    version: Version
    place: str = ""
    """The absolute path on the host; computed once, since it is the key of frequent look-ups."""

    def __post_init__(self) -> None:
        """Compute the absolute path."""
        force_setattr(self, "place", place_of(self.tree, self.path))


def place_of(tree: Tree, path: RemotePath) -> str:
    """Return the absolute path on the host; with the storage it is the key of a file, a run or an eval."""
    return f"{tree}/{path}"


class Wanted(Immutable, gc=False):
    """A file to fetch."""

    source: Source
    kind: Kind
    depth: int
    """The number of path components up to its run or eval directory."""
    reason: str
    """The reason for fetching it, for the manifest."""

    @property
    def rest(self) -> tuple[str, ...]:
        """The path below its run or eval directory; computed at each use, since there are thousands of these."""
        return self.source.path.parts[self.depth :]


def marker_last(members: Iterable[Wanted], marker: Source | None) -> tuple[Wanted, ...]:
    """Return the members in the order of publishing; `marker` is the source of one of them, the identical object."""
    members = tuple(members)
    if marker is None or members[-1].source is marker:
        return members
    return tuple(sorted(members, key=lambda member: member.source is marker))


class Group(Immutable, gc=False):
    """Files that are complete together and are published together: a leaf, a checkpoint, or a single file."""

    tree: Tree
    path: RemotePath
    members: tuple[Wanted, ...]
    """In the order of publishing: the marker last."""
    marker: Source | None = None
    """The file that is written last."""
    needs_marker: bool = False
    """Whether the group is never complete without its marker, even if unchanged for long."""
    witnesses: tuple[Version, ...] = ()
    """Versions of siblings that are not fetched, but whose times also must not be newer than the marker."""

    @classmethod
    def single(cls, wanted: Wanted) -> Self:
        """Make the group of a single file."""
        return cls(wanted.source.tree, wanted.source.path, (wanted,))

    @property
    def place(self) -> str:
        """The absolute path on the host of the directory, or of the single file."""
        return place_of(self.tree, self.path)

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.source.version.size for member in self.members)


@value
class LeftOut:
    """Something on a host that is not fetched, and the reason. A directory is one entry with a total."""

    place: str
    size: int | None
    """Bytes; None if unknown."""
    entries: int
    reason: str
    hindered: bool = field(default=False, compare=False)
    """Whether it is wanted but blocked by something local, not excluded by a rule. Not recorded."""
    loss: LossKind | None = field(default=None, compare=False)
    """The kind of loss if the host ends; None: no loss, or it is accounted for elsewhere. Not recorded."""
    gone_at: float | None = None
    """When it was found to be no longer on the host: Unix time on our clock; None: it existed at the last scan."""


class SymbolicLink(Immutable):
    """A symbolic link that leads, or may lead, out of its run or eval directory."""

    tree: Tree
    path: RemotePath
    target: str
    """As written on the host; empty if it can't be read."""

    @property
    def place(self) -> str:
        """The absolute path on the host."""
        return place_of(self.tree, self.path)


class OnRequest(Immutable):
    """A group that a rule leaves out until a person requests it."""

    group: Group
    reason: str
    """The beginning of the reason in its `LeftOut` line."""


class RunDir(Immutable):
    """One run_* directory of a training tree."""

    tree: Tree
    path: RemotePath
    name: RunName
    groups: tuple[Group, ...]
    checkpoints: tuple[Group, ...]
    """All that exist, complete or not; `planning.retention` selects the wanted ones."""
    growing: tuple[Wanted, ...]
    left_out: tuple[LeftOut, ...]
    config: Source | None
    """config.yaml; without it the directory is not a run."""
    final_info: Source | None
    """training_info.json of step_final: if it parses, the run is finished."""
    latest: str | None
    """The checkpoint to which the link step_latest leads, if that is in the same directory."""
    adapter: Source | None = None
    """adapter_config.json of the newest checkpoint that has one; the final checkpoint takes precedence."""
    writer: str | None = None
    """The hostname of the machine that wrote its newest TensorBoard file."""
    events_began: int | None = None
    """Unix seconds in the name of its oldest TensorBoard file."""
    links: tuple[SymbolicLink, ...] = ()
    """Links that lead out of the directory and that the operator did not exclude."""
    lacks_log: bool = False
    """Whether it was listed completely, has no log, and the operator's patterns do not exclude one."""
    place: str = ""
    """The absolute path on the host; computed once, since each pass looks up every directory by it."""

    def __post_init__(self) -> None:
        """Compute the absolute path."""
        force_setattr(self, "place", place_of(self.tree, self.path))

    @property
    def may_be_part(self) -> bool:
        """Whether it has checkpoints and no log, as on a disk to which only some ranks of a run write."""
        return self.lacks_log and bool(self.checkpoints)


class EvalGroups(Immutable, weakref=True):
    """The groups of an eval directory."""

    wanted: tuple[Group, ...]
    on_request: tuple[OnRequest, ...] = ()
    """Records."""


class EvalContents:
    """Holds the groups of an eval directory, or makes them anew from its entries for each use.

    A host shows thousands of evals in which nothing is to be done for days. Groups are most of what each of them needs
    in memory, and making them takes some microseconds a file.
    """

    __slots__ = ("_latest", "_made", "_make")

    def __init__(self, made: EvalGroups, make: Callable[[], EvalGroups]) -> None:
        """`make` returns an equal of `made` at each call."""
        self._made: EvalGroups | None = made
        self._latest = ref(made)
        self._make = make

    def groups(self) -> EvalGroups:
        """Return the groups: the same object for as long as a caller keeps it."""
        made = self._made or self._latest()
        if made is None:
            made = self._make()
            self._latest = ref(made)
        return made

    def release(self) -> None:
        """Hold the groups no longer."""
        self._made = None

    def __eq__(self, other: object) -> bool:
        """Compare the groups."""
        return isinstance(other, EvalContents) and self.groups() == other.groups()

    __hash__ = None  # type: ignore[assignment]  # as for every value with __eq__ alone


class EvalDir(Immutable):
    """Evals that belong together: those of one run (layouts A and D), or those of one step (B and C)."""

    tree: Tree
    path: RemotePath
    contents: EvalContents
    left_out: tuple[LeftOut, ...]
    run: RunName | None
    """The run in the directory's name (A, D)."""
    config: Source | None = None
    """eval_config.yaml, which also names the run (A)."""
    step: EvalStep | None = None
    """The step in the directory's name (B, C)."""
    finetuned: tuple[Finetuned, ...] = ()
    """The backbones and fine-tuning datasets in the names inside it (A) or in its own path (B, C)."""
    links: tuple[SymbolicLink, ...] = ()
    """Links that lead out of the directory and that the operator did not exclude."""
    place: str = ""
    """The absolute path on the host; computed once, since each pass looks up every directory by it."""

    def __post_init__(self) -> None:
        """Compute the absolute path."""
        force_setattr(self, "place", place_of(self.tree, self.path))

    @property
    def groups(self) -> tuple[Group, ...]:
        """What is wanted. A caller that reads it more than once keeps `contents.groups()` meanwhile."""
        return self.contents.groups().wanted

    @property
    def on_request(self) -> tuple[OnRequest, ...]:
        """Records that a rule leaves out."""
        return self.contents.groups().on_request

    @property
    def is_base(self) -> bool:
        """Whether these are evals of the model before training."""
        return self.run is None and self.step is not None and self.step.step == "base"


class ScanResult(Immutable):
    """A classified snapshot: every entry belongs to exactly one of these."""

    runs: tuple[RunDir, ...]
    evals: tuple[EvalDir, ...]
    left_out: tuple[LeftOut, ...]
    """Entries that belong to no run and no eval."""
    links: tuple[SymbolicLink, ...] = ()
    """Links that belong to no run and no eval, and that the operator did not exclude."""


_CLOSED = frozenset({TreeState.NO_ROOT, TreeState.DENIED})


class View(Immutable):
    """The trees of which one host shows nothing, by absolute path."""

    closed: frozenset[str] = frozenset()
    """Trees whose root does not exist, or that may not be listed."""
    bare: frozenset[str] = frozenset()
    """Trees without content for any reason; a superset of `closed`."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """Return the view of a snapshot."""
        listings = [each for each in snapshot.listings if each.state is not TreeState.TWIN]
        bare = frozenset(str(each.tree) for each in listings if not each.entries and not each.unreadable)
        closed = frozenset(str(each.tree) for each in listings if each.state in _CLOSED)
        return cls(closed & bare, bare)


def sees_more(other: View, own: View) -> bool:
    """Return whether `other` shows trees that are closed in `own`, and everything that `own` shows."""
    return other.closed < own.closed and other.bare <= own.bare


def may_see_more(other: View, own: View) -> bool:
    """Return whether `other` shows trees in which `own` shows nothing; a network file system may just be slow."""
    return other.bare < own.bare
