"""Compares each file with its local path: free, up to date, changed, to be moved, or taken by another file.

A plan claims a path only once. Whatever is not fetched is left out with a reason; nothing is overwritten silently.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import Enum, auto

from msgspec.structs import force_setattr

from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.scan.model import Group, LeftOut, Source, Wanted
from harvestd.convention.scan.snapshot import Version
from harvestd.planning.destinations import Destination
from harvestd.planning.identity import views_of
from harvestd.planning.index import PlanningIndex
from harvestd.planning.plan import Check, FileMove, Target
from harvestd.planning.records import UNFILED, FileRecord

CHECK_FROM = 1024 * 1024
"""Bytes: a file at least this large with unchanged size is hashed on the host before it is fetched again."""


class Compared(Enum):
    """The result of comparing a file with the one that has its local path."""

    SAME = auto()
    OTHER = auto()
    UNKNOWN = auto()


class Targets:
    """Assigns local paths for one plan and collects the resulting checks, moves and reasons."""

    def __init__(
        self,
        host: str,
        storage: str,
        knowledge: PlanningIndex,
        refused: Mapping[tuple[str, LocalPath], tuple[Version, str]],
        connected_storages: Collection[str] = (),
    ) -> None:
        """Prepare for one plan; `refused`: by (remote path, target) the version that could not be published, and why.

        `connected_storages`: the other storages whose hosts are connected now.
        """
        self._connected_storages = connected_storages
        self._host = host
        self._storage = storage
        self._knowledge = knowledge
        self._refused = refused
        self._refused_places = {place for place, _ in refused}
        self._claimed: dict[LocalPath, Source] = {}
        self._moved: set[tuple[str, str, LocalPath]] = set()
        self._asked: set[str] = set()
        """The remote paths of files that are to be compared."""
        self.checks: list[Check] = []
        self.refiles: list[FileMove] = []
        self.left_out: dict[str | None, list[LeftOut]] = {}
        self.refusals: dict[str, str] = {}
        """By remote path: why a wanted file can't be stored here."""

    def leave_out(self, experiment: str | None, entries: Iterable[LeftOut]) -> None:
        """Record what is not fetched; `experiment` is the one whose manifest lists it."""
        self.left_out.setdefault(experiment, []).extend(entries)

    def here(self, group: Group, destination: Destination, between: tuple[str, ...]) -> list[FileRecord] | None:
        """Return the records of a group's files if all are local at their paths in `destination`; else None.

        Their versions may differ. Then `destination_for` returns `destination`, and `changed` what `sealed` does, at a
        fraction of the cost.
        """
        above, file_at = destination.directory.parts + between, self._knowledge.file_at
        found: list[FileRecord] = []
        for member in group.members:
            source = member.source
            record = file_at(self._storage, source.place, above + member.rest)
            if record is None or source.place in self._refused_places:
                return None
            found.append(record)
        return found

    def sealed(self, wanted: Wanted, destination: Destination, rest: tuple[str, ...]) -> Target | None:
        """Return the target for fetching this complete file now; None if it is local, moved, checked or left out."""
        source = wanted.source
        record = self._knowledge.file_at(self._storage, source.place, destination.directory.parts + rest)
        refused_once = source.place in self._refused_places
        if record is not None and record.version == source.version and not refused_once:
            return None
        path = self._path(source, destination, rest)
        if path is None:
            return None
        refused = self._refused.get((source.place, path)) if refused_once else None
        if refused is not None and refused[0] == source.version and not self._is_held(source, path):
            self._hinder(destination, source, refused[1])
            return None
        record = record or self._carried_on(destination, path)
        waiting = self._copy_elsewhere(source, destination) if record is None else None
        if destination.experiment is None and waiting is not None:
            # Another host of the same storage fetched it: it is in that host's `_unfiled` directory, or already placed.
            record = waiting
        if record is not None:
            return self.changed(source, record, destination)
        if not self._claim(source, destination, path):
            return None
        target = Target(path, destination.experiment)
        if waiting is not None:
            self._moved.add(waiting.key)
            self.refiles.append(FileMove(waiting, target))
            return None
        return target

    def growing(self, wanted: Wanted, destination: Destination) -> Target | None:
        """Return the target of a growing file, with the record of its local part; None if it is left out."""
        source = wanted.source
        path = self._path(source, self._growing_destination(wanted, destination), wanted.rest)
        if path is None:
            return None
        refused = self._refused.get((source.place, path))
        if refused is not None and _continues(source.version, refused[0]):
            self._hinder(destination, source, refused[1])
            return None
        record = self._knowledge.file(self._storage, source.place, path) or self._carried_on(destination, path)
        if record is None and not self._claim(source, destination, path):
            return None
        elsewhere = self._copy_elsewhere(source, destination) if record is None else None
        if elsewhere is not None:
            self._moved.add(elsewhere.key)
            self.refiles.append(FileMove(elsewhere, Target(path, destination.experiment)))
            return None
        return Target(path, destination.experiment, record)

    def _path(self, source: Source, destination: Destination, rest: tuple[str, ...]) -> LocalPath | None:
        try:
            return destination.directory.child(*rest)
        except RejectedPath as e:
            self._hinder(destination, source, f"its local path is not valid: {e}")
            return None

    def _claim(self, source: Source, destination: Destination, path: LocalPath) -> bool:
        holder = self._knowledge.holder(path)
        if holder is not None:
            if self._compared(source, holder) is Compared.SAME:
                return False
            taken_by = f"{holder.host}:{holder.place}"
        elif path in self._claimed:
            taken_by = f"{self._host}:{self._claimed[path].place}"
        else:
            self._claimed[path] = source
            return True
        self._hinder(destination, source, f"its local path is taken by {taken_by}")
        return False

    def destination_for(self, group: Group, destination: Destination, between: tuple[str, ...]) -> Destination | None:
        """Return the directory of a group, `destination` or the one beside it; None while its files are compared.

        Another host, or another directory of this one, may have provided files of the same names. Files with the same
        content then count as local; a group with any other content is placed beside them, under the name of this host.
        """
        compared: set[Compared] = set()
        beside: Destination | None = None
        for member in group.members:
            parts = destination.directory.parts + between + member.rest
            holder = self._knowledge.holder_at(parts)
            if holder is None or self._is_own(member.source, holder) or self._carries_on(destination, holder):
                continue
            found = self._compared(member.source, holder)
            compared.add(found)
            beside = beside or destination.beside(self._host)
            if beside is not None and self._is_beside(member, beside, between):
                return beside
            if found is Compared.UNKNOWN and member.source.place not in self._asked:
                self._asked.add(member.source.place)
                self.checks.append(Check(member.source, holder, self._storage))
        if Compared.OTHER in compared:
            return beside or destination
        return None if Compared.UNKNOWN in compared else destination

    def _growing_destination(self, wanted: Wanted, destination: Destination) -> Destination:
        """Return the directory of a growing file: beside a file of the same name from another disk of the run.

        Growing files are not compared: they would be equal only until one of them is written.
        """
        if not destination.is_joint:
            return destination
        holder = self._knowledge.holder_at(destination.directory.parts + wanted.rest)
        if holder is None or self._is_own(wanted.source, holder) or self._carries_on(destination, holder):
            return destination
        return destination.beside(self._host) or destination

    def _is_held(self, source: Source, path: LocalPath) -> bool:
        """Return whether a path has the record of another source's file: two hosts published there at the same time.

        Then the refusal is ignored and the two are compared.
        """
        holder = self._knowledge.holder(path)
        return holder is not None and not self._is_own(source, holder)

    def _is_own(self, source: Source, holder: FileRecord) -> bool:
        return (holder.storage, holder.place) == (self._storage, source.place)

    def _is_beside(self, member: Wanted, beside: Destination, between: tuple[str, ...]) -> bool:
        parts = beside.directory.parts + between + member.rest
        return self._knowledge.file_at(self._storage, member.source.place, parts) is not None

    def _compared(self, source: Source, holder: FileRecord) -> Compared:
        """Compare a file's content with that of the file at its local path, as far as known."""
        if source.version.size != holder.size:
            return Compared.OTHER
        sha256 = self._knowledge.hash_of(self._storage, source.place, source.version)
        if sha256 is None:
            return Compared.UNKNOWN
        return Compared.SAME if sha256 == holder.sha256 else Compared.OTHER

    def _carried_on(self, destination: Destination, path: LocalPath) -> FileRecord | None:
        """Return the record of a file of the same run that another storage provided and that this host continues."""
        holder = self._knowledge.holder(path)
        return holder if holder is not None and self._carries_on(destination, holder) else None

    def _carries_on(self, destination: Destination, holder: FileRecord) -> bool:
        """Return whether this host continues a file that another storage provided: both show the same directory.

        A base eval's file is continued only if no host of the other storage is connected.
        """
        if holder.storage == self._storage or holder.experiment != destination.experiment:
            return False
        if destination.is_shared and holder.storage in self._connected_storages:
            return False
        own = (run for run in self._knowledge.runs_of(destination.experiment) if run.storage == self._storage)
        return any(view.storage == holder.storage for run in own for view in views_of(run, self._knowledge))

    def _copy_elsewhere(self, source: Source, destination: Destination) -> FileRecord | None:
        """Return the record of a local copy of a file that must move to another path.

        It is in `_unfiled`, or was placed under the name that it had on its host before. A base eval has a copy in each
        experiment, which moves only within it. A placed file that would belong in `_unfiled` now stays where it is.
        """
        copies = self._knowledge.copies(self._storage, source.place)
        if not copies:
            return None
        elsewhere = (each for each in copies if each.key not in self._moved and _moves(each, destination))
        return min(elsewhere, key=lambda each: each.target, default=None)

    def changed(self, source: Source, record: FileRecord, destination: Destination) -> Target | None:
        """Return the target for fetching a local file again; None if it is up to date, or to be checked before."""
        if record.version == source.version:
            if record.version is not source.version or record.place is not source.place:
                _share(source, record)
            return None
        same_size = record.version.size == source.version.size
        same_time = record.version.mtime_ns == source.version.mtime_ns
        # A base eval has copies in many experiments: all would be fetched again although only its times changed.
        dear = destination.is_shared or same_time or source.version.size >= CHECK_FROM
        if same_size and dear and record.differs != source.version:
            self.checks.append(Check(source, record))
            return None
        return Target(record.target, record.experiment, record)

    def _hinder(self, destination: Destination, source: Source, reason: str) -> None:
        """Leave out a wanted file that only its local path blocks."""
        self._leave_out(destination, LeftOut(source.place, source.version.size, 1, reason, hindered=True))

    def _leave_out(self, destination: Destination, entry: LeftOut) -> None:
        self.refusals[entry.place] = entry.reason
        self.leave_out(destination.experiment, [entry])


def _share(source: Source, record: FileRecord) -> None:
    """Make both hold the same objects for their equal values: a record from the database has its own, 350 bytes."""
    force_setattr(record, "version", source.version)
    force_setattr(source, "place", record.place)


def _moves(copy: FileRecord, destination: Destination) -> bool:
    if copy.target.parts[0] == UNFILED or destination.experiment is None:
        return True
    # The record of a file that was renamed on its host has no change time (`renamed`).
    return copy.version.ctime_ns == 0 and (not destination.is_shared or copy.experiment == destination.experiment)


def _continues(version: Version, refused: Version) -> bool:
    """Return whether `version` may be the refused growing file with more data; a file that was created anew is not."""
    return version.inode == refused.inode and version.size >= refused.size
