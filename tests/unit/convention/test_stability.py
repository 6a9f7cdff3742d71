"""How long a file has stood unchanged."""

import pytest
from msgspec.structs import replace

from harvestd.convention.kinds import Kind
from harvestd.convention.scan.model import Group, Source, Wanted
from harvestd.convention.scan.stability import NETWORK_SETTLE, StabilityTracker, is_network
from support.box_trees import EVALS, TRAINING, Box

PATH = "eval_runs/x"


def source_of(box: Box) -> Source:
    """Return the file as the last look showed it."""
    tree, below = box.place(PATH)
    return Source(tree, below, box.version(PATH))


def test_a_file_is_as_old_as_the_box_says_by_its_own_clock() -> None:
    """A box whose clock is wrong by years changes nothing: only the difference of two of its stamps counts."""
    box = Box()
    box.file(PATH, age=30.0)
    sightings = StabilityTracker()
    sightings.update(box.snapshot(), 5000.0)
    assert sightings.age(source_of(box), 5000.0) == pytest.approx(30.0)
    assert sightings.age(source_of(box), 5002.0) == pytest.approx(32.0)


def test_a_time_set_by_hand_does_not_make_a_file_old() -> None:
    """`cp -p` and rsync set mtime to the past, but never ctime."""
    box = Box()
    box.file(PATH, age=1.0)
    tree, below = box.place(PATH)
    entry = box.entries[tree][below]
    box.entries[tree][below] = replace(entry, version=replace(entry.version, mtime_ns=0))
    sightings = StabilityTracker()
    sightings.update(box.snapshot(), 0.0)
    assert sightings.age(source_of(box), 0.0) == pytest.approx(1.0)


def test_a_time_in_the_future_counts_from_the_first_sight() -> None:
    """A stamp that is ahead of the box's clock says nothing; our own watching does."""
    box = Box()
    box.file(PATH, age=-1e6)
    sightings = StabilityTracker()
    sightings.update(box.snapshot(), 0.0)
    assert sightings.age(source_of(box), 0.0) == 0.0
    sightings.update(box.snapshot(4.0), 4.0)
    assert sightings.age(source_of(box), 6.0) == pytest.approx(6.0)


def test_without_the_box_clock_only_watching_counts() -> None:
    """Where the transport can't tell the box's time, age is what we saw ourselves."""
    box = Box()
    box.file(PATH, age=3600.0)
    sightings = StabilityTracker()
    for now in (0.0, 5.0):
        sightings.update(replace(box.snapshot(now), box_time_ns=0), now)
    assert sightings.age(source_of(box), 7.0) == pytest.approx(7.0)


def test_any_change_starts_again() -> None:
    """A file that is rewritten with the same size and times but another inode is a new one."""
    box = Box()
    box.file(PATH, age=-100.0)
    sightings = StabilityTracker()
    sightings.update(box.snapshot(), 0.0)
    box.file(PATH, age=-100.0)
    sightings.update(box.snapshot(8.0), 8.0)
    assert sightings.age(source_of(box), 9.0) == pytest.approx(1.0)


def test_a_look_that_shows_the_same_again_starts_nothing() -> None:
    """A transport that reads everything anew at each look gives equal versions, and the file is as old as before."""
    box = Box()
    box.file(PATH, age=-100.0, inode=7)
    sightings = StabilityTracker()
    sightings.update(box.snapshot(), 0.0)
    box.file(PATH, age=-100.0, inode=7)
    sightings.update(box.snapshot(5.0), 5.0)
    assert sightings.age(source_of(box), 6.0) == pytest.approx(6.0)


def test_a_file_that_comes_back_is_as_young_as_its_return() -> None:
    """What was not there in one look has not stood unchanged since the look before."""
    box = Box()
    box.file(PATH, age=-100.0, inode=7)
    sightings = StabilityTracker()
    sightings.update(box.snapshot(), 0.0)
    box.remove(PATH)
    sightings.update(box.snapshot(3.0), 3.0)
    box.file(PATH, age=-100.0, inode=7)
    sightings.update(box.snapshot(5.0), 5.0)
    assert sightings.age(source_of(box), 6.0) == pytest.approx(1.0)


def test_an_unchanged_look_keeps_what_was_seen() -> None:
    """A look that says "nothing changed" is not read again, and file systems are not forgotten by it."""
    box = Box(filesystem="nfs4")
    box.file(PATH, age=-100.0)
    sightings = StabilityTracker()
    sightings.update(box.snapshot(), 0.0)
    sightings.update(replace(box.snapshot(5.0), changed=False, listings=()), 5.0)
    assert sightings.age(source_of(box), 6.0) == pytest.approx(6.0)
    assert sightings.settle(EVALS, 10.0) == NETWORK_SETTLE


def test_a_clock_of_the_host_says_nothing_of_stamps_of_a_server() -> None:
    """A server whose clock is behind makes a file look old that was written just now."""
    box = Box(filesystem="virtiofs")
    box.file(PATH, age=3600.0)
    sightings = StabilityTracker()
    sightings.update(box.snapshot(), 0.0)
    assert sightings.age(source_of(box), 7.0) == pytest.approx(7.0)
    local = Box()
    local.file(PATH, age=3600.0)
    sightings.update(local.snapshot(), 0.0)
    assert sightings.age(source_of(local), 7.0) == pytest.approx(3607.0)


def test_settling_takes_a_minute_on_a_network_file_system_alone() -> None:
    """The operator's time holds on a local file system, and a longer one everywhere."""
    local, remote = StabilityTracker(), StabilityTracker()
    local.update(Box().snapshot(), 0.0)
    remote.update(Box(filesystem="nfs").snapshot(), 0.0)
    assert (local.settle(TRAINING, 10.0), remote.settle(TRAINING, 10.0)) == (10.0, NETWORK_SETTLE)
    assert remote.settle(TRAINING, 300.0) == 300.0


@pytest.mark.parametrize(
    ("filesystem", "expected"),
    [
        *(("nfs4", True), ("cifs", True), ("fuse.s3fs", True), ("9p", True), ("virtiofs", True), ("wekafs", True)),
        *(("xfs", False), ("", False), ("nfsd", False)),
    ],
)
def test_a_network_file_system_is_known_by_its_kind(filesystem: str, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """FUSE counts as one, since it may be anything."""
    assert is_network(filesystem) is expected


def test_a_group_is_as_quiet_as_its_last_change() -> None:
    """The youngest member decides."""
    box = Box()
    box.file("eval_runs/a", age=50.0)
    box.file("eval_runs/b", age=20.0)
    sightings = StabilityTracker()
    sightings.update(box.snapshot(), 0.0)
    sources = [Source(*box.place(path), box.version(path)) for path in ("eval_runs/a", "eval_runs/b")]
    members = tuple(Wanted(source, Kind.METRICS, 0, "") for source in sources)
    assert sightings.quiet(Group(EVALS, sources[0].path, members), 0.0) == pytest.approx(20.0)
