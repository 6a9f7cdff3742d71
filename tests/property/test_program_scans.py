"""The box's program, looking at real directories: whatever happens there, what it told adds up to what is there."""

import json
import os
import shutil
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harvestd.remote.probe.program import folders, notices
from harvestd.remote.probe.program.notices import Notices
from harvestd.remote.probe.program.places import version_of
from harvestd.remote.probe.program.requests import Requests
from harvestd.remote.probe.program.watching import Watching
from harvestd.remote.probe.program.wire import Credit, Output, Wire
from support.examples import examples

PRUNED = "wandb"


class Told(Output):
    """Adds up what the program tells instead of sending it."""

    def __init__(self) -> None:
        super().__init__(Wire(), Credit(1 << 30), b"s")
        self.entries: dict[str, list[object]] = {}
        self.shut: set[str] = set()
        self.state = ""
        self.drifts = False
        self.rows = 0
        self.ends: list[int] = []
        self.unchanged: list[dict[str, object]] = []
        self.places: list[bytes] = []

    def flush(self) -> None:
        """Take the frames that were gathered."""
        raw, self.parts, self.size = b"".join(self.parts), [], 0
        while raw:
            size, letter = struct.unpack_from(">Ic", raw)
            self._take(letter, raw[5 : 4 + size])
            raw = raw[4 + size :]

    def _take(self, letter: bytes, payload: bytes) -> None:
        if letter == b"K":
            self.places.append(payload)
        elif letter == b"U":
            self.unchanged.append(json.loads(payload))
        elif letter == b"E":
            end = json.loads(payload)
            self.ends.append(end["id"])
            for _, state, _, _, *drifts in end["trees"]:
                self.state = state
                self.drifts = drifts == [True]
                if state != "present":
                    self.entries.clear()
                    self.shut.clear()
        elif letter == b"S":
            part = json.loads(zlib.decompress(payload))
            self.rows += sum(len(rows) for _, rows in part.get("set", ()))
            for path in (f"{at}/{name}" if at else name for at, names in part.get("gone", ()) for name in names):
                self.entries.pop(path, None)
            for at, rows in part.get("set", ()):
                for name, kind, size, *rest in rows:
                    # The total of a pruned directory is information, no more: it and its times may lag behind.
                    self.entries[f"{at}/{name}" if at else name] = (
                        [kind, rest[-1]] if kind == "p" else [kind, size, *rest]
                    )
            self.shut = (self.shut - set(part.get("open", ()))) | set(part.get("shut", ()))


class Box:
    """A program that looks at one tree, and the tree."""

    def __init__(self, root: Path, *, push: bool, bare: bool = True) -> None:
        self.bare = bare
        self.tree = root / "training_runs"
        self.told = Told()
        self.sender = Requests()
        self.watching = Watching(self.told, self.sender)
        self._asked = 0
        trees = [[str(root), "training_runs", bare]]
        self._request = {"trees": trees, "prune": [PRUNED], "entries": 100_000, "push": push, "every": None}

    def ask(self, *, whole: bool = False) -> None:
        """Ask for a look."""
        self._asked += 1
        self.watching.answer({**self._request, "id": self._asked, "whole": whole})

    def hear(self) -> None:
        """Let it tell by itself what the kernel said so far."""
        self.watching.send_changes()

    def check(self) -> None:
        """Let it scan as it does in each interval."""
        self.watching.check()

    def next_check(self) -> float | None:
        """Return when it scans by itself next."""
        return self.watching.scan_due

    def truth(self) -> dict[str, list[object]]:
        """Return what stands in the tree, as the program should have told it."""
        return {name: told for name, told in _below(self.tree, "") if self.bare or told[0] != "d"}

    def close(self) -> None:
        """Return back what the kernel keeps for it."""
        if self.watching.notices is not None:
            os.close(self.watching.notices.handle)
        os.close(self.watching.woken)
        os.close(self.watching.wake)


