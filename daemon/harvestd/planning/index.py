"""Everything that is known, indexed the way planning asks for it. A value store: no I/O, no clock.

The catalogue fills it at start and keeps it in step with the database; planners of all hosts read it. Changes are made
between two awaits only, so that no planner sees half of one.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.structs import Immutable
from harvestd.planning.records import EvalLink, ExperimentRecord, FileRecord, RunRecord
from harvestd.planning.requests import NO_WISHES, Request, RequestKind, Wishes, wishes_of
from harvestd.planning.retention import is_passing

_Parts = tuple[str, ...]
LARGE = 1024 * 1024
"""Bytes: a file at least this large is found by its version too, wherever it is on its host now.

A smaller one comes again in less time than asking for its hash takes: many such files share one round trip.
"""


class _Hashed(Immutable, gc=False):
    """What a host says of one of its files, and the file at home that it was compared with."""

    version: Version
    sha256: str
    target: LocalPath
    experiment: str | None


class Knowledge:
    """Runs, experiments and files that are on record."""

    def __init__(self) -> None:
        self.version = 0
        """Another number whenever anything here changed."""
        self._runs: dict[tuple[str, str], RunRecord] = {}
        self._runs_by_name: defaultdict[str, dict[tuple[str, str], RunRecord]] = defaultdict(dict)
        self._runs_by_experiment: defaultdict[str | None, dict[tuple[str, str], RunRecord]] = defaultdict(dict)
        self._experiments: dict[str, ExperimentRecord] = {}
        self._directories: dict[str, str] = {}
        """By a directory's name, in small letters: whose it is, or was."""
        self._reserved: set[str] = set()
        """Directories' names, in small letters, that are about to be given to an experiment, or are not to be."""
        # Files are kept by the components of their places at home: planning asks for each file at each look, and a path
        # need not be made to find what stands there.
        self._files: defaultdict[str, dict[str, FileRecord | dict[_Parts, FileRecord]]] = defaultdict(dict)
        """By storage and place; a base eval alone has several copies, and a mapping for each file would be dear."""
        self._by_target: defaultdict[str, dict[_Parts, FileRecord]] = defaultdict(dict)
        """By the directory below the data root, and all components."""
        self._large: defaultdict[str, dict[tuple[int, int], dict[_Parts, FileRecord]]] = defaultdict(dict)
        """By storage, and by size and modification time: large files, by their places at home."""
        self._hashed: defaultdict[str, dict[str, _Hashed]] = defaultdict(dict)
        """By storage and place: files that were compared with what other hosts brought. Not on record: asked anew."""
        self._links: dict[LocalPath, str] = {}
        self._eval_links: dict[tuple[str, str], EvalLink] = {}
        self._filed_in: defaultdict[str | None, dict[str, None]] = defaultdict(dict)
        """By experiment: the directories below the data root in which files of it are, or were."""
        self._requests: defaultdict[tuple[str, str], dict[int, Request]] = defaultdict(dict)
        """By the run that they are about."""
        self._wishes: dict[tuple[str, str], Wishes] = {}
        self._passing: defaultdict[str | None, dict[_Parts, FileRecord]] = defaultdict(dict)
        """By experiment: what is here only until a newer checkpoint is."""

    def learn_run(self, run: RunRecord) -> None:
        """Add a run, or replace what was known of it."""
        self.version += 1
        before = self._runs.get(run.key)
        if before is not None and before.experiment != run.experiment:
            del self._runs_by_experiment[before.experiment][run.key]
        if before is not None and before.name != run.name:
            del self._runs_by_name[before.name][run.key]
        self._runs[run.key] = run
        self._runs_by_name[run.name][run.key] = run
        self._runs_by_experiment[run.experiment][run.key] = run

    def move_run(self, before: RunRecord, after: RunRecord) -> None:
        """Replace a run by what it is at another place of its host, with what was asked for it."""
        self.version += 1
        del self._runs[before.key]
        del self._runs_by_name[before.name][before.key]
        del self._runs_by_experiment[before.experiment][before.key]
        self.learn_run(after)
        for request in self._requests.pop(before.key, {}).values():
            self.learn_request(replace(request, place=after.place))
        self._wishes.pop(before.key, None)

    def learn_experiment(self, experiment: ExperimentRecord) -> None:
        """Add an experiment, or replace what was known of it; its directory is taken from now on."""
        self.version += 1
        self._experiments[experiment.id] = experiment
        for directory in (experiment.directory, *experiment.aliases):
            self._directories[directory.casefold()] = experiment.id

    def learn_file(self, file: FileRecord) -> None:
        """Add a file, or replace what was known of it: one place at home has one record."""
        self.version += 1
        target = file.target.parts
        before = self.holder_at(target)
        if before is not None:
            self._drop(before)
        places = self._files[file.storage]
        there = places.get(file.place)
        if there is None:
            places[file.place] = file
        else:
            places[file.place] = {**_by_target(there), target: file}
        self._by_target[target[0]][target] = file
        self._filed_in[file.experiment][target[0]] = None
        if file.version.size >= LARGE:
            self._large[file.storage].setdefault(_size_and_time(file.version), {})[target] = file
        if is_passing(file.reason):
            self._passing[file.experiment][target] = file

    def forget_file(self, file: FileRecord) -> None:
        """Drop the record of this remote file at this place; whatever else stands there by now stays on record."""
        self.version += 1
        known = self.holder(file.target)
        if known is not None and known.key == file.key:
            self._drop(known)

    def _drop(self, file: FileRecord) -> None:
        target = file.target.parts
        del self._by_target[target[0]][target]
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

    def learn_link(self, path: LocalPath, target: str) -> None:
        """Add a link that was made at home, or replace what was known of it."""
        self.version += 1
        self._links[path] = target

    def forget_link(self, path: LocalPath) -> None:
        """Drop what was known of the link at `path`."""
        self.version += 1
        self._links.pop(path, None)

    def link_at(self, path: LocalPath) -> str | None:
        """Return the target of the link that was made at `path`."""
        return self._links.get(path)

    def links_in(self, directory: str) -> dict[LocalPath, str]:
        """Return the links that were made below an experiment's directory, with their targets."""
        return {path: target for path, target in self._links.items() if path.parts[0] == directory}

    def learn_eval_link(self, link: EvalLink) -> None:
        """Add what an eval_config.yaml says, or replace what was known of it."""
        self.version += 1
        self._eval_links[link.storage, link.place] = link

    def eval_link(self, storage: str, place: str) -> EvalLink | None:
        """Return what the eval_config.yaml at `place` said when it was read last."""
        return self._eval_links.get((storage, place))

    def learn_request(self, request: Request) -> None:
        """Add what a person asked for by hand, or replace what was known of it."""
        if request.kind is RequestKind.JUDGE:
            self._learn_question(request)
            return
        self.version += 1
        self._requests[request.run][request.id] = request
        self._wishes[request.run] = wishes_of(self._requests[request.run].values())

    def _learn_question(self, request: Request) -> None:
        """Keep a question for a verdict until it is answered: it changes no plan, and is asked often."""
        if request.is_open:
            self._requests[request.run][request.id] = request
        else:
            self._requests[request.run].pop(request.id, None)

    def open_requests(self) -> list[Request]:
        """Return the requests that are not settled, oldest first."""
        found = [each for requests in self._requests.values() for each in requests.values() if each.is_open]
        return sorted(found, key=lambda each: each.id)

    def wishes_for(self, storage: str, place: str) -> Wishes:
        """Return what is in force for the run with this key."""
        return self._wishes.get((storage, place), NO_WISHES)

    def wishes_in(self, experiment: str | None) -> list[Wishes]:
        """Return what is in force for the runs of an experiment that anything was ever asked for."""
        if experiment is None:
            return []
        return [self._wishes[run.key] for run in self.runs_of(experiment) if run.key in self._wishes]

    def ignored_in(self, experiment: str | None) -> Request | None:
        """Return who asked to ignore an experiment's run, by whichever storage shows it."""
        return next((wishes.ignored for wishes in self.wishes_in(experiment) if wishes.ignored), None)

    def run_at(self, storage: str, place: str) -> RunRecord | None:
        """Return the run with this key."""
        return self._runs.get((storage, place))

    def runs_named(self, name: str) -> list[RunRecord]:
        """Return all runs with this directory name, on whatever storage."""
        return list(self._runs_by_name[name].values()) if name in self._runs_by_name else []

    def runs_of(self, experiment: str | None) -> list[RunRecord]:
        """Return the records of an experiment's run, one a storage that shows it, those that were seen first first."""
        return list(self._runs_by_experiment[experiment].values()) if experiment in self._runs_by_experiment else []

    def runs(self) -> list[RunRecord]:
        """Return all runs."""
        return list(self._runs.values())

    def experiment(self, identifier: str) -> ExperimentRecord:
        """Return the experiment with this id; KeyError if there is none."""
        return self._experiments[identifier]

    def has_experiment(self, identifier: str) -> bool:
        """Return whether there is an experiment with this id."""
        return identifier in self._experiments

    def is_gone(self, identifier: str | None) -> bool:
        """Return whether a person took the experiment's directory away; never so of `_unfiled` (None)."""
        return identifier is not None and self._experiments[identifier].gone

    def experiments(self) -> list[ExperimentRecord]:
        """Return all experiments."""
        return list(self._experiments.values())

    def is_directory_taken(self, directory: str, by_other_than: str = "") -> bool:
        """Return whether an experiment has this directory (or one that differs in case only), or had it before."""
        name = directory.casefold()
        return name in self._reserved or self._directories.get(name, by_other_than) != by_other_than

    @contextmanager
    def reserved(self, directory: str) -> Iterator[None]:
        """Have a directory's name counted as taken during the body, while it is written down whose it is."""
        name = directory.casefold()
        self._reserved.add(name)
        try:
            yield
        finally:
            self._reserved.discard(name)

    def reserve(self, directory: str) -> None:
        """Have a directory's name counted as taken for good: what stands there is not for any experiment on record."""
        self._reserved.add(directory.casefold())

    def placed(self, path: LocalPath, experiment: str | None) -> LocalPath:
        """Return `path` as it is now that the experiment's directory may have another name; raises `RejectedPath`."""
        if experiment is None:
            return path
        directory = self._experiments[experiment].directory
        return path if path.parts[0] == directory else LocalPath((directory, *path.parts[1:]))

    def file(self, storage: str, place: str, target: LocalPath) -> FileRecord | None:
        """Return the record of this remote file at this target."""
        return self.file_at(storage, place, target.parts)

    def file_at(self, storage: str, place: str, target: tuple[str, ...]) -> FileRecord | None:
        """Return the record of this remote file at the place of these components, which may be no valid path."""
        there = self._there(storage, place)
        if there is None or isinstance(there, dict):
            return None if there is None else there.get(target)
        return there if there.target.parts == target else None

    def copies(self, storage: str, place: str) -> list[FileRecord]:
        """Return every record of this remote file: one a target."""
        there = self._there(storage, place)
        return [] if there is None else list(_by_target(there).values())

    def alike(self, storage: str, version: Version) -> list[FileRecord]:
        """Return the large files at home that came from a storage in a version of this size and modification time.

        Those with the same inode come first; that alone proves nothing, for a copy keeps its times and inodes are used
        again.
        """
        same = self._large[storage].get(_size_and_time(version), {}) if storage in self._large else {}
        return sorted(same.values(), key=lambda each: (each.version.inode != version.inode, each.target))

    def learn_hash(self, storage: str, place: str, version: Version, sha256: str, holder: FileRecord) -> None:
        """Add what a host says is the hash of a file whose place at home another file, `holder`, has already."""
        self.version += 1
        self._hashed[storage][place] = _Hashed(version, sha256, holder.target, holder.experiment)

    def hash_of(self, storage: str, place: str, version: Version) -> str | None:
        """Return the hash of this version of a file that was compared with another one at home."""
        found = self._hashed[storage].get(place) if storage in self._hashed else None
        return found.sha256 if found is not None and found.version == version else None

    def same_here(self, storage: str, place: str, version: Version) -> FileRecord | None:
        """Return the record of the file at home that has the content of this version, though it came from elsewhere."""
        found = self._hashed[storage].get(place) if storage in self._hashed else None
        if found is None or found.version != version:
            return None
        return self._same(found)

    def same_from(self, storage: str) -> Iterator[FileRecord]:
        """Return the records of the files at home that a storage has as well."""
        found = (self._same(each) for each in self._hashed[storage].values()) if storage in self._hashed else ()
        return (each for each in found if each is not None)

    def _same(self, hashed: "_Hashed") -> FileRecord | None:
        try:
            holder = self.holder(self.placed(hashed.target, hashed.experiment))
        except RejectedPath:
            return None
        return holder if holder is not None and holder.sha256 == hashed.sha256 else None

    def files_from(self, storage: str) -> Iterator[FileRecord]:
        """Yield every file that is here and came from a storage."""
        for there in self._files.get(storage, {}).values():
            yield from _by_target(there).values()

    def any_below(self, storage: str, root: str) -> bool:
        """Return whether any file that is here came from below `root` of this storage."""
        return any(place.startswith(f"{root.rstrip('/')}/") for place in self._files.get(storage, ()))

    def _there(self, storage: str, place: str) -> "FileRecord | dict[_Parts, FileRecord] | None":
        places = self._files.get(storage)
        return places.get(place) if places else None

    def holder(self, target: LocalPath) -> FileRecord | None:
        """Return the record of the file that stands at `target`."""
        return self.holder_at(target.parts)

    def holder_at(self, target: tuple[str, ...]) -> FileRecord | None:
        """Return the record of the file at the place of these components, which may be no valid path."""
        there = self._by_target.get(target[0])
        return there.get(target) if there else None

    def passing_of(self, experiment: str | None) -> list[FileRecord]:
        """Return the files of an experiment that are here only until a newer checkpoint is."""
        return list(self._passing[experiment].values()) if experiment in self._passing else []

    def files_of(self, experiment: str | None) -> list[FileRecord]:
        """Return the files of an experiment; None: those that wait in `_unfiled`."""
        places = (self._by_target[directory] for directory in self._filed_in.get(experiment, ()))
        return [file for there in places for file in there.values() if file.experiment == experiment]


def _size_and_time(version: Version) -> tuple[int, int]:
    return version.size, version.mtime_ns


def _by_target(there: FileRecord | dict[_Parts, FileRecord]) -> dict[_Parts, FileRecord]:
    return there if isinstance(there, dict) else {there.target.parts: there}
