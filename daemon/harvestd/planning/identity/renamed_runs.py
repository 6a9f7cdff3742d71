"""Recognises runs whose directory was renamed or moved on its host, by content instead of name. Pure.

A candidate is missing in the scan that shows the new path, and has the same config.yaml. The inode of that file, or the
first line of the log, distinguishes it from an equal run. All files are hashed on the host before they count as equal.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from harvestd.convention.kinds import Kind
from harvestd.convention.scan.model import RunDir, ScanResult, Source
from harvestd.convention.scan.snapshot import Snapshot, TreeState
from harvestd.planning.identity.duplicates import Fingerprint
from harvestd.planning.index import PlanningIndex
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
