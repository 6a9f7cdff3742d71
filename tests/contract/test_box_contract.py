"""What every box keeps, whether it runs the probe or allows SFTP alone: one suite for both, against real OpenSSH."""

import hashlib
import os
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from contract.connected import (
    Pins,
    box_at,
    connection_to,
    entry,
    listing,
    names,
    read,
    sftp_program,
    target_for,
    training,
    watching,
)
from harvestd.convention.paths import RemotePath, decoded
from harvestd.convention.snapshot import EntryType, TreeState
from harvestd.errors import HostQuarantined, Retry
from harvestd.remote.box import Chunk, Closed, Failed, Limits, Opened, ReadEvent, ReadRequest
from harvestd.remote.connecting import BULK_WINDOW, connect
from harvestd.remote.metering import Meter
from harvestd.remote.opening import open_box, open_reader
from support.openssh import OpenSSHFactory, OpenSSHServer

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

MIB = 1024 * 1024


@pytest.fixture(params=["probe", "sftp"])
def method(request: pytest.FixtureRequest) -> str:
    """Give each of the two ways in which a box is read."""
    return str(request.param)


@pytest.fixture
def server(method: str, openssh_factory: OpenSSHFactory) -> OpenSSHServer:
    """Start a server that can be read in the wanted way."""
    return openssh_factory(sftp_only=method == "sftp")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with its training tree."""
    (tmp_path / "localfs" / "training_runs").mkdir(parents=True)
    return tmp_path / "localfs"


def fill(root: Path, files: dict[str, bytes]) -> None:
    """Write files below the training tree."""
    for name, content in files.items():
        path = root / "training_runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def wanted(root: Path, path: str, offset: int = 0, length: int | None = None) -> ReadRequest:
    """Ask for a file below the training tree."""
    return ReadRequest(training(root), RemotePath.parse(path), offset, length)


def test_each_way_is_really_taken(method: str) -> None:
    """The suite runs for both ways."""
    assert method in {"probe", "sftp"}


async def test_opens_in_the_expected_way(server: OpenSSHServer, method: str, root: Path) -> None:
    """A box with Python runs the probe, one with SFTP alone is read by the stand-in."""
    async with box_at(server, watching(training(root))) as box:
        assert box.method == method


async def test_first_scan_is_whole(server: OpenSSHServer, root: Path) -> None:
    """The first snapshot holds every entry with its kind, size and time."""
    fill(root, {"run_1/config.yaml": b"a: 1\n", "run_1/logs/train_log.jsonl": b"{}\n", "run_2/config.yaml": b""})
    os.utime(root / "training_runs/run_1/config.yaml", (1_700_000_000, 1_700_000_000))
    async with box_at(server, watching(training(root))) as box:
        snapshot = await box.scan()
    assert snapshot.changed
    assert listing(snapshot).state is TreeState.PRESENT
    assert names(snapshot) == {
        "run_1",
        "run_1/config.yaml",
        "run_1/logs",
        "run_1/logs/train_log.jsonl",
        "run_2",
        "run_2/config.yaml",
    }
    config = entry(snapshot, "run_1/config.yaml")
    assert (config.type, config.version.size) == (EntryType.FILE, 5)
    assert config.version.mtime_ns == 1_700_000_000 * 10**9
    assert entry(snapshot, "run_1/logs").type is EntryType.DIRECTORY


async def test_unchanged_scan_gives_the_same_listing(server: OpenSSHServer, root: Path) -> None:
    """Nothing new: not changed, and the very object that was handed out before."""
    fill(root, {"run_1/config.yaml": b"a: 1\n"})
    async with box_at(server, watching(training(root))) as box:
        first = await box.scan()
        second = await box.scan()
    assert not second.changed
    assert listing(second).entries is listing(first).entries


async def test_later_scan_shows_what_changed(server: OpenSSHServer, root: Path) -> None:
    """A grown, a new and a removed file show in the next snapshot; the one before stays as it was."""
    fill(root, {"run_1/train_log.jsonl": b"1\n", "run_1/old": b"x", "run_1/same": b"y"})
    async with box_at(server, watching(training(root))) as box:
        first = await box.scan()
        fill(root, {"run_1/train_log.jsonl": b"1\n2\n", "run_2/new": b"z"})
        (root / "training_runs/run_1/old").unlink()
        second = await box.scan()
    assert second.changed
    assert names(first) == {"run_1", "run_1/train_log.jsonl", "run_1/old", "run_1/same"}
    assert entry(first, "run_1/train_log.jsonl").version.size == 2
    assert names(second) == {"run_1", "run_1/train_log.jsonl", "run_1/same", "run_2", "run_2/new"}
    assert entry(second, "run_1/train_log.jsonl").version.size == 4
    assert entry(second, "run_1/same") == entry(first, "run_1/same")


async def test_removed_directory_takes_its_entries_along(server: OpenSSHServer, root: Path) -> None:
    """What lay below a removed directory is gone from the snapshot."""
    fill(root, {"run_1/a/b/c": b"1", "run_2/a": b"2"})
    async with box_at(server, watching(training(root))) as box:
        await box.scan()
        shutil.rmtree(root / "training_runs/run_1")
        assert names(await box.scan()) == {"run_2", "run_2/a"}


async def test_directory_that_becomes_a_file_and_back(server: OpenSSHServer, root: Path) -> None:
    """A path may change its kind between two looks, in both directions."""
    fill(root, {"x/below": b"1"})
    place = root / "training_runs/x"
    async with box_at(server, watching(training(root))) as box:
        await box.scan()
        shutil.rmtree(place)
        place.write_bytes(b"file")
        second = await box.scan()
        place.unlink()
        fill(root, {"x/below": b"1"})
        third = await box.scan()
    assert names(second) == {"x"}
    assert entry(second, "x").type is EntryType.FILE
    assert names(third) == {"x", "x/below"}


async def test_links_are_listed_and_not_followed(server: OpenSSHServer, root: Path, tmp_path: Path) -> None:
    """A link is an entry with its target as written; nothing is seen through it, loops included."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"s")
    fill(root, {"run_1/step_60/x": b"1"})
    tree = root / "training_runs"
    (tree / "run_1/step_latest").symlink_to("step_60")
    (tree / "out").symlink_to(tmp_path / "outside")
    (tree / "loop").symlink_to("loop")
    (tree / "up").symlink_to("..")
    async with box_at(server, watching(training(root))) as box:
        snapshot = await box.scan()
        answers = await read(
            box, [wanted(root, "out/secret"), wanted(root, "loop"), wanted(root, "run_1/step_latest/x")]
        )
    assert names(snapshot) == {"run_1", "run_1/step_60", "run_1/step_60/x", "run_1/step_latest", "out", "loop", "up"}
    assert entry(snapshot, "run_1/step_latest").type is EntryType.LINK
    assert entry(snapshot, "run_1/step_latest").target == "step_60"
    assert entry(snapshot, "out").target == str(tmp_path / "outside")
    assert all(isinstance(answer.end, Failed) and not answer.data for answer in answers)


