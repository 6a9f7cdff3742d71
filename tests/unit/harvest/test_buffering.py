"""Spooling: large writes beside the stream, in order, in bounded memory."""

import threading

import anyio
import anyio.to_thread
import pytest

from harvestd.errors import DiskFull
from harvestd.harvest.transfer.reading import spooling
from support.waiting import until

pytestmark = pytest.mark.anyio


async def test_pieces_of_any_size_are_written_whole_and_in_order() -> None:
    """Small, large and empty pieces come out as the same bytes, in writes of the buffer's size."""
    pieces = [bytes([n]) * (n * 37 % 300) for n in range(200)]
    writes: list[bytes] = []
    async with spooling(lambda data: writes.append(bytes(data)), lambda: None, 64) as spool:
        for piece in pieces:
            await spool.add(piece)
    assert b"".join(writes) == b"".join(pieces)
    assert {len(write) for write in writes[:-1]} == {64}


async def test_slow_disk_holds_the_stream_back() -> None:
    """While a write does not end, no more than two buffers are taken; afterwards the rest goes on."""
    go_on = threading.Event()
    written: list[bytes] = []
    taken = 0

    def write(data: memoryview) -> None:
        go_on.wait(10)
        written.append(bytes(data))

    async def fill() -> None:
        nonlocal taken
        async with spooling(write, lambda: None, 100) as spool:
            for _ in range(50):
                await spool.add(b"x" * 10)
                taken += 10

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fill)
        await until(lambda: taken >= 190)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert taken <= 200
        assert written == []
        go_on.set()
    assert b"".join(written) == b"x" * 500


async def test_failing_write_ends_the_stream_with_its_own_error() -> None:
    """What the disk says is what the reader of the stream gets, even while it waits for the box."""

    def write(_data: memoryview) -> None:
        raise DiskFull("no room")

    async def wait_for_the_box() -> None:
        async with spooling(write, lambda: None, 4) as spool:
            await spool.add(b"12345")
            await anyio.sleep_forever()

    with pytest.raises(DiskFull, match="no room"), anyio.fail_after(60):
        await wait_for_the_box()


async def test_each_write_is_told_when_it_is_done() -> None:
    """`wrote` is called after a write, never before it."""
    done = 0
    told: list[int] = []

    def write(data: memoryview) -> None:
        nonlocal done
        done += len(data)

    async with spooling(write, lambda: told.append(done), 10) as spool:
        await spool.add(b"x" * 25)
    assert told == [10, 20, 25]