@contextmanager
def looking(place: Path | None, *, push: bool, bare: bool = True) -> Iterator[Box]:
    """Provide a box with an empty tree below `place`; all that it takes is given back."""
    root = Path(tempfile.mkdtemp(dir=place))
    box = Box(root, push=push, bare=bare)
    box.tree.mkdir()
    try:
        yield box
    finally:
        box.close()
        shutil.rmtree(root)


def _below(directory: Path, prefix: str) -> Iterator[tuple[str, list[object]]]:
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir()):
        s = path.lstat()
        times = [s.st_mtime_ns, s.st_ctime_ns, s.st_ino]
        name = prefix + path.name
        if path.is_symlink():
            yield name, ["l", s.st_size, *times, os.readlink(path)]  # noqa: PTH115  (as the program does it)
        elif path.is_file():
            yield name, ["f", s.st_size, *times]
        elif path.name == PRUNED:
            yield name, ["p", s.st_ino]
        else:
            yield name, ["d", 0, 0, 0, s.st_ino]
            yield from _below(path, name + "/")


@pytest.fixture(scope="module")
def ram() -> Iterator[Path]:
    """Provide a directory whose file system tells of every change."""
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108  (a RAM disk)
    yield place
    shutil.rmtree(place)


names = st.sampled_from(["a", "b", "c", PRUNED])
places = st.lists(names, min_size=1, max_size=4).map(lambda parts: Path(*parts))


def make(tree: Path, place: Path, _: Path) -> None:
    """Make a directory with a file in it."""
    _free(tree, place)
    (tree / place).mkdir(parents=True, exist_ok=True)
    (tree / place / "metrics.csv").write_text("x")


def write(tree: Path, place: Path, _: Path) -> None:
    """Write a file, or more into it."""
    _free(tree, place.parent)
    (tree / place.parent).mkdir(parents=True, exist_ok=True)
    if (tree / place).is_symlink():
        (tree / place).unlink()
    if not (tree / place).is_dir():
        with (tree / place).open("a") as file:
            file.write("more")


def link(tree: Path, place: Path, target: Path) -> None:
    """Put a link in place of whatever is there."""
    remove(tree, place, target)
    (tree / place.parent).mkdir(parents=True, exist_ok=True)
    (tree / place).symlink_to(target)


def remove(tree: Path, place: Path, _: Path) -> None:
    """Remove a directory or a file; what stands in its way as a file goes, too."""
    _free(tree, place.parent)
    if (tree / place).is_dir() and not (tree / place).is_symlink():
        shutil.rmtree(tree / place)
    else:
        (tree / place).unlink(missing_ok=True)


def move(tree: Path, place: Path, to: Path) -> None:
    """Move something over something else, directories with all that is in them."""
    if os.path.lexists(tree / place) and to not in {place, *place.parents} and place not in to.parents:
        remove(tree, to, to)
        (tree / to.parent).mkdir(parents=True, exist_ok=True)
        if os.path.lexists(tree / place):
            (tree / place).rename(tree / to)


def swap(tree: Path, place: Path, _: Path) -> None:
    """Put a new tree in place of the old one."""
    shutil.rmtree(tree, ignore_errors=True)
    if place.name != "c":
        tree.mkdir()
        make(tree, place, place)


def _free(tree: Path, place: Path) -> None:
    for above in (*reversed(place.parents), place):
        if (tree / above).is_symlink() or (tree / above).is_file():
            (tree / above).unlink()


