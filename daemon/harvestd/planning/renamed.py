"""Recognise runs and evals that were renamed on their host.

Recognises runs whose directory was renamed or moved on its host, by content instead of name. Pure. A candidate is
missing in the scan that shows the new path, and has the same config.yaml. The inode of that file, or the first line
of the log, distinguishes it from an equal run. All files are hashed on the host before they count as equal.

Recognises renamed or moved eval directories, and leaves in them, by their metrics. Pure. A metrics.csv that is new on
the host is a candidate if it has the size and time of a recorded one that a complete listing no longer contains. The
host's hash of the file decides; all other files are hashed before they count as equal.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from harvestd.convention.kinds import Kind
from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.model import EvalDir, RunDir, ScanResult, Source
from harvestd.convention.scan.snapshot import Snapshot, TreeState, Version
from harvestd.convention.structs import Immutable
from harvestd.planning.identity import Fingerprint
from harvestd.planning.index import PlanningIndex
from harvestd.planning.plan import Check
from harvestd.planning.records import FileRecord, RunRecord


def vanished_runs(
    shown: ScanResult, snapshot: Snapshot, storage: str, knowledge: PlanningIndex
) -> Mapping[str, list[RunRecord]]:
    """Return the recorded runs that certainly no longer exist, by the SHA-256 of their config.yaml.

    Runs of a tree that was not listed, or that has an unreadable directory, are not included.
    """
    listed = tuple(
        f"{listing.tree}/"
        for listing in snapshot.listings
        if listing.state is TreeState.PRESENT and not listing.unreadable
    )
    places = {run.place for run in shown.runs}
    found: defaultdict[str, list[RunRecord]] = defaultdict(list)
    for record in knowledge.runs():
        has_left = record.place not in places and record.place.startswith(listed)
        if has_left and record.storage == storage and record.config_hash is not None and record.experiment is not None:
            found[record.config_hash].append(record)
    return found


def renamed_from(run: RunDir, seen: Fingerprint, vanished: Sequence[RunRecord]) -> RunRecord | None:
    """Return the former record of `run`, among the vanished ones with its config.yaml.

    Return None if there is none or if it is ambiguous.
    """
    alike = [record for record in vanished if _is_same(record, run, seen)]
    return alike[0] if len(alike) == 1 else None


def _is_same(record: RunRecord, run: RunDir, seen: Fingerprint) -> bool:
    if run.config is None or record.config_hash != seen.config:
        return False
    before, now = record.config_version, run.config.version
    if (before.size, before.mtime_ns) != (now.size, now.mtime_ns):
        return False
    if seen.head and record.head:
        return seen.head == record.head
    return before.inode == now.inode != 0


def renamed(record: RunRecord, run: RunDir, shown: ScanResult) -> RunRecord:
    """Return the record of a run at its new remote path; it keeps its name as long as evals have that name."""
    named = any(each.run is not None and each.run.name == record.name for each in shown.evals)
    return replace(record, place=run.place, name=record.name if named else run.name.name)


def moved_files(before: RunRecord, after: RunRecord, knowledge: PlanningIndex) -> list[FileRecord]:
    """Return the records of a run's files at their new remote paths.

    Their versions have no change time, so the host hashes each before it counts as the same.
    """
    above = f"{before.place}/"
    return [
        replace(
            file,
            place=f"{after.place}/{file.place.removeprefix(above)}",
            version=replace(file.version, ctime_ns=0),
            differs=None,
        )
        for file in knowledge.files_from(before.storage)
        if file.place.startswith(above)
    ]


def moved_events(run: RunDir, record: RunRecord, knowledge: PlanningIndex) -> list[FileRecord]:
    """Return the records of TensorBoard files at their new remote paths in the same run, if unambiguous.

    Such a file keeps its name, which contains the start time and the process; a growing file also keeps its inode,
    another one its size and time. The next append compares the local content with it, since its version has no change
    time.
    """
    events = [each.source for each in run.growing if each.kind is Kind.TENSORBOARD]
    fresh = [source for source in events if not knowledge.copies(record.storage, source.place)]
    if not fresh or record.experiment is None:
        return []
    shown = {source.place for source in events}
    above = f"{run.place}/"
    gone = [
        file
        for file in knowledge.files_of(record.experiment)
        if file.kind is Kind.TENSORBOARD
        and file.storage == record.storage
        and file.place.startswith(above)
        and file.place not in shown
    ]
    pairs = [(file, source) for file in gone for source in fresh if _is_moved(file, source)]
    files, sources = Counter(file.key for file, _ in pairs), Counter(source.place for _, source in pairs)
    return [
        replace(file, place=source.place, version=replace(file.version, ctime_ns=0), differs=None)
        for file, source in pairs
        if files[file.key] == sources[source.place] == 1
    ]


def _is_moved(file: FileRecord, source: Source) -> bool:
    before, now = file.version, source.version
    if file.place.rpartition("/")[2] != source.path.name or now.size < file.size:
        return False
    return before.inode == now.inode != 0 or (before.size, before.mtime_ns) == (now.size, now.mtime_ns)


_Key = tuple[int, int]


class RenamedEval(Immutable):
    """A directory that may be a recorded one under another name."""

    before: str
    """The recorded absolute path of the directory on the host."""
    after: str
    """The present absolute path, of the eval directory or of a directory in it."""
    eval_dir: str
    """The eval directory that equals or contains `after`."""
    proof: Check
    """The metrics.csv whose hash on the host decides."""


class EvalsOnHost:
    """Tracks one host's evals between scans, and which recorded ones have vanished."""

    def __init__(self, storage: str, knowledge: PlanningIndex) -> None:
        self._storage = storage
        self._knowledge = knowledge
        self._evals: tuple[EvalDir, ...] | None = None
        self._gone: dict[_Key, tuple[str, ...]] = {}
        """By size and modification time: the remote paths of metrics.csv files that were missing in some scan."""

    def record_scan(self, evals: tuple[EvalDir, ...], snapshot: Snapshot) -> list[RenamedEval]:
        """Record the evals of a scan; return the ones possibly renamed since the previous scan, or before the first."""
        if evals is self._evals:
            return []
        # An unchanged directory is the identical object; there are thousands, and few change at a time.
        changed = _others(evals, self._evals or ())
        fresh = {source.place: (each, source) for each in changed for source in _metrics(each)}
        if self._evals is None:
            self._leave(
                (record.place, record.version)
                for record in self._knowledge.files_from(self._storage)
                if record.kind is Kind.METRICS and record.place not in fresh
            )
        else:
            old = _others(self._evals, evals)
            self._leave(
                (source.place, source.version) for each in old for source in _metrics(each) if source.place not in fresh
            )
        self._evals = evals
        found = (self._renamed(each, source, snapshot) for each, source in fresh.values()) if self._gone else ()
        return list({(each.before, each.after): each for each in found if each is not None}.values())

    def _leave(self, files: Iterable[tuple[str, Version]]) -> None:
        for place, version in files:
            key = _key(version)
            if place not in self._gone.get(key, ()):
                self._gone[key] = (*self._gone.get(key, ()), place)

    def _renamed(self, eval_dir: EvalDir, source: Source, snapshot: Snapshot) -> RenamedEval | None:
        candidates = self._gone.get(_key(source.version), ())
        if not candidates or self._knowledge.copies(self._storage, source.place):
            return None
        records = [
            record
            for place in candidates
            if place.rpartition("/")[2] == source.path.name and is_gone(place, snapshot)
            for record in self._knowledge.copies(self._storage, place)[:1]
            if _key(record.version) == _key(source.version)
        ]
        same = [each for each in records if each.version.inode == source.version.inode != 0] or records
        if len(same) != 1:
            return None
        below = len(source.place.split("/")) - len(eval_dir.place.split("/"))
        return RenamedEval(*_parted(same[0].place, source.place, below), eval_dir.place, Check(source, same[0]))


