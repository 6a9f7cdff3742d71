"""What the pieces of a snapshot are called once they are understood: sources, groups, runs, evals, leftovers."""

from collections.abc import Iterable
from dataclasses import field
from typing import Self

from msgspec.structs import force_setattr

from harvestd.convention.kinds import Kind, LossKind
from harvestd.convention.paths import RemotePath
from harvestd.convention.patterns import EvalStep, Finetuned, RunName
from harvestd.convention.scan.snapshot import Tree, Version
from harvestd.convention.structs import Immutable, value


class Source(Immutable, gc=False):
    """One regular file on a box, as the last look showed it."""

    tree: Tree
    path: RemotePath
    version: Version
    place: str = ""
    """The absolute path on the box; made once, and here, since a file is looked up by it again and again."""

    def __post_init__(self) -> None:
        """Make the place."""
        force_setattr(self, "place", place_of(self.tree, self.path))


def place_of(tree: Tree, path: RemotePath) -> str:
    """Return the absolute path on the box; with the storage it is the key of a file, a run or an eval."""
    return f"{tree}/{path}"


class Wanted(Immutable, gc=False):
    """A file that the convention names."""

    source: Source
    kind: Kind
    depth: int
    """How many components of the path lead to its run, or to its eval directory."""
    reason: str
    """Why it is fetched, for the manifest."""

    @property
    def rest(self) -> tuple[str, ...]:
        """Where it lies below its run, or below its eval directory; made anew, since there are thousands of these."""
        return self.source.path.parts[self.depth :]


def marker_last(members: Iterable[Wanted], marker: Source | None) -> tuple[Wanted, ...]:
    """Return the members in the order of publishing; `marker` is the source of one of them, that very object."""
    if marker is None:
        return tuple(members)
    return tuple(sorted(members, key=lambda member: member.source is marker))


class Group(Immutable, gc=False):
    """Files that are complete together and move into place together: a leaf, a checkpoint, or a single file."""

    tree: Tree
    path: RemotePath
    members: tuple[Wanted, ...]
    """In the order of publishing: the marker last."""
    marker: Source | None = None
    """The file that the box writes last."""
    needs_marker: bool = False
    """Without its marker this group is never complete, however quiet it is."""
    witnesses: tuple[Version, ...] = ()
    """Siblings that are not wanted, but show by their times whether the marker is older than what it marks."""

    @classmethod
    def single(cls, wanted: Wanted) -> Self:
        """Make the group of one file that needs no other."""
        return cls(wanted.source.tree, wanted.source.path, (wanted,))

    @property
    def place(self) -> str:
        """The absolute path on the box of the directory, or of the single file."""
        return place_of(self.tree, self.path)

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.source.version.size for member in self.members)


@value
class LeftOut:
    """Something on a box that does not come home, and why. A directory is one entry with a total."""

    place: str
    size: int | None
    """Bytes; None where they are not counted."""
    entries: int
    reason: str
    hindered: bool = field(default=False, compare=False)
    """Whether no rule leaves it out: it is wanted, and something here stands in its way. Not kept on record."""
    loss: LossKind | None = field(default=None, compare=False)
    """What is lost with it where the host ends; None: nothing, or it is accounted for elsewhere. Not kept on record."""
    gone_at: float | None = None
    """Since when it is not on the host any more: Unix time on our clock; None: it was there when it was seen last."""


class SymbolicLink(Immutable):
    """A symbolic link that leads out of its run or eval directory, or may do so."""

    tree: Tree
    path: RemotePath
    target: str
    """As written on the host; empty where it can't be read."""

    @property
    def place(self) -> str:
        """The absolute path on the box."""
        return place_of(self.tree, self.path)


class OnRequest(Immutable):
    """What a rule leaves out and a person can ask for: until then it stands among what is left out."""

    group: Group
    reason: str
    """How the line begins by which it is left out."""


class RunDir(Immutable):
    """One run_* directory in a training tree."""

    tree: Tree
    path: RemotePath
    name: RunName
    groups: tuple[Group, ...]
    checkpoints: tuple[Group, ...]
    """Every one that is there, whole or not; which of them are wanted, `checkpoints` decides."""
    growing: tuple[Wanted, ...]
    left_out: tuple[LeftOut, ...]
    config: Source | None
    """config.yaml; without it the directory is a husk and no run."""
    final_info: Source | None
    """training_info.json of step_final: when it parses, the run is finished."""
    latest: str | None
    """The checkpoint that the link step_latest leads to, if that lies beside it."""
    adapter: Source | None = None
    """adapter_config.json of the newest checkpoint that has one, the final one before all others."""
    writer: str | None = None
    """What the machine that wrote its newest TensorBoard file calls itself."""
    events_began: int | None = None
    """Unix seconds in the name of its oldest TensorBoard file."""
    links: tuple[SymbolicLink, ...] = ()
    """Those that lead out of the directory and that no operator gave up."""
    lacks_log: bool = False
    """Whether it was listed as a whole, no log is there, and the operator's patterns would hide none."""

    @property
    def place(self) -> str:
        """The absolute path on the box."""
        return place_of(self.tree, self.path)

    @property
    def may_be_part(self) -> bool:
        """Whether it holds checkpoints and no log, as a disk does to which only some ranks of a run write."""
        return self.lacks_log and bool(self.checkpoints)


class EvalDir(Immutable):
    """Evals that belong together: those of one run (layouts A and D), or those of one step (B and C)."""

    tree: Tree
    path: RemotePath
    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...]
    run: RunName | None
    """The run that the directory's name points to (A, D)."""
    config: Source | None = None
    """eval_config.yaml, which names the run as well (A)."""
    step: EvalStep | None = None
    """The step that the directory's name says (B, C)."""
    finetuned: tuple[Finetuned, ...] = ()
    """The backbones and fine-tuning datasets that names in it (A) or its own path (B, C) say."""
    on_request: tuple[OnRequest, ...] = ()
    """Records."""
    links: tuple[SymbolicLink, ...] = ()
    """Those that lead out of the directory and that no operator gave up."""

    @property
    def place(self) -> str:
        """The absolute path on the box."""
        return place_of(self.tree, self.path)

    @property
    def is_base(self) -> bool:
        """Whether these are evals of the model as it was before training."""
        return self.run is None and self.step is not None and self.step.step == "base"


class Survey(Immutable):
    """A snapshot, understood: every entry stands in exactly one of these."""

    runs: tuple[RunDir, ...]
    evals: tuple[EvalDir, ...]
    left_out: tuple[LeftOut, ...]
    """What belongs to no run and no eval."""
    links: tuple[SymbolicLink, ...] = ()
    """Those that belong to no run and no eval, and that no operator gave up."""
