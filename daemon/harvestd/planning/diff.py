"""Which place at home each file needs: free, here already, changed, to be moved, or taken by another.

One plan claims a place once. Whatever does not come home is left out with a reason; nothing is overwritten in silence.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import Enum, auto

from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.scan.model import Group, LeftOut, Source, Wanted
from harvestd.convention.scan.snapshot import Version
from harvestd.planning.destinations import UNFILED, Home
from harvestd.planning.identity.duplicates import views_of
from harvestd.planning.index import Knowledge
from harvestd.planning.plan import Check, Refile, Target
from harvestd.planning.records import FileRecord

CHECK_FROM = 1024 * 1024
"""Bytes: a file at least this large whose size did not change is hashed on the box before it is fetched again."""


class Compared(Enum):
    """What is known of a file and of the one that has its place at home."""

    SAME = auto()
    OTHER = auto()
    UNKNOWN = auto()


class Targets:
    """The places of one plan, and what finding them brought up: checks, moves and reasons."""

    def __init__(
        self,
        host: str,
        storage: str,
        knowledge: Knowledge,
        refused: Mapping[tuple[str, LocalPath], tuple[Version, str]],
        showing: Collection[str] = (),
    ) -> None:
        """`refused`: (place, target) → the version that could not be put there, and why.

        `showing`: the other storages whose hosts are connected now.
        """
        self._showing = showing
        self._host = host
        self._storage = storage
        self._knowledge = knowledge
        self._refused = refused
        self._refused_places = {place for place, _ in refused}
        self._claimed: dict[LocalPath, Source] = {}
        self._moved: set[tuple[str, str, LocalPath]] = set()
        self._asked: set[str] = set()
        """The places of files that are to be compared."""
        self.checks: list[Check] = []
        self.refiles: list[Refile] = []
        self.left_out: dict[str | None, list[LeftOut]] = {}
        self.refusals: dict[str, str] = {}
        """By its place on the box: why a file that was wanted can't stand here."""

    def leave_out(self, experiment: str | None, entries: Iterable[LeftOut]) -> None:
        """Note what does not come home; `experiment` is whose manifest says so."""
        self.left_out.setdefault(experiment, []).extend(entries)

    def sealed(self, wanted: Wanted, home: Home, rest: tuple[str, ...]) -> Target | None:
        """Return the place that needs this whole file now; None where it is here, moved, checked or left out."""
        source = wanted.source
        record = self._knowledge.file_at(self._storage, source.place, home.directory.parts + rest)
        refused_once = source.place in self._refused_places
        if record is not None and record.version == source.version and not refused_once:
            return None
        path = self._path(source, home, rest)
        if path is None:
            return None
        refused = self._refused.get((source.place, path)) if refused_once else None
        if refused is not None and refused[0] == source.version and not self._is_held(source, path):
            self._hinder(home, source, refused[1])
            return None
        record = record or self._carried_on(home, path)
        waiting = self._copy_elsewhere(source, home) if record is None else None
        if home.experiment is None and waiting is not None:
            # Another host of the same storage brought it and it waits in that one's directory, or it is filed.
            record = waiting
        if record is not None:
            return self._changed(source, record, home)
        if not self._claim(source, home, path):
            return None
        target = Target(path, home.experiment)
        if waiting is not None:
            self._moved.add(waiting.key)
            self.refiles.append(Refile(waiting, target))
            return None
        return target

    def growing(self, wanted: Wanted, home: Home) -> Target | None:
        """Return the place of a file that grows there, with what is here of it; None where it is left out."""
        source = wanted.source
        path = self._path(source, self._growing_home(wanted, home), wanted.rest)
        if path is None:
            return None
        refused = self._refused.get((source.place, path))
        if refused is not None and _goes_on(source.version, refused[0]):
            self._hinder(home, source, refused[1])
            return None
        record = self._knowledge.file(self._storage, source.place, path) or self._carried_on(home, path)
        if record is None and not self._claim(source, home, path):
            return None
        elsewhere = self._copy_elsewhere(source, home) if record is None else None
        if elsewhere is not None:
            self._moved.add(elsewhere.key)
            self.refiles.append(Refile(elsewhere, Target(path, home.experiment)))
            return None
        return Target(path, home.experiment, record)

    def _path(self, source: Source, home: Home, rest: tuple[str, ...]) -> LocalPath | None:
        try:
            return home.directory.child(*rest)
        except RejectedPath as e:
            self._hinder(home, source, f"its place at home can't be made: {e}")
            return None

    def _claim(self, source: Source, home: Home, path: LocalPath) -> bool:
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
        self._hinder(home, source, f"its place at home is taken by {taken_by}")
        return False

    def home_for(self, group: Group, home: Home, between: tuple[str, ...]) -> Home | None:
        """Return where a group belongs, `home` or the directory beside it; None while its files are compared.

        Another host, or another directory of this one, may have brought files of the same names. What has the same
        content is here then; a group with any other content is filed beside, under the name of this host.
        """
        compared: set[Compared] = set()
        beside: Home | None = None
        for member in group.members:
            parts = home.directory.parts + between + member.rest
            holder = self._knowledge.holder_at(parts)
            if holder is None or self._is_own(member.source, holder) or self._carries_on(home, holder):
                continue
            found = self._compared(member.source, holder)
            compared.add(found)
            beside = beside or home.beside(self._host)
            if beside is not None and self._is_beside(member, beside, between):
                return beside
            if found is Compared.UNKNOWN and member.source.place not in self._asked:
                self._asked.add(member.source.place)
                self.checks.append(Check(member.source, holder, self._storage))
        if Compared.OTHER in compared:
            return beside or home
        return None if Compared.UNKNOWN in compared else home

    def _growing_home(self, wanted: Wanted, home: Home) -> Home:
        """Return where a growing file belongs: beside one of the same name that is of another disk of the run.

        What grows is not compared: it would be equal only for as long as neither is written.
        """
        if not home.is_joint:
            return home
        holder = self._knowledge.holder_at(home.directory.parts + wanted.rest)
        if holder is None or self._is_own(wanted.source, holder) or self._carries_on(home, holder):
            return home
        return home.beside(self._host) or home

    def _is_held(self, source: Source, path: LocalPath) -> bool:
        """Return whether another source's file has a place on record: two hosts filed there at the same time.

        That one was refused says nothing then; the two are compared.
        """
        holder = self._knowledge.holder(path)
        return holder is not None and not self._is_own(source, holder)

    def _is_own(self, source: Source, holder: FileRecord) -> bool:
        return (holder.storage, holder.place) == (self._storage, source.place)

    def _is_beside(self, member: Wanted, beside: Home, between: tuple[str, ...]) -> bool:
        parts = beside.directory.parts + between + member.rest
        return self._knowledge.file_at(self._storage, member.source.place, parts) is not None

    def _compared(self, source: Source, holder: FileRecord) -> Compared:
        """Return whether a file has the content of the one that has its place at home, as far as it is known."""
        if source.version.size != holder.size:
            return Compared.OTHER
        sha256 = self._knowledge.hash_of(self._storage, source.place, source.version)
        if sha256 is None:
            return Compared.UNKNOWN
        return Compared.SAME if sha256 == holder.sha256 else Compared.OTHER

    def _carried_on(self, home: Home, path: LocalPath) -> FileRecord | None:
        """Return the file that another storage's host brought of the same run, and that this host goes on with."""
        holder = self._knowledge.holder(path)
        return holder if holder is not None and self._carries_on(home, holder) else None

    def _carries_on(self, home: Home, holder: FileRecord) -> bool:
        """Return whether this host goes on with what another storage's host brought: both show the same directory.

        A base eval is asked of every host.
        """
        if holder.storage == self._storage or holder.experiment != home.experiment:
            return False
        if home.is_shared and holder.storage in self._showing:
            return False
        own = (run for run in self._knowledge.runs_of(home.experiment) if run.storage == self._storage)
        return any(view.storage == holder.storage for run in own for view in views_of(run, self._knowledge))

    def _copy_elsewhere(self, source: Source, home: Home) -> FileRecord | None:
        """Return what is here of a file and belongs at another place by now.

        It waits in `_unfiled`, or was filed under the name that it had on its host before. Of a base eval each
        experiment has a copy, which moves within that one. What is filed and would wait now stays where it is.
        """
        copies = self._knowledge.copies(self._storage, source.place)
        if not copies:
            return None
        elsewhere = (each for each in copies if each.key not in self._moved and _moves(each, home))
        return min(elsewhere, key=lambda each: each.target, default=None)

    def _changed(self, source: Source, record: FileRecord, home: Home) -> Target | None:
        if record.version == source.version:
            return None
        same_size = record.version.size == source.version.size
        same_time = record.version.mtime_ns == source.version.mtime_ns
        # A base eval has copies in many experiments: all of them would be fetched again where only its times changed.
        dear = home.is_shared or same_time or source.version.size >= CHECK_FROM
        if same_size and dear and record.differs != source.version:
            self.checks.append(Check(source, record))
            return None
        return Target(record.target, record.experiment, record)

    def _hinder(self, home: Home, source: Source, reason: str) -> None:
        """Leave out what is wanted, and what nothing but its place at home keeps from coming."""
        self._leave_out(home, LeftOut(source.place, source.version.size, 1, reason, hindered=True))

    def _leave_out(self, home: Home, entry: LeftOut) -> None:
        self.refusals[entry.place] = entry.reason
        self.leave_out(home.experiment, [entry])


def _moves(copy: FileRecord, home: Home) -> bool:
    if copy.target.parts[0] == UNFILED or home.experiment is None:
        return True
    # A file that was renamed on its host is on record without the change time (`renamed_evals`).
    return copy.version.ctime_ns == 0 and (not home.is_shared or copy.experiment == home.experiment)


def _goes_on(version: Version, refused: Version) -> bool:
    """Return whether `version` of a growing file may be what was refused and has grown; a file made anew is not."""
    return version.inode == refused.inode and version.size >= refused.size