Change = Callable[[Path, Path, Path], None]
CHANGES: list[Change] = [make, write, link, remove, move, make, write, swap]
steps = st.lists(st.lists(st.tuples(st.sampled_from(CHANGES), places, places), max_size=4), max_size=6)
sizes = settings(deadline=None, max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(steps, st.booleans())
@sizes
def test_notices_add_up(ram: Path, script: list[list[tuple[Change, Path, Path]]], bare: bool) -> None:  # noqa: FBT001
    """With the kernel's notices alone, what was told is what is there: no look at the rest is needed."""
    _play(ram, script, lambda box: box.hear(), push=True, bare=bare)


@given(steps, st.booleans())
@sizes
def test_light_looks_add_up(ram: Path, script: list[list[tuple[Change, Path, Path]]], bare: bool) -> None:  # noqa: FBT001
    """Without notices, polls find the same."""
    _play(ram, script, lambda box: box.ask(), push=False, bare=bare)


@given(steps, st.booleans())
@sizes
def test_scans_of_its_own_add_up(ram: Path, script: list[list[tuple[Change, Path, Path]]], push: bool) -> None:  # noqa: FBT001
    """What it scans in each interval is what a request would have found, with the kernel's notices and without."""
    _play(ram, script, lambda box: box.check(), push=push)


@given(steps)
@sizes
def test_looks_of_all_kinds_add_up(ram: Path, script: list[list[tuple[Change, Path, Path]]]) -> None:
    """Polls, whole looks and notices may follow each other in any order."""
    kinds = [lambda box: box.hear(), lambda box: box.ask(), lambda box: box.check(), lambda box: box.ask(whole=True)]
    turn = iter(range(10**6))

    def look(box: Box) -> None:
        kinds[next(turn) % 4](box)

    _play(ram, script, look, push=True)


def _play(
    ram: Path,
    script: list[list[tuple[Change, Path, Path]]],
    look: Callable[[Box], None],
    *,
    push: bool,
    bare: bool = True,
) -> None:
    with looking(ram, push=push, bare=bare) as box:
        box.ask()
        for changes in script:
            for change, place, other in changes:
                change(box.tree, place, other)
            if not box.tree.is_dir() or box.told.state != "present":
                box.ask()
            look(box)
            assert box.told.entries == box.truth()
            assert (box.told.state == "present") == box.tree.is_dir()
            watched = box.watching.trees[0]
            assert watched.entries == len(dict(_below(box.tree, "")))


def test_more_directories_than_may_be_watched(ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the quota does not reach, polls look at what is not watched, and find what happens there."""
    monkeypatch.setattr(notices, "most_watches", lambda: 3)
    with looking(ram, push=True) as box:
        for n in range(6):
            make(box.tree, Path(f"run_{n}"), Path())
        box.ask()
        assert sum(folder.watch >= 0 for folder in box.watching.trees[0].folders.values()) == 3
        for n in range(6):
            write(box.tree, Path(f"run_{n}/metrics.csv"), Path())
        box.ask()
        assert box.told.entries == box.truth()


def test_a_queue_that_ran_over_leads_to_a_whole_look(ram: Path) -> None:
    """When the kernel had to drop notices, everything is looked at."""
    with looking(ram, push=True) as box:
        make(box.tree, Path("run"), Path())
        box.ask()
        assert box.watching.notices is not None
        queued = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        with (box.tree / "run/a").open("w") as one, (box.tree / "run/b").open("w") as other:
            for _ in range(queued // 2 + 10):
                for file in (one, other):
                    file.write("x")
                    file.flush()
        write(box.tree, Path("run/metrics.csv"), Path())
        while box.watching.notices.collect():
            pass
        assert box.watching.notices.lost
        box.hear()
        assert box.told.entries == box.truth()


def test_nothing_is_told_for_nothing(ram: Path) -> None:
    """A look that nobody asked for and that finds nothing says nothing; one that was asked for always ends."""
    with looking(ram, push=True) as box:
        make(box.tree, Path("run"), Path())
        box.ask()
        assert box.told.ends == [1]
        box.hear()
        assert box.told.ends == [1]
        box.ask()
        assert box.told.ends == [1, 2]


def test_a_scan_of_its_own_says_when_it_looked(ram: Path) -> None:
    """Where nothing changed one frame says so, with the newest stamp that had come before the scan began."""
    with looking(ram, push=True) as box:
        make(box.tree, Path("run"), Path())
        box.ask()
        box.sender.stamp = 70
        box.check()
        assert box.told.ends == [1]
        (unchanged,) = box.told.unchanged
        assert (unchanged["id"], unchanged["at"], unchanged["trees"]) == (0, 70, [])
        make(box.tree, Path("other"), Path())
        box.sender.stamp = 80
        box.check()
        assert box.told.ends == [1, 0]
        assert box.told.entries == box.truth()
        assert len(box.told.unchanged) == 1


def test_pushes_without_end_postpone_no_scan_of_its_own(ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel reports may be incomplete: a scan that is due comes first, however much there is to push."""
    with looking(ram, push=True) as box:
        box.ask()
        done: list[str] = []

        def check() -> None:
            done.append("check")
            box.watching.scan_due = None

        def tell() -> None:
            raise InterruptedError

        monkeypatch.setattr(box.watching, "wait", lambda: None)
        monkeypatch.setattr(box.watching, "check", check)
        monkeypatch.setattr(box.watching, "send_changes", tell)
        box.watching.due, box.watching.scan_due = time.monotonic() - 60, time.monotonic() - 1
        with pytest.raises(InterruptedError):
            box.watching.run()
        assert done == ["check"]


def test_a_scan_of_its_own_is_due_after_each_interval(ram: Path) -> None:
    """Counted from the end of the last one that covered all; without an interval it never is."""
    with looking(ram, push=True) as box:
        box.ask()
        assert box.next_check() is None
        box.watching.answer({**box._request, "id": 2, "whole": False, "every": 100.0})
        due = box.next_check()
        assert due is not None
        assert 90 < due - time.monotonic() <= 110
        box.hear()
        assert box.next_check() == due
        box.check()
        assert (box.next_check() or 0.0) > due


def test_old_directories_are_only_touched_by_a_light_look(ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll stats the files of warm directories only; a whole look finds what was written into an old file."""
    monkeypatch.setattr(folders, "FRESH_TIMES", 0)
    with looking(ram, push=False) as box:
        make(box.tree, Path("run"), Path())
        box.ask()
        folder = box.watching.trees[0].folders["run"]
        folder.seen -= 7200
        write(box.tree, Path("run/metrics.csv"), Path())
        box.ask()
        assert box.told.entries != box.truth()
        make(box.tree, Path("run/new"), Path())
        box.ask()
        assert box.told.entries == box.truth()
        folder.seen -= 7200
        write(box.tree, Path("run/metrics.csv"), Path())
        box.ask(whole=True)
        assert box.told.entries == box.truth()


def test_a_directory_that_is_shut_later() -> None:
    """What may not be listed any more is told as shut, without its entries; opened again it is told anew."""
    if os.geteuid() == 0:
        os.seteuid(65534)  # root may list everything
    try:
        with looking(None, push=True) as box:
            make(box.tree, Path("run/leaf"), Path())
            box.ask()
            (box.tree / "run/leaf").chmod(0)
            box.hear()
            assert box.told.shut == {"run/leaf"}
            assert not [path for path in box.told.entries if path.startswith("run/leaf/")]
            (box.tree / "run/leaf").chmod(0o700)
            box.hear()
            assert box.told.shut == set()
            assert box.told.entries == box.truth()
    finally:
        os.seteuid(os.getuid())


def test_watches_are_given_back(ram: Path) -> None:
    """Directories that go take their watches with them: months of runs do not use up the quota."""
    with looking(ram, push=True) as box:
        box.ask()
        kernel = box.watching.notices
        assert isinstance(kernel, Notices)
        left = kernel.left
        for n in range(50):
            make(box.tree, Path(f"run_{n}/leaf"), Path())
            box.hear()
            remove(box.tree, Path(f"run_{n}"), Path())
            box.hear()
        assert kernel.left == left
        assert len(kernel.watched) == 1


def test_waits_longer_for_growth_than_for_a_whole_file(ram: Path) -> None:
    """A closed file is due at once; what is only appended to is gathered for a second."""
    with looking(ram, push=True) as box:
        make(box.tree, Path("run"), Path())
        box.ask()
        with (box.tree / "run/metrics.csv").open("a") as file:
            file.write("more")
            file.flush()
            box.watching.take_notices()
            assert box.watching.due is not None
            assert box.watching.due - time.monotonic() > 0.5
        box.watching.take_notices()
        assert box.watching.due - time.monotonic() < 0.1


def test_bare_directories_are_told_where_they_count(ram: Path) -> None:
    """Elsewhere a directory is known by what lies in it; one that stands where a told file stood takes that away."""
    with looking(ram, push=True, bare=False) as box:
        (box.tree / "run/empty").mkdir(parents=True)
        write(box.tree, Path("run/a"), Path())
        box.ask()
        assert sorted(box.told.entries) == ["run/a"]
        make(box.tree, Path("run/a"), Path())
        box.hear()
        assert sorted(box.told.entries) == ["run/a/metrics.csv"]


def test_a_directory_that_takes_long_is_no_silence(ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its listing and its entries show signs of life with its place, long before there is anything to tell of it."""
    monkeypatch.setattr("harvestd.remote.probe.program.wire.PROGRESS_SECONDS", -1.0)
    with looking(ram, push=False) as box:
        (box.tree / "run/samples").mkdir(parents=True)
        for number in range(500):
            (box.tree / f"run/samples/{number}").touch()
        box.ask()
        assert box.told.places.count(b"straining_runs/run/samples") >= 2 * (500 // 64)


def _made_anew(tree: Path) -> None:
    """Return every file another inode and change time, as a file system does that has none of its own."""
    for path in [each for each in tree.rglob("*") if each.is_file()]:
        s = path.stat()
        other = path.with_name("other")
        other.write_bytes(path.read_bytes())
        os.utime(other, ns=(s.st_atime_ns, s.st_mtime_ns))
        other.rename(path)


def test_inodes_that_change_by_themselves_are_left_out(ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice is no chance: the next look tells all anew without them, and from then on what changes alone is told."""
    monkeypatch.setattr("harvestd.remote.probe.program.scans.LOCAL", frozenset())
    with looking(ram, push=False) as box:
        for name in ("a", "b"):
            (box.tree / name).write_bytes(b"1")
        box.ask()
        for _ in range(2):
            _made_anew(box.tree)
            box.ask(whole=True)
            assert not box.told.drifts
        _made_anew(box.tree)
        box.ask()
        assert box.told.drifts
        assert {tuple(entry[3:]) for entry in box.told.entries.values()} == {(0, 0)}
        told = box.told.rows
        for whole in (False, True):
            _made_anew(box.tree)
            box.ask(whole=whole)
        assert box.told.rows == told
        (box.tree / "a").write_bytes(b"12")
        box.ask()
        assert box.told.rows == told + 1


def test_files_that_are_replaced_on_a_local_disk_keep_their_inodes(ram: Path) -> None:
    """There another inode is another file, however often that happens."""
    with looking(ram, push=False) as box:
        (box.tree / "a").write_bytes(b"1")
        for _ in range(4):
            _made_anew(box.tree)
            box.ask(whole=True)
        assert not box.told.drifts
        assert box.told.entries == box.truth()


@pytest.mark.parametrize(
    ("kind", "drifts"), [("fuse.s3fs", True), ("fuse", True), ("fuse.juicefs", False), ("nfs4", False)]
)
def test_file_systems_without_inodes_are_known_by_their_kind(
    ram: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    drifts: bool,  # noqa: FBT001  (a table's column)
) -> None:
    """From the first look on, and for reading as for looking: both show the same version."""
    monkeypatch.setattr("harvestd.remote.probe.program.scans.filesystem", lambda *_: kind)
    with looking(ram, push=False) as box:
        (box.tree / "a").write_bytes(b"1")
        box.ask()
        assert box.told.drifts is drifts
        shown = box.told.entries["a"][1:]
        assert shown == version_of((box.tree / "a").stat(), drifts)