def is_gone(place: str, snapshot: Snapshot) -> bool:
    """Return whether a file certainly does not exist: its tree was listed, and no directory above it was unreadable."""
    for listing in snapshot.listings:
        if place.startswith(f"{listing.tree}/"):
            path = RemotePath(place.removeprefix(f"{listing.tree}/").split("/"))
            hidden = any(path.below(each) for each in listing.unreadable)
            return listing.state is TreeState.PRESENT and not hidden and path not in listing.entries
    return False


def moved_evals(
    renamed: Sequence[RenamedEval], evals: Iterable[EvalDir], snapshot: Snapshot, storage: str, knowledge: PlanningIndex
) -> list[FileRecord]:
    """Return the records of files in renamed directories at their new remote paths, if the host shows them there.

    Their versions have no change time, so the host hashes each before it counts as the same. A file with another size
    or time by now is not included; it is fetched as a new file.
    """
    after = {each.before: each.after for each in renamed}
    directories = {each.eval_dir for each in renamed}
    shown = {source.place: source for each in evals if each.place in directories for source in _sources(each)}
    found: list[FileRecord] = []
    for record in knowledge.files_from(storage):
        place = _moved(record.place, after)
        source = shown.get(place) if place is not None else None
        if place is None or source is None or _key(source.version) != _key(record.version):
            continue
        if not knowledge.copies(storage, place) and is_gone(record.place, snapshot):
            found.append(replace(record, place=place, version=replace(record.version, ctime_ns=0), differs=None))
    return found


def _moved(place: str, after: dict[str, str]) -> str | None:
    """Return the new path of a file in a renamed directory, using the innermost one; None if it is in none."""
    above = place.rpartition("/")[0]
    while above:
        if above in after:
            return f"{after[above]}{place.removeprefix(above)}"
        above = above.rpartition("/")[0]
    return None


def _parted(before: str, after: str, most: int) -> tuple[str, str]:
    """Return both paths without their common trailing components, of which at most `most` are removed."""
    old, new = before.split("/"), after.split("/")
    same = 0
    while same < min(most, len(old) - 1) and old[-1 - same] == new[-1 - same]:
        same += 1
    return "/".join(old[: len(old) - same]), "/".join(new[: len(new) - same])


def _others(evals: Iterable[EvalDir], known: Iterable[EvalDir]) -> list[EvalDir]:
    """Return the evals that are not identical to one of the `known` objects."""
    same = set(map(id, known))
    return [each for each in evals if id(each) not in same]


def _key(version: Version) -> _Key:
    return version.size, version.mtime_ns


def _metrics(eval_dir: EvalDir) -> Iterator[Source]:
    return (each.source for group in eval_dir.groups for each in group.members if each.kind is Kind.METRICS)


def _sources(eval_dir: EvalDir) -> Iterator[Source]:
    groups = (*eval_dir.groups, *(each.group for each in eval_dir.on_request))
    return (each.source for group in groups for each in group.members)
