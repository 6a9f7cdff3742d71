"""Large files that arrive in segments over several lanes: byte by byte what the box has, or not at all."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest

from harvestd.convention.scan.snapshot import Version
from harvestd.errors import Retry
from harvestd.harvest.budgets import Bandwidth, MemoryBudget
from harvestd.harvest.transfer.download import ReadMismatch, RestartDownload, SegmentedDownload
from harvestd.harvest.transfer.pool import FIRST, BulkConnection, ConnectionPool
from harvestd.remote.api import ReadRequest
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged
from support.far_box import MIB, PIECE, SIZE, FarBox, lanes_to, nothing
from support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Open a fresh data root."""
    with DataRoot.open(tmp_path) as opened:
        yield opened


def arriving(box: FarBox, staged: Staged, lanes: ConnectionPool) -> SegmentedDownload:
    """Let the box's file arrive in `staged`."""
    return SegmentedDownload(box.file, staged, lanes, Bandwidth(None), lambda _size: None)


def parts(box: FarBox) -> list[tuple[int, int]]:
    """Return what bytes were asked for, in the order of asking."""
    return [(each.offset, each.offset + (each.length or 0)) for each in box.asked if each.length]


def assert_whole(staged: Staged, box: FarBox) -> None:
    """Check that what is staged is the box's file, in the file itself and by its hash."""
    assert staged.size == len(box.content)
    assert staged.read(0, staged.size) == bytes(box.content)
    assert staged.hexdigest == hashlib.sha256(box.content).hexdigest()


async def test_next_door_one_lane_asks_once(root: DataRoot) -> None:
    """Where a round trip is short, one connection brings the whole file in one answer."""
    box = FarBox()
    with root.stage() as staged:
        async with lanes_to(box, 0.0005) as lanes:
            await arriving(box, staged, lanes).run()
        assert_whole(staged, box)
    assert box.lines == 1
    assert parts(box) == [(0, SIZE)]


async def test_segments_out_of_order_make_the_same_file(root: DataRoot) -> None:
    """The first segment comes after all others: nothing counts before it, and then all of it does."""
    box = FarBox()
    others = anyio.Event()

    async def first_last(request: ReadRequest, _sent: int) -> None:
        if request.offset == 0:
            await others.wait()

    box.moment = first_last
    with root.stage() as staged:
        async with lanes_to(box) as lanes, anyio.create_task_group() as tasks:
            tasks.start_soon(arriving(box, staged, lanes).run)
            await until(lambda: any(end == SIZE for _, end in parts(box)))
            assert staged.size == 0
            others.set()
        assert_whole(staged, box)
    assert box.lines >= 3
    assert min(parts(box)) == (0, FIRST)


async def test_lost_lane_gives_its_segment_to_the_others(root: DataRoot) -> None:
    """One of several lanes is cut in the middle of its segment: the rest bring the file home."""
    box = FarBox()
    cut: list[int] = []

    async def cut_second(request: ReadRequest, sent: int) -> None:
        await anyio.lowlevel.checkpoint()
        if request.offset == FIRST and sent >= FIRST // 2 and not cut:
            cut.append(request.offset)
            raise Retry("the link is lost")

    box.moment = cut_second
    with root.stage() as staged:
        async with lanes_to(box) as lanes:
            await arriving(box, staged, lanes).run()
        assert_whole(staged, box)
    assert cut == [FIRST]
    assert box.lines <= 4


async def test_lane_lost_in_the_first_segment_is_proven_before_it_goes_on(root: DataRoot) -> None:
    """What came of a lost lane's segment and is part of the prefix is not asked for again, but hashed by the box."""
    box = FarBox()
    cut: list[int] = []

    async def cut_first(request: ReadRequest, sent: int) -> None:
        await anyio.lowlevel.checkpoint()
        if request.offset == 0 and sent >= FIRST - PIECE and not cut:
            cut.append(sent)
            raise Retry("the link is lost")

    box.moment = cut_first
    with root.stage() as staged:
        async with lanes_to(box, memory=32 * MIB) as lanes:
            await arriving(box, staged, lanes).run()
        assert_whole(staged, box)
    proof = next(each for each in box.asked if each.verify_from == 0)
    assert (proof.length, proof.offset > 0) == (0, True)
    assert sum(end - start for start, end in parts(box)) <= SIZE + FIRST - proof.offset


