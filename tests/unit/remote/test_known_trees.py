"""Keeping what a box's trees hold up to date."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.snapshot import Entry, EntryType, Snapshot, Tree, TreeKind, TreeState, Version
from harvestd.remote.api import Limits
from harvestd.remote.probe.decode import ScanEnd, ScanPart, TreeUpdate
from harvestd.remote.probe.decode_records import BrokenAnswer
from harvestd.remote.probe.known_trees import RemoteIndex

TREES = (Tree("/r", "training_runs", TreeKind.TRAINING), Tree("/r", "eval_runs", TreeKind.EVAL))
PRESENT = ScanEnd(1, 10, tuple(TreeUpdate(n, TreeState.PRESENT, 7, "ext4") for n in range(2)))
NOTHING = ScanEnd(2, 20, ())


def entry(name: str, size: int = 1) -> Entry:
    """Return a file's entry."""
    return Entry(RemotePath.parse(name), EntryType.FILE, Version(size, 2, 3, 4))


def part(
    tree: int = 0, changed: tuple[Entry, ...] = (), gone: tuple[str, ...] = (), rejected: frozenset[int] = frozenset()
) -> ScanPart:
    """Return news."""
    return ScanPart(tree, changed, tuple(RemotePath.parse(name) for name in gone), (), (), rejected, frozenset())


def looked(known: RemoteIndex, end: ScanEnd) -> Snapshot:
    """End a look and give what is known then."""
    known.complete(end)
    return known.snapshot()


def test_first_look() -> None:
    """The first look holds what was told, and counts as changed even where it is empty."""
    known = RemoteIndex(TREES, Limits())
    known.take(part(changed=(entry("a"),)))
    snapshot = looked(known, PRESENT)
    assert [set(map(str, listing.entries)) for listing in snapshot.listings] == [{"a"}, set()]
    assert [(listing.state, listing.device, listing.filesystem) for listing in snapshot.listings] == [
        (TreeState.PRESENT, 7, "ext4")
    ] * 2
    assert snapshot.changed
    assert looked(RemoteIndex((), Limits()), NOTHING).changed


def test_unchanged_look_gives_the_same_objects() -> None:
    """Without news the very same listings are handed out."""
    known = RemoteIndex(TREES, Limits())
    known.take(part(changed=(entry("a"),)))
    first = looked(known, PRESENT)
    second = looked(known, NOTHING)
    assert not second.changed
    assert second.box_time_ns == 20
    assert all(a is b for a, b in zip(first.listings, second.listings, strict=True))


def test_what_was_handed_out_never_changes() -> None:
    """News make a new mapping; an older snapshot stays as it was."""
    known = RemoteIndex(TREES, Limits())
    known.take(part(changed=(entry("a"), entry("b"))))
    first = looked(known, PRESENT)
    known.take(part(changed=(entry("a", 9),), gone=("b",)))
    assert len(first.listings[0].entries) == 2
    second = looked(known, NOTHING)
    assert first.listings[0].entries[RemotePath(("a",))].version.size == 1
    assert second.listings[0].entries == {RemotePath(("a",)): entry("a", 9)}
    assert second.listings[1] is first.listings[1]


def test_looks_between_two_snapshots_count_together() -> None:
    """What a box told by itself meanwhile makes the next snapshot a changed one, though its own look found nothing."""
    known = RemoteIndex(TREES, Limits())
    looked(known, PRESENT)
    known.take(part(changed=(entry("a"),)))
    known.complete(NOTHING)
    known.complete(NOTHING)
    assert known.snapshot().changed
    assert not known.snapshot().changed


def test_absent_tree_is_empty() -> None:
    """A tree that is not there has no entries, whatever was told before."""
    known = RemoteIndex(TREES, Limits())
    known.take(part(changed=(entry("a"),)))
    known.complete(PRESENT)
    snapshot = looked(known, ScanEnd(2, 20, (TreeUpdate(0, TreeState.NO_ROOT, 0, ""),)))
    assert snapshot.changed
    assert snapshot.listings[0].entries == {}
    assert snapshot.listings[0].state is TreeState.NO_ROOT


def test_limits() -> None:
    """Entries, rejected names and the length of all names are bounded over all trees."""
    known = RemoteIndex(TREES, Limits(entries=3, rejected_names=2))
    known.take(part(0, (entry("a"), entry("b"))))
    known.take(part(1, (entry("c"),)))
    with pytest.raises(BrokenAnswer, match="3 entries"):
        known.take(part(1, (entry("d"),)))
    known = RemoteIndex(TREES, Limits(entries=3, rejected_names=2))
    known.take(part(rejected=frozenset({1, 2})))
    with pytest.raises(BrokenAnswer, match="2 names"):
        known.take(part(1, rejected=frozenset({1})))
    known = RemoteIndex(TREES, Limits(entries=3))
    with pytest.raises(BrokenAnswer, match="longer"):
        known.take(part(0, (entry("/".join(["x" * 200] * 4)),)))


names = st.sampled_from(["a", "b", "c/d", "c/e", "f"])
steps = st.lists(st.dictionaries(names, st.integers(0, 3), max_size=5), min_size=1, max_size=6)


@given(steps)
def test_deltas_add_up(states: list[dict[str, int]]) -> None:
    """After any sequence of looks, what is known is what was there at the last one."""
    known = RemoteIndex(TREES, Limits(entries=10))
    before: dict[str, int] = {}
    end = PRESENT
    for state in states:
        changed = tuple(entry(name, size) for name, size in state.items() if before.get(name) != size)
        known.take(part(changed=changed, gone=tuple(before.keys() - state.keys())))
        snapshot = looked(known, end)
        assert {str(path): found.version.size for path, found in snapshot.listings[0].entries.items()} == state
        before, end = state, NOTHING
