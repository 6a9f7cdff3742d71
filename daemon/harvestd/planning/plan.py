"""What to fetch, what not, and why: a pure function of what the box shows, what is known, what is wanted, and now."""

from collections.abc import Mapping

import msgspec
from msgspec.structs import force_setattr

from harvestd.convention.kinds import VALUE, Kind, Value
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import LeftOut, Source
from harvestd.convention.structs import Immutable
from harvestd.planning.records import FileRecord


class Target(Immutable, gc=False):
    """One place at home for a file."""

    path: LocalPath
    experiment: str | None
    replaces: FileRecord | None = None
    """What stands there now, an earlier version of the same file."""


class FetchFile(Immutable, gc=False):
    """One file to bring home whole."""

    source: Source
    kind: Kind
    targets: tuple[Target, ...]
    reason: str
    marker: bool = False
    beside: frozenset[str] | None = None
    """The names of its group's files in its directory, for an index that names others; None: nobody looks."""
    as_is: bool = False
    """Whether it comes even if its content has not the form or the checksums of its format: it will not change any
    more."""


class FetchGroup(Immutable, gc=False):
    """Files that move into place together, the marker last; one at least."""

    place: str
    files: tuple[FetchFile, ...]
    not_before: Value = Value.CONFIG
    """What was asked for by hand waits for what is always wanted, whatever its kind."""
    size: int = 0
    """Bytes to come: made here."""
    value: Value = Value.CONFIG
    """How early it is wanted: made here."""

    def __post_init__(self) -> None:
        """Add up what the files say; groups are sorted, filtered and counted by it again and again."""
        force_setattr(self, "size", sum([file.source.version.size for file in self.files]))
        value = min([VALUE[file.kind] for file in self.files])
        force_setattr(self, "value", max(value, self.not_before))


class Follow(Immutable):
    """A growing file: append what is new, up to the last whole line or record."""

    source: Source
    kind: Kind
    target: Target
    """`replaces` is what is here already."""
    reason: str
    whole: bool = False
    """The writer is done: bring the raw tail too."""

    @property
    def place(self) -> str:
        """The absolute path on the box."""
        return self.source.place

    @property
    def size(self) -> int:
        """Bytes to come, as far as the last look tells."""
        here = self.target.replaces.size if self.target.replaces else 0
        size = self.source.version.size
        return size - here if size >= here else size

    @property
    def value(self) -> Value:
        """How early it is wanted."""
        return VALUE[self.kind]


class Check(Immutable):
    """A file to hash on the host before it is downloaded: its times changed but not its size, or its place is taken."""

    source: Source
    record: FileRecord
    """Of the file that stands at home."""
    asked_by: str | None = None
    """The storage of `source`, where the file at home came from elsewhere and is only compared with it."""

    @property
    def place(self) -> str:
        """The absolute path on the box."""
        return self.source.place


class Refile(Immutable):
    """A file that is here and belongs at another place at home now: moved there, not fetched again.

    It waited in `_unfiled` until its run was known, or it is an eval's that was renamed on its host.
    """

    record: FileRecord
    target: Target


class Removal(Immutable):
    """A checkpoint at home that was here only until a newer one is: to be removed, now that it is."""

    directory: LocalPath
    files: tuple[FileRecord, ...]
    """What is ours there, the marker first: without it nobody takes the rest for a checkpoint."""
    newer: str
    """The checkpoint that is newer, a neighbour of `directory`."""
    kept: tuple[FileRecord, ...]
    """What stands there in the place of these files; it must, before they go."""


class Remark(Immutable):
    """A file that is here for another reason than its record says."""

    record: FileRecord
    reason: str


class Link(Immutable):
    """A relative link to make at home."""

    path: LocalPath
    target: str


class Waiting(Immutable):
    """Wanted, but not complete or not placeable yet."""

    place: str
    size: int
    reason: str
    seconds: float | None
    """It can be taken after this long, if nothing changes; None: it depends on the box, or on another host."""


class Asked(Immutable):
    """How something that a person asked for by hand stands on this host."""

    run: tuple[str, str]
    """The key of the run."""
    thing: str
    shown: bool = False
    """Whether the host shows the run, or an eval of it: others have no say."""
    files: int = 0
    outstanding: int = 0
    """How many of the files are not here yet."""
    size: int = 0
    """Bytes of all files."""
    refused: tuple[str, ...] = ()
    """Why some never will be."""


class Plan(Immutable):
    """Everything that one look at a host asks for. Each remote entry that is not here stands in exactly one list."""

    groups: tuple[FetchGroup, ...] = ()
    follows: tuple[Follow, ...] = ()
    checks: tuple[Check, ...] = ()
    refiles: tuple[Refile, ...] = ()
    links: tuple[Link, ...] = ()
    removals: tuple[Removal, ...] = ()
    remarks: tuple[Remark, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    left_out: Mapping[str | None, tuple[LeftOut, ...]] = msgspec.field(default_factory=dict)
    """By the experiment that it belongs to; None: to no experiment."""
    ignored: tuple[str, ...] = ()
    """The directories on the box of which a person wants nothing more."""
    asked: tuple[Asked, ...] = ()
    """One for each thing that was asked for and is not settled."""
    asks_for_life: bool = False
    """Whether a run would be known to have died if somebody said that no GPU process is left."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do now."""
        return not (self.groups or self.follows or self.checks or self.tidies)

    @property
    def tidies(self) -> bool:
        """Whether there is anything to do at home that moves no bytes over the wire."""
        return bool(self.refiles or self.links or self.removals or self.remarks)

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes to come."""
        return sum(group.size for group in self.groups) + sum(follow.size for follow in self.follows)

    @property
    def next_due(self) -> float | None:
        """Seconds until the first of the waiting can be taken; None if none of them has a time."""
        return min((wait.seconds for wait in self.waiting if wait.seconds is not None), default=None)