async def test_special_files_are_listed_and_never_opened(server: OpenSSHServer, root: Path) -> None:
    """A FIFO and a socket are entries; asking for them fails at once and wedges nothing."""
    fill(root, {"good": b"good"})
    os.mkfifo(root / "training_runs/fifo")
    with socket.socket(socket.AF_UNIX) as s:
        here = Path.cwd()
        os.chdir(root / "training_runs")  # the path of a socket has to be short
        try:
            s.bind("socket")
        finally:
            os.chdir(here)
        async with box_at(server, watching(training(root))) as box:
            snapshot = await box.scan()
            with anyio.fail_after(20):
                answers = await read(box, [wanted(root, "fifo"), wanted(root, "socket"), wanted(root, "good")])
    assert entry(snapshot, "fifo").type is EntryType.OTHER
    assert entry(snapshot, "socket").type is EntryType.OTHER
    assert [type(answer.end) for answer in answers] == [Failed, Failed, Closed]
    assert answers[2].data == b"good"


@pytest.mark.parametrize(
    "raw",
    [b"new\nline", b"\xff\xfe not utf-8", b"esc\x1b[31mred", b"tab\t", "bidi\u202etxt".encode(), b"-rf", b"\\'\"$x"],
)
async def test_any_name_makes_the_round_trip(server: OpenSSHServer, root: Path, raw: bytes) -> None:
    """Whatever bytes Linux allows in a name come back exactly, and the file can be read by them."""
    fill(root, {f"{os.fsdecode(raw)}/{os.fsdecode(raw)}": b"content"})
    async with box_at(server, watching(training(root))) as box:
        snapshot = await box.scan()
        path = RemotePath((decoded(raw), decoded(raw)))
        assert set(listing(snapshot).entries) == {RemotePath((decoded(raw),)), path}
        (answer,) = await read(box, [ReadRequest(training(root), path)])
    assert answer.data == b"content"