async def test_last_lane_that_is_lost_ends_it_with_the_prefix_kept(root: DataRoot) -> None:
    """When every lane is lost the error says so, and what is staged is a prefix to go on from."""
    box = FarBox()

    async def cut_all(request: ReadRequest, _sent: int) -> None:
        await anyio.lowlevel.checkpoint()
        if request.offset >= 2 * FIRST:
            raise Retry("the link is lost")

    box.moment = cut_all
    with root.stage("transfer-1") as staged:
        async with lanes_to(box) as lanes:
            with pytest.raises(Retry, match="lost"):
                await arriving(box, staged, lanes).run()
            assert 0 < staged.size <= 2 * FIRST
            assert staged.read(0, staged.size) == bytes(box.content[: staged.size])
            box.moment, box.asked = nothing, []
            again = arriving(box, staged, lanes)
            kept = staged.size
            assert await again.prove()
            await again.run()
        assert_whole(staged, box)
        assert min(start for start, _ in parts(box)) == kept


@pytest.mark.parametrize("fails", [True, False])
async def test_whole_file_waits_for_no_connection_that_is_still_being_made(root: DataRoot, *, fails: bool) -> None:
    """One lane brings all of it while the others don't get through: it is whole then, whatever becomes of them."""
    box, refused = FarBox(), anyio.Event()

    @asynccontextmanager
    async def opening(_window: int) -> AsyncIterator[BulkConnection]:
        box.lines += 1
        if box.lines > 1:
            await (refused.wait() if fails else anyio.sleep_forever())
            raise Retry("no answer")
        yield BulkConnection(box, anyio.sleep_forever)

    async def refuse_at_the_end(request: ReadRequest, _sent: int) -> None:
        await anyio.lowlevel.checkpoint()
        if request.offset > SIZE // 2:
            refused.set()

    box.moment = refuse_at_the_end
    with root.stage() as staged, anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            lanes = ConnectionPool(4, MemoryBudget(256 * MIB), opening, tasks, round_trip=1.0)
            await arriving(box, staged, lanes).run()
            tasks.cancel_scope.cancel()
        assert_whole(staged, box)
    assert box.lines >= 2


async def test_source_that_changes_between_two_segments_is_refused(root: DataRoot) -> None:
    """A file that is another one for later segments is never taken for whole."""
    box = FarBox()

    async def change(request: ReadRequest, _sent: int) -> None:
        await anyio.lowlevel.checkpoint()
        if request.offset >= 2 * FIRST:
            box.version = Version(SIZE, 2, 2, 1)

    box.moment = change
    with root.stage() as staged:
        async with lanes_to(box) as lanes:
            with pytest.raises(RestartDownload, match="changed"):
                await arriving(box, staged, lanes).run()


async def test_segment_with_another_hash_is_refused(root: DataRoot) -> None:
    """Bytes that are not those that the box hashed end the transfer."""
    box = FarBox()
    box.garbled = 2 * FIRST
    with root.stage() as staged:
        async with lanes_to(box) as lanes:
            with pytest.raises(ReadMismatch, match="hash"):
                await arriving(box, staged, lanes).run()


async def test_staged_bytes_that_the_box_does_not_have_are_not_proven(root: DataRoot) -> None:
    """A prefix that is not the beginning of the box's file is told from one that is."""
    box = FarBox()
    with root.stage() as right, root.stage() as wrong:
        right.write(box.content[:MIB])
        wrong.write(bytes(MIB))
        async with lanes_to(box) as lanes:
            assert await arriving(box, right, lanes).prove()
            assert not await arriving(box, wrong, lanes).prove()


async def test_prefix_is_not_sent_again_where_the_host_cannot_hash(root: DataRoot) -> None:
    """Version and end decide then: a long prefix costs a mebibyte, and another end is another file."""
    box = FarBox()
    box.hashes_there = False
    with root.stage() as staged:
        staged.write(box.content[: 9 * MIB])
        async with lanes_to(box) as lanes:
            assert await arriving(box, staged, lanes).prove()
            assert [(each.verify_from, each.offset) for each in box.asked] == [(8 * MIB, 9 * MIB)]
            box.content[9 * MIB - 1] ^= 1
            assert not await arriving(box, staged, lanes).prove()


async def test_slow_disk_bounds_what_is_held(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk takes nothing, the lanes take two buffers each from the box and no more."""
    gate = anyio.Event()
    box = FarBox(96 * MIB)
    taken = 0

    async def stuck(_function: object, *_args: object) -> None:
        await gate.wait()

    def came(size: int) -> None:
        nonlocal taken
        taken += size

    monkeypatch.setattr("harvestd.harvest.transfer.reading.anyio.to_thread.run_sync", stuck)
    with root.stage() as staged:
        async with lanes_to(box) as lanes, anyio.create_task_group() as tasks:
            tasks.start_soon(SegmentedDownload(box.file, staged, lanes, Bandwidth(None), came).run)
            for _ in range(2000):
                await anyio.lowlevel.checkpoint()
            assert box.lines == 4
            assert 4 * MIB <= taken <= 4 * 2 * 2 * MIB
            tasks.cancel_scope.cancel()
