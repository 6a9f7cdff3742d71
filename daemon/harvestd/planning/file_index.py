"""In-memory index of the records of files, by local path, by source and by experiment. No I/O, no clock.

Records are here only for the sections that are loaded: every method that needs others raises `NotLoaded`, so that a
file is never taken for one that is not local.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator
from functools import partial
from itertools import islice

from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.structs import Immutable
from harvestd.planning.records import UNFILED, FileRecord, Loaded, NotLoaded, Section, section_of, sections_in
from harvestd.planning.retention import is_passing

_Parts = tuple[str, ...]
LARGE = 1024 * 1024
"""Bytes: a file at least this large is also found by its version, wherever it is on its host now.

Fetching a smaller one again takes less time than requesting its hash: many such files share one round trip.
"""


class _Hashed(Immutable, gc=False):
    """The hash of a remote file as reported by its host, and the local file with which it was compared."""

    version: Version
    sha256: str
    target: LocalPath
    experiment: str | None


class FileIndex:
    """The recorded files."""

    def __init__(self) -> None:
        self.version = 0
        """Increases with every change."""
        self._changed: dict[Hashable, int] = {}
        """By subject (see `changed_at`): the version of its last change."""
        self._directory_of: dict[str, str] = {}
        """By the experiment's id: its present directory below the data root."""
        # Files are indexed by the components of their local paths: planning looks up each file at each scan, and this
        # way needs no path object.
        self._files: defaultdict[str, dict[str, FileRecord | dict[_Parts, FileRecord]]] = defaultdict(dict)
        """By storage and remote path; only base evals have several copies, so there is no mapping for single copies."""
        self.by_target: defaultdict[Section, dict[_Parts, FileRecord]] = defaultdict(dict)
        """By section, then by all components."""
        self._sources: defaultdict[Section, defaultdict[str, int]] = defaultdict(partial(defaultdict, int))
        """By section, then by storage: the number of files that came from it."""
        self._loaded = Loaded()
        self._large: defaultdict[str, dict[tuple[int, int], dict[_Parts, FileRecord]]] = defaultdict(dict)
        """Large files by storage, then by size and modification time, then by local path."""
        self._hashed: defaultdict[str, dict[str, _Hashed]] = defaultdict(dict)
        """By storage and remote path: files compared with another host's. Not recorded: queried again after a start."""
        self._filed_in: defaultdict[str | None, dict[Section, None]] = defaultdict(dict)
        """By experiment: the sections that contain or contained its files."""
        self._passing: defaultdict[str | None, dict[_Parts, FileRecord]] = defaultdict(dict)
        """By experiment: files that are kept only until a newer checkpoint is local."""

    def changed_at(self, subjects: Iterable[Hashable]) -> int:
        """Return the version at which any of these subjects changed last; 0 if none ever did.

        A subject is an experiment's id (its record, runs, requests and files; None: `_unfiled`), the directory below
        the data root of some files and links, the key of a run or of an eval_config.yaml, a `named` run name, or
        `ANY_RUN` or `ANY_REQUEST`. A new step in a run's log changes the run's key only.
        """
        changed = self._changed
        return max([changed.get(subject, 0) for subject in subjects], default=0)

    def _change(self, *subjects: Hashable) -> None:
        self.version += 1
        for subject in subjects:
            self._changed[subject] = self.version

    def add_file(self, file: FileRecord) -> None:
        """Add or replace a file: each local path has one record. Its section must be loaded."""
        before = self.holder_at(file.target.parts)
        if before is not None:
            self._change(before.experiment)
        self._change(file.experiment, file.target.parts[0])
        self._add(file)

    def _add(self, file: FileRecord) -> None:
        target = file.target.parts
        section = section_of(target)
        before = self.by_target[section].get(target)
        places = self._files[file.storage]
        if before is not None:
            if _is_renewed(before, file) and places.get(file.place) is before:
                places[file.place] = self.by_target[section][target] = file
                return
            self._drop(before)
        there = places.get(file.place)
        if there is None:
            places[file.place] = file
        else:
            places[file.place] = {**_by_target(there), target: file}
        self.by_target[section][target] = file
        self._sources[section][file.storage] += 1
        self._filed_in[file.experiment][section] = None
        if file.version.size >= LARGE:
            self._large[file.storage].setdefault(_size_and_time(file.version), {})[target] = file
        if is_passing(file.reason):
            self._passing[file.experiment][target] = file

    def forget_file(self, file: FileRecord) -> None:
        """Remove the record of this remote file at this local path; a record of another file there stays."""
        known = self.holder(file.target)
        if known is not None and known.key == file.key:
            self._change(known.experiment, known.target.parts[0])
            self._drop(known)

    def _drop(self, file: FileRecord) -> None:
        target = file.target.parts
        section = section_of(target)
        del self.by_target[section][target]
        self._sources[section][file.storage] -= 1
        places = self._files[file.storage]
        left = {parts: copy for parts, copy in _by_target(places[file.place]).items() if parts != target}
        if left:
            places[file.place] = left
        else:
            del places[file.place]
        if file.version.size >= LARGE:
            same = self._large[file.storage][_size_and_time(file.version)]
            del same[target]
            if not same:
                del self._large[file.storage][_size_and_time(file.version)]
        if is_passing(file.reason):
            del self._passing[file.experiment][target]

    def require(self, sections: Collection[Section] = (), storages: Collection[str] = ()) -> None:
        """Raise `NotLoaded` unless the files of all these sections, and all files from these storages, are here."""
        self._loaded.require(sections, storages)

    def unloaded(self, sections: Collection[Section]) -> set[Section]:
        """Return those of these sections whose files are only in the database."""
        return self._loaded.sections.intersection(sections)

    def mark_unloaded(self, sections: Iterable[Section], storages: Iterable[str]) -> None:
        """Note that files of these sections, and files from these storages, are only in the database."""
        self._loaded.sections.update(sections)
        self._loaded.storages.update(storages)

    def load_file(self, file: FileRecord) -> None:
        """Add a file of a section that is being loaded."""
        self._add(file)

    def mark_loaded(self, section: Section) -> None:
        """Note that all files of a section are here."""
        self._change(section[0])
        self._loaded.sections.discard(section)

    def mark_complete(self, storage: str) -> None:
        """Note that the sections of all files from a storage are loaded."""
        self.version += 1
        self._loaded.storages.discard(storage)

    def unload(self, section: Section) -> None:
        """Note that the files of a section are only in the database; `drop_unloaded` then frees their memory."""
        if not self.by_target.get(section):
            return
        storages = {storage for storage, files in self._sources[section].items() if files}
        self.mark_unloaded([section], storages)
        for storage in storages:
            self._hashed.pop(storage, None)

    def drop_unloaded(self, section: Section, most: int) -> bool:
        """Free the memory of at most this many files of an unloaded section; return whether there are more."""
        there = self.by_target.get(section, {})
        for file in list(islice(there.values(), most)):
            self._drop(file)
        if there:
            return True
        self.by_target.pop(section, None)
        self._sources.pop(section, None)
        return False

    def is_light(self, storage: str, most: int) -> bool:
        """Return whether dropping all files from a storage costs little: at most `most` are loaded again.

        What was compared with other hosts' files is not recorded, so it would have to be compared again.
        """
        return len(self._files.get(storage, ())) <= most and not self._hashed.get(storage)

    def sections_with_files(self) -> list[Section]:
        """Return the sections that have files in memory."""
        return [section for section, there in self.by_target.items() if there]

    def _sections_from(self, storages: Collection[str]) -> set[Section]:
        """Return the sections with files from any of these storages, or with equals of their files."""
        found = {
            section
            for section, counts in self._sources.items()
            if any(files and storage in storages for storage, files in counts.items())
        }
        for storage in storages:
            found.update(section_of(each.target) for each in self._hashed.get(storage, {}).values())
        return found

    def sections_of(self, experiment: str | None) -> set[Section]:
        """Return the sections that may contain files of an experiment; None: those in `_unfiled`."""
        found = set(self._filed_in.get(experiment, ()))
        if experiment is None:
            return found | {section for section in self._loaded.sections if section[0] == UNFILED}
        if experiment in self._directory_of:
            found.update(sections_in(self._directory_of[experiment]))
        return found

    def placed(self, path: LocalPath, experiment: str | None) -> LocalPath:
        """Return `path` under the experiment's present directory name; raise `RejectedPath` if it would be too long."""
        if experiment is None:
            return path
        directory = self._directory_of[experiment]
        return path if path.parts[0] == directory else LocalPath((directory, *path.parts[1:]))

    def file(self, storage: str, place: str, target: LocalPath) -> FileRecord | None:
        """Return the record of this remote file at this local path; None if there is none."""
        return self.file_at(storage, place, target.parts)

    def file_at(self, storage: str, place: str, target: tuple[str, ...]) -> FileRecord | None:
        """Return the record of this remote file at these local components, which may be an invalid path."""
        there = self._there(storage, place)
        if there is None or isinstance(there, dict):
            return None if there is None else there.get(target)
        return there if there.target.parts == target else None

    def copies(self, storage: str, place: str) -> list[FileRecord]:
        """Return all records of this remote file, one for each local path."""
        there = self._there(storage, place)
        return [] if there is None else list(_by_target(there).values())

    def alike(self, storage: str, version: Version) -> list[FileRecord]:
        """Return the large local files that came from a storage with this size and modification time.

        Those with the same inode come first; that alone is no proof, since a copy keeps its times and inodes are
        reused.
        """
        self._loaded.require((), (storage,))
        same = self._large[storage].get(_size_and_time(version), {}) if storage in self._large else {}
        return sorted(same.values(), key=lambda each: (each.version.inode != version.inode, each.target))

    def subjects_of_copies(self, storage: str, places: Iterable[str]) -> set[Hashable]:
        """Return the subjects (see `changed_at`) of all local copies of these remote files."""
        found: set[Hashable] = set()
        for place in places:
            there = self._there(storage, place)
            if there is not None:
                for copy in there.values() if isinstance(there, dict) else (there,):
                    found.update((copy.experiment, copy.target.parts[0]))
        return found

    def add_hash(self, storage: str, place: str, version: Version, sha256: str, holder: FileRecord) -> None:
        """Add the hash, as reported by its host, of a file whose local path another file (`holder`) has."""
        self._change(holder.experiment, holder.target.parts[0])
        self._hashed[storage][place] = _Hashed(version, sha256, holder.target, holder.experiment)

    def hash_of(self, storage: str, place: str, version: Version) -> str | None:
        """Return the hash of this version of a file that was compared with another local one; None if unknown."""
        found = self._hashed[storage].get(place) if storage in self._hashed else None
        return found.sha256 if found is not None and found.version == version else None

    def same_here(self, storage: str, place: str, version: Version) -> FileRecord | None:
        """Return the record of the local file with the content of this version that came from elsewhere; else None."""
        found = self._hashed[storage].get(place) if storage in self._hashed else None
        if found is None or found.version != version:
            return None
        return self._same(found)

    def same_from(self, storage: str) -> Iterator[FileRecord]:
        """Return the records of local files from elsewhere that a storage also has."""
        found = (self._same(each) for each in self._hashed[storage].values()) if storage in self._hashed else ()
        return (each for each in found if each is not None)

    def _same(self, hashed: "_Hashed") -> FileRecord | None:
        try:
            holder = self.holder(self.placed(hashed.target, hashed.experiment))
        except RejectedPath:
            return None
        return holder if holder is not None and holder.sha256 == hashed.sha256 else None

    def files_from(self, storage: str) -> Iterator[FileRecord]:
        """Return an iterator over the local files that came from a storage; another thread may use it."""
        self._loaded.require((), (storage,))
        return _each_of(self._files.get(storage, {}))

    def any_below(self, storage: str, root: str) -> bool:
        """Return whether any local file came from below `root` of this storage."""
        self._loaded.require((), (storage,))
        return any(place.startswith(f"{root.rstrip('/')}/") for place in self._files.get(storage, ()))

    def _there(self, storage: str, place: str) -> "FileRecord | dict[_Parts, FileRecord] | None":
        if storage in self._loaded.storages:
            raise NotLoaded(storages=[storage])
        places = self._files.get(storage)
        return places.get(place) if places else None

    def holder(self, target: LocalPath) -> FileRecord | None:
        """Return the record of the file at `target`; None if there is none."""
        return self.holder_at(target.parts)

    def holder_at(self, target: tuple[str, ...]) -> FileRecord | None:
        """Return the record of the file at these components, which may be an invalid path; None if there is none."""
        section = section_of(target)
        if section in self._loaded.sections:
            raise NotLoaded([section])
        there = self.by_target.get(section)
        return there.get(target) if there else None

    def passing_of(self, experiment: str | None) -> list[FileRecord]:
        """Return the files of an experiment that are kept only until a newer checkpoint is local."""
        if experiment in self._directory_of:
            self._loaded.require(((self._directory_of[experiment],),))
        return list(self._passing[experiment].values()) if experiment in self._passing else []

    def files_of(self, experiment: str | None) -> list[FileRecord]:
        """Return the files of an experiment; None: those in `_unfiled`."""
        self._loaded.require(self.sections_of(experiment))
        places = (self.by_target.get(section, {}) for section in self._filed_in.get(experiment, ()))
        return [file for there in places for file in there.values() if file.experiment == experiment]


def _is_renewed(before: FileRecord, after: FileRecord) -> bool:
    """Return whether the record of a small file takes the place of one in all mappings, and only its values differ."""
    same = (before.storage, before.place, before.experiment) == (after.storage, after.place, after.experiment)
    return same and before.reason == after.reason and max(before.version.size, after.version.size) < LARGE


def _size_and_time(version: Version) -> tuple[int, int]:
    return version.size, version.mtime_ns


def _each_of(files: dict[str, FileRecord | dict[_Parts, FileRecord]]) -> Iterator[FileRecord]:
    # Copied in one step of the interpreter: other threads see a consistent state.
    for there in list(files.values()):
        if isinstance(there, dict):
            yield from there.values()
        else:
            yield there


def _by_target(there: FileRecord | dict[_Parts, FileRecord]) -> dict[_Parts, FileRecord]:
    return there if isinstance(there, dict) else {there.target.parts: there}