async def test_missing_root_is_told_from_missing_tree(server: OpenSSHServer, root: Path, tmp_path: Path) -> None:
    """An unmounted root is another state than a fresh box's missing tree, and both may come and go."""
    missing = training(tmp_path / "nowhere")
    present = training(root)
    none_yet = replace(present, name="eval_runs")
    async with box_at(server, watching(missing, present, none_yet)) as box:
        first = await box.scan()
        (root / "eval_runs").mkdir()
        (root / "training_runs").rmdir()
        second = await box.scan()
    assert [found.state for found in first.listings] == [TreeState.NO_ROOT, TreeState.PRESENT, TreeState.NO_TREE]
    assert [found.state for found in second.listings] == [TreeState.NO_ROOT, TreeState.NO_TREE, TreeState.PRESENT]
    assert second.changed


async def test_tree_that_goes_has_no_entries_left(server: OpenSSHServer, root: Path) -> None:
    """When a tree is not there, neither are its entries; when it comes back, it is whole."""
    fill(root, {"run_1/a": b"1"})
    async with box_at(server, watching(training(root))) as box:
        await box.scan()
        (root / "training_runs").rename(root / "away")
        gone = await box.scan()
        (root / "away").rename(root / "training_runs")
        back = await box.scan()
    assert not listing(gone).entries
    assert names(back) == {"run_1", "run_1/a"}


async def test_root_may_be_a_link(server: OpenSSHServer, root: Path, tmp_path: Path) -> None:
    """/home/ubuntu/localfs is a link on real boxes: the root's own links are followed."""
    fill(root, {"run_1/a": b"1"})
    (tmp_path / "link").symlink_to(root)
    tree = training(tmp_path / "link")
    async with box_at(server, watching(tree)) as box:
        snapshot = await box.scan()
        (answer,) = await read(box, [ReadRequest(tree, RemotePath.parse("run_1/a"))])
    assert names(snapshot) == {"run_1", "run_1/a"}
    assert answer.data == b"1"


async def test_pruned_directories_are_one_entry(server: OpenSSHServer, root: Path) -> None:
    """A pruned name is listed, and nothing below it."""
    fill(root, {"run_1/.ipynb_checkpoints/a": b"123", "run_1/.ipynb_checkpoints/b/c": b"45", "run_1/d": b"6"})
    async with box_at(server, watching(training(root), prune=[".ipynb_checkpoints"])) as box:
        snapshot = await box.scan()
        again = await box.scan()
    assert names(snapshot) == {"run_1", "run_1/.ipynb_checkpoints", "run_1/d"}
    pruned = entry(snapshot, "run_1/.ipynb_checkpoints")
    assert pruned.type is EntryType.PRUNED
    assert pruned.version.size == (5 if box.method == "probe" else -1)
    assert not again.changed


def _powerless(method: str, openssh_factory: OpenSSHFactory) -> OpenSSHServer:
    """Start a server whose sessions obey permissions, also where root runs the tests."""
    if os.geteuid() != 0:
        return openssh_factory(sftp_only=method == "sftp")
    if shutil.which("setpriv") is None:
        pytest.skip("root ignores permissions, and without setpriv (util-linux) it can't be stopped from that")
    command = '/bin/sh -c "$SSH_ORIGINAL_COMMAND"' if method == "probe" else sftp_program()
    return openssh_factory(extra_config=[f"ForceCommand exec setpriv --bounding-set -all --inh-caps -all {command}"])


