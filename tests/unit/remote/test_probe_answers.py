"""A frame of a hostile box takes bounded time and memory: every list in it is counted, and no name is kept for good."""

import json
import zlib

import pytest

from harvestd.convention import paths
from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.snapshot import Entry, EntryType, Tree, TreeKind, TreeState, Version
from harvestd.remote.api import Limits
from harvestd.remote.probe.decode import ScanEnd, ScanPart, TreeUpdate, scan_end, scan_part
from harvestd.remote.probe.decode_records import BrokenAnswer
from harvestd.remote.probe.known_trees import RemoteIndex
from harvestd.remote.probe.program import folders

MOST = 4096
LIMIT = 8 * 1024 * 1024
TREE = Tree("/r", "training_runs", TreeKind.TRAINING)


def frame(**lists: object) -> bytes:
    """Pack a part of a look."""
    return zlib.compress(json.dumps({"tree": 0, **lists}).encode())


@pytest.mark.parametrize("word", ["shut", "open"])
def test_unreadable_names_are_counted(word: str) -> None:
    """As many as are ever told at once are taken; one more breaks the protocol, however small its frame is."""
    assert scan_part(frame(**{word: ["a"] * MOST}), 1, LIMIT).tree == 0
    payload = frame(**{word: ["a"] * 500_000})
    assert len(payload) < 4096
    with pytest.raises(BrokenAnswer):
        scan_part(payload, 1, LIMIT)


@pytest.mark.parametrize("word", ["set", "gone"])
def test_directories_are_counted(word: str) -> None:
    """A directory of which nothing is told costs as much as a name."""
    assert scan_part(frame(**{word: [["a", []]] * MOST}), 1, LIMIT).tree == 0
    with pytest.raises(BrokenAnswer):
        scan_part(frame(**{word: [["a", []]] * (MOST + 1)}), 1, LIMIT)


def test_lists_are_counted_together() -> None:
    """What one list may hold is not had twice."""
    entry = [["a", [["b", "f", 1, 1, 1, 1]] * (MOST // 2)]]
    with pytest.raises(BrokenAnswer):
        scan_part(frame(set=entry, shut=["a"] * (MOST // 2 + 1)), 1, LIMIT)
    with pytest.raises(BrokenAnswer):
        scan_part(frame(gone=[["a", ["b"] * MOST]], open=["a"]), 1, LIMIT)


def test_states_of_trees_are_counted() -> None:
    """There is one for each tree at most."""
    row = [0, "present", 1, "ext4"]
    assert scan_end(json.dumps({"id": 1, "now": 1, "trees": [row]}).encode(), 1).trees
    with pytest.raises(BrokenAnswer):
        scan_end(json.dumps({"id": 1, "now": 1, "trees": [row] * 2}).encode(), 1)


def part(*, changed: tuple[Entry, ...] = (), shut: tuple[str, ...] = (), opened: tuple[str, ...] = ()) -> ScanPart:
    """Return news of the only tree."""
    paths = tuple(map(RemotePath.parse, shut)), tuple(map(RemotePath.parse, opened))
    return ScanPart(0, changed, (), *paths, frozenset(), frozenset())


def test_what_is_unreadable_is_kept_as_it_is_while_nothing_of_it_changes() -> None:
    """A file that changes beside 10,000 unreadable ones does not have them gone through again."""
    known = RemoteIndex((TREE,), Limits())
    names = tuple(f"secret/{number:05}" for number in range(10_000))
    end = ScanEnd(1, 1, (TreeUpdate(0, TreeState.PRESENT, 1, "ext4"),))
    for start in range(0, len(names), 2_000):
        known.take(part(shut=names[start : start + 2_000]))
    known.complete(end)
    (first,) = known.snapshot().listings
    assert first.unreadable == tuple(map(RemotePath.parse, names))
    known.take(part(changed=(Entry(RemotePath(("a",)), EntryType.FILE, Version(1, 1)),)))
    known.complete(end)
    (second,) = known.snapshot().listings
    assert second.entries
    assert second.unreadable is first.unreadable
    known.take(part(shut=("new",), opened=names[:1]))
    known.complete(end)
    (third,) = known.snapshot().listings
    assert set(third.unreadable) == {*map(RemotePath.parse, names[1:]), RemotePath(("new",))}
    known.complete(ScanEnd(1, 1, (TreeUpdate(0, TreeState.NO_TREE, 0, ""),)))
    assert known.snapshot().listings[0].unreadable == ()


def test_names_that_never_come_again_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box that shows other names at each look fills no memory: not here, and not the program's on an honest box."""

    def intern(_: str) -> str:
        raise AssertionError("kept for good")

    monkeypatch.setattr("sys.intern", intern)
    for start in range(0, 100_000, 2_000):
        rows = [[f"tmp_{number}", "f", 1, 1, 1, 1] for number in range(start, start + 2_000)]
        assert len(scan_part(frame(set=[["d", rows]]), 1, LIMIT).changed) == 2_000
        folders.Folder().keep({f"tmp_{number}": b"" for number in range(start, start + 2_000)})
    assert len(paths.SHARED) <= 20_000
    assert len(folders.SHARED) <= 20_000
    rows = [["same-name", "f", 1, 1, 1, 1]]
    both = scan_part(frame(set=[["d", rows], ["e", rows]]), 1, LIMIT)
    first, second = (each.path.parts[-1] for each in both.changed)
    assert first is second
