"""What every box keeps, whether it runs the probe or allows SFTP alone: looking at trees, against real OpenSSH."""

import os
import shutil
import socket
import threading
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from contract.connected import (
    box_at,
    connection_to,
    entry,
    fill,
    listing,
    names,
    read,
    sftp_program,
    training,
    wanted,
    watching,
)
from harvestd.convention.paths import RemotePath, decoded
from harvestd.convention.scan.snapshot import EntryType, TreeState
from harvestd.errors import HostQuarantined, Retry
from harvestd.remote.api import Closed, Failed, Limits, ReadRequest
from harvestd.remote.open import open_box
from support.openssh import OpenSSHFactory, OpenSSHServer, obeying_permissions

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

MIB = 1024 * 1024


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
            with anyio.fail_after(60):
                answers = await read(box, [wanted(root, "fifo"), wanted(root, "socket"), wanted(root, "good")])
    assert entry(snapshot, "fifo").type is EntryType.OTHER
    assert entry(snapshot, "socket").type is EntryType.OTHER
    assert [type(answer.end) for answer in answers] == [Failed, Failed, Closed]
    assert answers[2].data == b"good"


async def test_fifo_is_not_even_opened_for_a_moment(server: OpenSSHServer, root: Path) -> None:
    """Opening a FIFO wakes whoever waits to write into it; a program that waits there goes on waiting."""
    place = root / "training_runs/fifo"
    os.mkfifo(place)
    woken = threading.Event()

    def write() -> None:
        os.close(os.open(place, os.O_WRONLY))
        woken.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        async with box_at(server, watching(training(root))) as box:
            await box.scan()
            (answer,) = await read(box, [wanted(root, "fifo")])
        assert answer.end == Failed(wanted(root, "fifo"), "not a regular file")
        assert not woken.is_set()
    finally:
        os.close(os.open(place, os.O_RDONLY | os.O_NONBLOCK))
        await anyio.to_thread.run_sync(writer.join, 10)


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


async def test_one_directory_behind_two_roots_is_taken_once(server: OpenSSHServer, root: Path, tmp_path: Path) -> None:
    """A link and what it leads to, both given as roots, are one tree; when the first is gone the second is taken."""
    fill(root, {"run_1/a": b"1"})
    link = tmp_path / "link"
    link.symlink_to(root)
    async with box_at(server, watching(training(link), training(root))) as box:
        both = await box.scan()
        again = await box.scan()
        link.unlink()
        other = await box.scan()
    assert [one.state for one in both.listings] == [TreeState.PRESENT, TreeState.TWIN]
    assert [len(one.entries) for one in both.listings] == [2, 0]
    assert not again.changed
    assert [one.state for one in other.listings] == [TreeState.NO_ROOT, TreeState.PRESENT]
    assert [len(one.entries) for one in other.listings] == [0, 2]


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
    if method == "sftp":
        return openssh_factory(sftp_only=True, extra_config=obeying_permissions(sftp_program()))
    return openssh_factory(extra_config=obeying_permissions())


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


async def test_too_many_entries_quarantine_the_host(server: OpenSSHServer, root: Path) -> None:
    """Beyond the limit of entries the host is left alone, and the error says what to do."""
    fill(root, {f"f{n}": b"" for n in range(60)})
    async with box_at(server, watching(training(root)), Limits(entries=50)) as box:
        with pytest.raises(HostQuarantined, match="more than 50 entries") as raised:
            await box.scan()
    assert raised.value.hint


async def test_dead_link_in_a_scan_is_a_retry(server: OpenSSHServer, root: Path) -> None:
    """A scan on a link that died infers nothing: it raises."""
    async with connection_to(server) as connection, open_box(connection, watching(training(root)), Limits()) as box:
        await box.scan()
        await anyio.to_thread.run_sync(server.kill)
        with anyio.fail_after(60):
            for _ in range(2):
                with pytest.raises(Retry, match=server.name):
                    await box.scan()


async def test_what_runs_on_the_gpus_is_a_number_or_not_known(server: OpenSSHServer, root: Path, method: str) -> None:
    """SFTP alone can't tell; asking costs nothing else its turn."""
    async with box_at(server, watching(training(root))) as box:
        processes = await box.gpu_processes()
        assert processes is None if method == "sftp" else processes is not None
        await box.scan()