async def test_what_is_denied_is_named_and_the_rest_goes_on(
    method: str, openssh_factory: OpenSSHFactory, root: Path
) -> None:
    """A subtree without permission is named as unreadable; siblings are listed and read."""
    fill(root, {"shut/a": b"1", "open/b": b"2", "open/unreadable": b"3"})
    (root / "training_runs/shut").chmod(0)
    (root / "training_runs/open/unreadable").chmod(0)
    denied = replace(training(root), name="eval_runs")
    (root / "eval_runs").mkdir(mode=0)
    async with box_at(_powerless(method, openssh_factory), watching(training(root), denied)) as box:
        assert box.method == method
        first, second = (await box.scan()).listings
        answers = await read(box, [wanted(root, "open/unreadable"), wanted(root, "shut/a"), wanted(root, "open/b")])
        (root / "training_runs/shut").chmod(0o700)
        opened_again, _ = (await box.scan()).listings
    assert first.unreadable == (RemotePath.parse("shut"),)
    assert {str(path) for path in first.entries} == {"shut", "open", "open/b", "open/unreadable"}
    assert second.state is TreeState.DENIED
    assert [type(answer.end) for answer in answers] == [Failed, Failed, Closed]
    assert isinstance(answers[0].end, Failed)
    assert answers[0].end.reason == "permission denied"
    assert not answers[0].end.vanished
    assert opened_again.unreadable == ()
    assert RemotePath.parse("shut/a") in opened_again.entries


async def test_whole_file(server: OpenSSHServer, root: Path) -> None:
    """A file comes whole, with equal versions before and after."""
    fill(root, {"a": b"hello"})
    async with box_at(server, watching(training(root))) as box:
        (answer,) = await read(box, [wanted(root, "a")])
    assert answer.data == b"hello"
    assert answer.opened is not None
    assert isinstance(answer.end, Closed)
    assert answer.opened.version == answer.end.version
    assert answer.opened.version.size == 5
    assert answer.end.sha256 in {hashlib.sha256(b"hello").hexdigest(), None if box.method == "sftp" else ""}


async def test_version_of_scan_and_read_agree(server: OpenSSHServer, root: Path) -> None:
    """A file that did not change has one version, whether it was listed or opened."""
    fill(root, {"a": b"hello"})
    async with box_at(server, watching(training(root))) as box:
        snapshot = await box.scan()
        (answer,) = await read(box, [wanted(root, "a")])
    assert answer.opened is not None
    assert answer.opened.version == entry(snapshot, "a").version


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (4, None, b"456789"),
        (2, 3, b"234"),
        (8, 100, b"89"),
        (10, None, b""),
        (99, 5, b""),
        (3, 0, b""),
    ],
)
async def test_ranges(server: OpenSSHServer, root: Path, offset: int, length: int | None, expected: bytes) -> None:
    """A range gives exactly its bytes, fewer at the end of the file, none beyond it."""
    fill(root, {"a": b"0123456789"})
    async with box_at(server, watching(training(root))) as box:
        (answer,) = await read(box, [wanted(root, "a", offset, length)])
    assert answer.data == expected
    assert isinstance(answer.end, Closed)


@pytest.mark.parametrize(("start", "end"), [(0, 0), (0, 70_000), (100, 2000), (100_000, 200_000), (250_000, 260_000)])
async def test_what_is_here_already_is_verified(server: OpenSSHServer, root: Path, start: int, end: int) -> None:
    """The hash of an earlier part, cut at the file's end, comes before the first byte."""
    content = os.urandom(200_000)
    fill(root, {"a": content})
    request = replace(wanted(root, "a", end), verify_from=start)
    async with box_at(server, watching(training(root))) as box:
        (answer,) = await read(box, [request])
    assert answer.opened is not None
    assert answer.opened.verified == hashlib.sha256(content[start:end]).hexdigest()
    assert answer.data == content[end:]


