"""The plan of one host: what to fetch, what not, and why. Values."""

from collections.abc import Mapping

import msgspec
from msgspec.structs import force_setattr

from harvestd.convention.kinds import VALUE, Kind, Value
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import LeftOut, Source
from harvestd.convention.structs import Immutable
from harvestd.planning.records import FileRecord


class Target(Immutable, gc=False):
    """One local path for a file."""

    path: LocalPath
    experiment: str | None
    replaces: FileRecord | None = None
    """The record of the earlier version of the same file at this path."""


class FetchFile(Immutable, gc=False):
    """One file to fetch completely."""

    source: Source
    kind: Kind
    targets: tuple[Target, ...]
    reason: str
    marker: bool = False
    beside: frozenset[str] | None = None
    """The names of its group's files in its directory, for checking an index against them; None: not checked."""
    as_is: bool = False
    """Whether it is fetched even if its content does not match its format or checksums, since it will not change any
    more."""


class FetchGroup(Immutable, gc=False):
    """Files that are published together, the marker last; at least one."""

    place: str
    files: tuple[FetchFile, ...]
    not_before: Value = Value.CONFIG
    """A lower bound for `value`: requests by hand are fetched after what is always wanted, whatever their kind."""
    size: int = 0
    """Bytes to fetch; computed here."""
    value: Value = Value.CONFIG
    """Its priority; computed here."""

    def __post_init__(self) -> None:
        """Compute size and value once: groups are sorted, filtered and counted by them repeatedly."""
        force_setattr(self, "size", sum([file.source.version.size for file in self.files]))
        value = min([VALUE[file.kind] for file in self.files])
        force_setattr(self, "value", max(value, self.not_before))


class Follow(Immutable):
    """A growing file: append new data up to the last complete line or record."""

    source: Source
    kind: Kind
    target: Target
    """`replaces` is the record of the local part."""
    reason: str
    whole: bool = False
    """Whether the writer is done, so that an incomplete tail is fetched too."""

    @property
    def place(self) -> str:
        """The absolute path on the host."""
        return self.source.place

    @property
    def size(self) -> int:
        """Bytes to fetch as of the last scan."""
        here = self.target.replaces.size if self.target.replaces else 0
        size = self.source.version.size
        return size - here if size >= here else size

    @property
    def value(self) -> Value:
        """Its priority."""
        return VALUE[self.kind]


class Check(Immutable):
    """A file to hash on the host before a download: its times changed but not its size, or its local path is taken."""

    source: Source
    record: FileRecord
    """Of the local file."""
    requested_by: str | None = None
    """The storage of `source` if the local file came from elsewhere and is only compared with it."""

    @property
    def place(self) -> str:
        """The absolute path on the host."""
        return self.source.place


class FileMove(Immutable):
    """A local file that must move to another local path instead of being fetched again.

    It was in `_unfiled` until its run was known, or belongs to an eval that was renamed on its host.
    """

    record: FileRecord
    target: Target


class Removal(Immutable):
    """A local checkpoint to remove, since it was kept only until a newer one is local, which now exists."""

    directory: LocalPath
    files: tuple[FileRecord, ...]
    """Our files in it, the marker first: without the marker, the rest does not count as a checkpoint."""
    newer: str
    """The name of the newer checkpoint, in the same directory as `directory`."""
    kept: tuple[FileRecord, ...]
    """The counterparts of `files` in the newer checkpoint; they must exist before the removal."""


class UpdateReason(Immutable):
    """A local file whose recorded reason must change."""

    record: FileRecord
    reason: str


class Link(Immutable):
    """A relative local link to make."""

    path: LocalPath
    target: str


class Waiting(Immutable):
    """Something wanted that is not complete or has no destination yet."""

    place: str
    size: int
    reason: str
    seconds: float | None
    """Seconds until it can be fetched if nothing changes; None: that depends on this or another host."""


class RequestState(Immutable):
    """The status on this host of something requested by hand."""

    run: tuple[str, str]
    """The key of the run."""
    thing: str
    shown: bool = False
    """Whether the host shows the run or an eval of it; only such hosts count."""
    files: int = 0
    outstanding: int = 0
    """The number of files that are not local yet."""
    size: int = 0
    """Bytes of all files."""
    refused: tuple[str, ...] = ()
    """Why some files never will be local."""


class Plan(Immutable):
    """All work that follows from one scan of a host. Each remote entry without a local copy is in exactly one list."""

    groups: tuple[FetchGroup, ...] = ()
    follows: tuple[Follow, ...] = ()
    checks: tuple[Check, ...] = ()
    refiles: tuple[FileMove, ...] = ()
    links: tuple[Link, ...] = ()
    removals: tuple[Removal, ...] = ()
    remarks: tuple[UpdateReason, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    left_out: Mapping[str | None, tuple[LeftOut, ...]] = msgspec.field(default_factory=dict)
    """By experiment; None: entries of no experiment."""
    ignored: tuple[str, ...] = ()
    """The remote directories that a person asked to ignore."""
    request_states: tuple[RequestState, ...] = ()
    """One for each requested thing that is not settled."""
    needs_liveness: bool = False
    """Whether a run's death depends only on whether a GPU process is left, which must be queried."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to fetch, check or do locally."""
        return not (self.groups or self.follows or self.checks or self.tidies)

    @property
    def tidies(self) -> bool:
        """Whether there is local work without transfers."""
        return bool(self.refiles or self.links or self.removals or self.remarks)

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes to fetch."""
        return sum(group.size for group in self.groups) + sum(follow.size for follow in self.follows)

    @property
    def next_due(self) -> float | None:
        """Seconds until the first waiting entry can be fetched; None if none has a time."""
        return min((wait.seconds for wait in self.waiting if wait.seconds is not None), default=None)
