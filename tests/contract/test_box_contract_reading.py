"""What every box keeps, whether it runs the probe or allows SFTP alone: reading files, against real OpenSSH."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from contract.connected import (
    Pins,
    box_at,
    connection_to,
    entry,
    fill,
    names,
    read,
    target_for,
    training,
    wanted,
    watching,
)
from harvestd.errors import Retry
from harvestd.remote.api import Chunk, Closed, Failed, Limits, Opened, ReadEvent
from harvestd.remote.open import open_box, open_reader
from harvestd.remote.ssh.connect import connect
from harvestd.remote.ssh.flood_guard import Meter
from support.openssh import OpenSSHServer

_BULK_WINDOW = 16 * 1024 * 1024
pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

MIB = 1024 * 1024


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


@pytest.mark.parametrize(("start", "end"), [(0, 0), (0, 70_000), (100, 2000), (100_000, 300_000)])
async def test_hashes_alone(server: OpenSSHServer, root: Path, start: int, end: int) -> None:
    """Many hashes without a byte of content come in the order of the requests; what can't be hashed fails alone."""
    contents = {f"{number}": os.urandom(200_000) for number in range(3)}
    fill(root, contents)
    asked = [replace(wanted(root, name, end, 0), verify_from=start) for name in ("0", "gone", "1", "2")]
    async with box_at(server, watching(training(root))) as box:
        answers = await read(box, asked)
    failed = answers.pop(1)
    assert isinstance(failed.end, Failed)
    assert failed.end.vanished
    for answer, content in zip(answers, contents.values(), strict=True):
        assert answer.opened is not None
        assert isinstance(answer.end, Closed)
        assert answer.opened.verified == hashlib.sha256(content[start:end]).hexdigest()
        assert answer.opened.version == answer.end.version
        assert answer.data == b""


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
        with anyio.fail_after(60):
            assert names(await box.scan()) == {"big"}


async def test_bulk_reader_reads_on_its_own_connection(server: OpenSSHServer, root: Path) -> None:
    """A further connection reads in the same way as the box does."""
    content = os.urandom(3 * MIB)
    fill(root, {"big": content})
    pins = Pins()
    async with (
        connect(target_for(server), pins) as control,
        open_box(control, watching(training(root)), Limits()) as box,
        connect(target_for(server), pins, window=_BULK_WINDOW) as bulk,
        open_reader(bulk, box, Limits()) as reader,
    ):
        (answer,) = await read(reader, [wanted(root, "big")])
    assert answer.data == content


async def test_dead_link_in_a_reading_is_a_retry(server: OpenSSHServer, root: Path) -> None:
    """When the box dies, whoever reads hears of it at once as something to try again."""
    fill(root, {"big": bytes(60 * MIB)})
    async with box_at(server, watching(training(root))) as box, box.reading([wanted(root, "big")]) as events:
        assert isinstance(await anext(events), Opened)
        await anyio.to_thread.run_sync(server.kill)
        with anyio.fail_after(60), pytest.raises(Retry, match=server.name):
            await _drained(events)


async def _drained(events: AsyncIterator[ReadEvent]) -> None:
    async for _ in events:
        pass


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
    """Return the bytes that have come once nothing more does for a while."""
    seen, same = -1, 0
    with anyio.fail_after(60):
        while same < 30:
            same = same + 1 if meter.total == seen else 0
            seen = meter.total
            await anyio.sleep(0.01)
    return seen