async def test_vanished_files_fail_alone(server: OpenSSHServer, root: Path) -> None:
    """A file that is gone, or whose directory is gone or a file now, is vanished; the others come."""
    fill(root, {"a": b"1", "file": b"2", "b": b"3"})
    asked = [wanted(root, path) for path in ("a", "gone", "gone/too", "b")]
    async with box_at(server, watching(training(root))) as box:
        answers = await read(box, asked)
    assert [answer.data for answer in answers] == [b"1", b"", b"", b"3"]
    for answer in answers[1:3]:
        assert isinstance(answer.end, Failed)
        assert answer.end.vanished
        assert answer.end.reason == "vanished"


async def test_directory_is_no_file(server: OpenSSHServer, root: Path) -> None:
    """Asking for a directory fails as such, and it has not vanished."""
    fill(root, {"d/a": b"1"})
    async with box_at(server, watching(training(root))) as box:
        (answer,) = await read(box, [wanted(root, "d")])
    assert answer.end == Failed(wanted(root, "d"), "not a regular file")


async def test_empty_list_reads_nothing(server: OpenSSHServer, root: Path) -> None:
    """No requests: no events, no error."""
    async with box_at(server, watching(training(root))) as box:
        assert await read(box, []) == []


async def test_file_that_changes_while_it_is_read(server: OpenSSHServer, root: Path) -> None:
    """A file that is appended to between the two looks has two versions, and not a byte beyond the first."""
    content = os.urandom(40 * MIB)
    fill(root, {"a": content})
    data = bytearray()
    seen = []
    async with box_at(server, watching(training(root))) as box, box.reading([wanted(root, "a")]) as events:
        async for event in events:
            seen.append(type(event))
            match event:
                case Opened():
                    with (root / "training_runs/a").open("ab") as file:
                        file.write(b"more")
                case Chunk(piece):
                    data += piece
                case Closed(_, version):
                    assert version.size == len(content) + 4
    assert seen[0] is Opened
    assert seen[-1] is Closed
    assert data == content


async def test_file_that_is_truncated_while_it_is_read(server: OpenSSHServer, root: Path) -> None:
    """A file that is cut short ends early, with another version than the one it was opened with."""
    size = 40 * MIB
    fill(root, {"a": bytes(size)})
    got = 0
    async with box_at(server, watching(training(root))) as box, box.reading([wanted(root, "a")]) as events:
        async for event in events:
            match event:
                case Opened():
                    os.truncate(root / "training_runs/a", 1000)
                case Chunk(piece):
                    got += len(piece)
                case Closed(_, version):
                    assert version.size == 1000
                case Failed():
                    pytest.fail("a truncated file is not a failure")
    assert got < size


async def test_large_file(server: OpenSSHServer, root: Path) -> None:
    """Eight MiB come over byte by byte the same."""
    content = os.urandom(8 * MIB + 12_345)
    fill(root, {"big": content})
    async with box_at(server, watching(training(root))) as box:
        (answer,) = await read(box, [wanted(root, "big")])
    assert answer.data == content


async def test_many_small_files_in_one_reading(server: OpenSSHServer, root: Path) -> None:
    """Two thousand files come in their order, each with its own bytes."""
    files = {f"d{n % 20}/f{n}": f"content of {n}".encode() for n in range(2000)}
    fill(root, files)
    async with box_at(server, watching(training(root))) as box:
        with anyio.fail_after(60):
            answers = await read(box, [wanted(root, name) for name in files])
    assert [answer.data for answer in answers] == list(files.values())


async def test_abandoned_reading_leaves_the_box_usable(server: OpenSSHServer, root: Path) -> None:
    """Leaving a reading early costs nothing but the rest of it."""
    fill(root, {"big": bytes(20 * MIB), "small": b"s"})
    async with box_at(server, watching(training(root))) as box:
        for _ in range(3):
            async with box.reading([wanted(root, "big"), wanted(root, "small")]) as events:
                async for event in events:
                    if isinstance(event, Chunk):
                        break
        (answer,) = await read(box, [wanted(root, "small")])
        assert answer.data == b"s"
        assert (await box.scan()).changed


async def test_error_of_the_caller_passes_as_it_is(server: OpenSSHServer, root: Path) -> None:
    """An error raised within a reading reaches its caller unwrapped."""
    fill(root, {"a": b"1"})
    async with box_at(server, watching(training(root))) as box:
        with pytest.raises(ZeroDivisionError):
            async with box.reading([wanted(root, "a")]):
                raise ZeroDivisionError
        (answer,) = await read(box, [wanted(root, "a")])
    assert answer.data == b"1"


async def test_scan_while_a_reading_stands_still(server: OpenSSHServer, root: Path) -> None:
    """A reading that nobody iterates holds up no scan."""
    fill(root, {"big": bytes(30 * MIB)})
    async with box_at(server, watching(training(root))) as box, box.reading([wanted(root, "big")]) as events:
        assert isinstance(await anext(events), Opened)
        with anyio.fail_after(20):
            assert names(await box.scan()) == {"big"}


async def test_bulk_reader_reads_on_its_own_connection(server: OpenSSHServer, root: Path) -> None:
    """A further connection reads in the same way as the box does."""
    content = os.urandom(3 * MIB)
    fill(root, {"big": content})
    pins = Pins()
    async with (
        connect(target_for(server), pins) as control,
        open_box(control, watching(training(root)), Limits()) as box,
        connect(target_for(server), pins, window=BULK_WINDOW) as bulk,
        open_reader(bulk, box, Limits()) as reader,
    ):
        (answer,) = await read(reader, [wanted(root, "big")])
    assert answer.data == content


async def test_too_many_entries_quarantine_the_host(server: OpenSSHServer, root: Path) -> None:
    """Beyond the limit of entries the host is left alone, and the error says what to do."""
    fill(root, {f"f{n}": b"" for n in range(60)})
    async with box_at(server, watching(training(root)), Limits(entries=50)) as box:
        with pytest.raises(HostQuarantined, match="more than 50 entries") as raised:
            await box.scan()
    assert raised.value.hint


async def test_dead_link_in_a_reading_is_a_retry(server: OpenSSHServer, root: Path) -> None:
    """When the box dies, whoever reads hears of it at once as something to try again."""
    fill(root, {"big": bytes(60 * MIB)})
    async with box_at(server, watching(training(root))) as box, box.reading([wanted(root, "big")]) as events:
        assert isinstance(await anext(events), Opened)
        await anyio.to_thread.run_sync(server.kill)
        with anyio.fail_after(20), pytest.raises(Retry, match=server.name):
            await _drained(events)


async def _drained(events: AsyncIterator[ReadEvent]) -> None:
    async for _ in events:
        pass


async def test_dead_link_in_a_scan_is_a_retry(server: OpenSSHServer, root: Path) -> None:
    """A scan on a link that died infers nothing: it raises."""
    async with connection_to(server) as connection, open_box(connection, watching(training(root)), Limits()) as box:
        await box.scan()
        await anyio.to_thread.run_sync(server.kill)
        with anyio.fail_after(20):
            for _ in range(2):
                with pytest.raises(Retry, match=server.name):
                    await box.scan()


async def test_slow_caller_holds_the_box_back(server: OpenSSHServer, root: Path) -> None:
    """While nobody takes chunks, no more than the windows' worth of them comes over the wire."""
    size = 100 * MIB
    fill(root, {"big": b""})
    os.truncate(root / "training_runs/big", size)
    got = 0
    async with (
        connection_to(server) as connection,
        open_box(connection, watching(training(root)), Limits()) as box,
        box.reading([wanted(root, "big")]) as events,
    ):
        async for event in events:
            if not isinstance(event, Chunk):
                continue
            if got == 0:
                assert await _still(connection.meter) < 16 * MIB
            got += len(event.data)
    assert got == size


async def _still(meter: Meter) -> int:
    """Give the bytes that have come once nothing more does for a while."""
    seen, same = -1, 0
    with anyio.fail_after(20):
        while same < 30:
            same = same + 1 if meter.total == seen else 0
            seen = meter.total
            await anyio.sleep(0.01)
    return seen
