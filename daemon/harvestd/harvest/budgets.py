"""Limits of what all hosts share: descriptors, memory, transfers, turns, and room on the disk.

The budget of file descriptors for staged and followed files, as a part of the process's limit. The rest is for
connections, the catalogue and the API. A batch that would hold more is published in slices: a file may have a target
in each experiment that an eval belongs to, and each target is a separate file that stays open until it is published.

Free space on the data root's disk, over all hosts: how much may be fetched above the floor. Space for transfers in
progress is reserved, so that several large ones don't count the same bytes. Logs `disk.low` once when the floor is
reached, and `disk.recovered` once the refused size fits again.
"""

import asyncio
import resource
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Final

import anyio
import anyio.to_thread
from msgspec import Struct, field
from msgspec.structs import replace

from harvestd.bulkhead import backoff
from harvestd.errors import DiskFull, unwrapped
from harvestd.harvest.sync import Broadcast
from harvestd.planning.plan import FetchGroup
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger


class MemoryBudget:
    """Bytes that buffers may hold at once, over all hosts; requests beyond it wait in order."""

    def __init__(self, total: int) -> None:
        """`total` in bytes."""
        self.total = total
        self._held = 0
        self._waiting: deque[_Waiter] = deque()

    def has(self, size: int) -> bool:
        """Return whether `take` would get `size` bytes at once."""
        return not self._waiting and self._fits(size)

    def _fits(self, size: int) -> bool:
        # A request that is larger than the whole budget is granted while nothing else is held.
        return not size or not self._held or self._held + size <= self.total

    def resize(self, total: int) -> None:
        """Change the total; bytes that are held beyond it stay held."""
        self.total = total
        self._serve()

    async def take(self, size: int) -> None:
        """Take `size` bytes, waiting for them in order.

        More than the whole budget is granted while nothing else is held. A caller that holds bytes which it can give
        back must do so first.
        """
        if self.has(size):
            self._held += size
            return
        waiter = _Waiter(size)
        self._waiting.append(waiter)
        self._serve()
        try:
            await waiter.granted.wait()
        except BaseException:
            if waiter.granted.is_set():
                self._held -= waiter.size
            else:
                self._waiting.remove(waiter)
            self._serve()
            raise

    def give_back(self, size: int) -> None:
        """Return the `size` bytes of one `take` to the budget."""
        self._held -= size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0].size):
            waiter = self._waiting.popleft()
            self._held += waiter.size
            waiter.granted.set()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes for the body; waits as `take` does."""
        await self.take(size)
        try:
            yield
        finally:
            self.give_back(size)


class _Waiter(Struct, eq=False):
    size: int
    granted: anyio.Event = field(default_factory=anyio.Event)


class Bandwidth:
    """A rate that all transfers share; without a rate it costs nothing."""

    def __init__(self, rate: int | None) -> None:
        """`rate` in bytes per second; None: unlimited."""
        self._rate = rate
        self._promised = 0.0
        """Bytes requested since the beginning."""
        self._promised_first = 0.0
        """The position in that count up to which prioritised requests are placed."""
        self._granted = 0.0
        """Bytes that the rate had allowed when it was set."""
        self._since = time.monotonic()
        self._resized = Broadcast()

    def resize(self, rate: int | None) -> None:
        """Change the rate, also for requests that wait already; they keep their order."""
        if rate != self._rate:
            self._granted = self._allowed
            self._since = time.monotonic()
            self._rate = rate
            self._resized.ring()

    @property
    def is_limited(self) -> bool:
        """Whether there is a rate limit."""
        return self._rate is not None

    async def spend(self, size: int) -> None:
        """Wait until `size` more bytes fit the rate; up to one second's worth may be spent in advance."""
        if self._rate is None:
            return
        self._promised = mine = max(self._promised, self._allowed - self._rate) + size
        await self._wait(mine)

    async def spend_first(self, size: int) -> None:
        """Wait as `spend` does, but not behind its requests: small transfers must not wait for large ones.

        Later calls of `spend` wait longer in return, so that the rate holds.
        """
        if self._rate is None:
            return
        earliest = self._allowed - self._rate
        self._promised = max(self._promised, earliest) + size
        self._promised_first = mine = max(self._promised_first, earliest) + size
        await self._wait(mine)

    async def _wait(self, mine: float) -> None:
        while self._rate is not None and (left := mine - self._allowed) > 0:
            with anyio.move_on_after(left / self._rate):
                await self._resized.rung()

    @property
    def _allowed(self) -> float:
        """Return the bytes that the rate has allowed up to now; without a rate, all that were requested."""
        if self._rate is None:
            return self._promised
        return self._granted + (time.monotonic() - self._since) * self._rate


@asynccontextmanager
async def slot(
    limiter: anyio.CapacityLimiter, shortest: float, longest: float = 0.0
) -> AsyncIterator[Callable[[], None]]:
    """Wait in order for a slot of `limiter`; release it at the end of the body, or after `shortest` seconds.

    Yield a function that prolongs it: if called in time, the slot is kept for up to `longest` seconds more.
    """
    borrower = object()
    await limiter.acquire_on_behalf_of(borrower)
    is_held = True

    def give_back() -> None:
        nonlocal is_held
        if is_held:
            is_held = False
            limiter.release_on_behalf_of(borrower)

    # A timer instead of a task: the body may open scopes that outlive this one.
    timer = asyncio.get_running_loop().call_later(shortest, give_back)

    def prolong() -> None:
        nonlocal timer
        if is_held:
            timer.cancel()
            timer = asyncio.get_running_loop().call_later(longest, give_back)

    try:
        yield prolong
    finally:
        timer.cancel()
        give_back()


_MOST: Final = 1_048_576
"""No process of ours needs more. With an unlimited hard limit, a child process would take very long to close all."""
BATCHES: Final = 2
"""Batches of small files that are staged at a time."""


def raise_limit() -> int:
    """Raise the process's soft limit of descriptors to the hard limit, and return it.

    Service managers and shells set the soft limit to 1,024 for programs that call select(2); none here do.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # a kernel or a sandbox with a limit of its own
            return soft
        return wanted
    return _MOST if soft == resource.RLIM_INFINITY else soft


@dataclass
class Descriptors:
    """How many descriptors each use may hold."""

    limit: int = 1024
    """Descriptors of the whole process."""
    bulk: MemoryBudget = dataclass_field(init=False)
    """For the staged files of large groups, over all hosts; a group that needs more than all of it runs alone."""
    open_logs: int = dataclass_field(init=False, default=0)
    """Growing files that may be open now, over all hosts: at least one for each host."""

    def __post_init__(self) -> None:
        self.bulk = MemoryBudget(max(1, self.limit // 4))

    @property
    def batch(self) -> int:
        """The most staged files of one batch of small files."""
        return max(1, self.limit // 2 // BATCHES)

    @property
    def most_logs(self) -> int:
        """The most growing files that may be open at once, over all hosts."""
        return self.limit // 8


def staged_files(group: FetchGroup) -> int:
    """Return how many staged files a group needs: one for each target of each file."""
    return sum(len(file.targets) for file in group.files)


def slices_of(group: FetchGroup, most: int) -> Iterator[FetchGroup]:
    """Yield the group in slices of at most `most` targets, or of one experiment if that has more.

    Each slice holds all that the group has for its experiments, so that the marker is the last file in each slice.
    """
    if staged_files(group) <= most:
        yield group
        return
    experiments = list(dict.fromkeys(target.experiment for file in group.files for target in file.targets))
    at_a_time = max(1, most // len(group.files))
    for start in range(0, len(experiments), at_a_time):
        yield _for_experiments(group, experiments[start : start + at_a_time])


def _for_experiments(group: FetchGroup, experiments: Sequence[str | None]) -> FetchGroup:
    wanted = set(experiments)
    files = (
        replace(file, targets=tuple(target for target in file.targets if target.experiment in wanted))
        for file in group.files
    )
    return replace(group, files=tuple(file for file in files if file.targets))


FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 60.0
"""Seconds without fetching after the disk was full although it seemed to have room (a quota, for example).

Many disks are full for a moment only, and one failed write after each pause costs little.
"""

_CHECK_EVERY = 1.0
"""Seconds between two checks of the floor while something is being written."""


class DiskSpace:
    """Allocates the free space of one data root."""

    def __init__(self, floor: int) -> None:
        """`floor` in bytes."""
        self._floor = floor
        self._reserved = 0
        self._needed: int | None = None
        """The size that was refused; None while there is room."""
        self._was_full = False
        self._full_in_a_row = 0
        self._resting_until = 0.0
        self._looking = anyio.Lock()
        """Held during a query of the disk and its report: two hosts must not report the same event twice."""

    @property
    def is_low(self) -> bool:
        """Whether something could not be fetched for lack of room, and there is none yet."""
        return self._needed is not None

    @property
    def floor(self) -> int:
        """The bytes that are kept free."""
        return self._floor

    def resize(self, floor: int) -> None:
        """Change the floor, in bytes."""
        self._floor = floor

    async def left(self, root: DataRoot) -> int:
        """Return the bytes that may be requested now; also log `disk.recovered` when there is room again."""
        async with self._looking:
            free = await anyio.to_thread.run_sync(root.free_bytes)
            left = free - self._floor - self._reserved
            if self._needed is not None and left >= self._needed and not self._was_full:
                self._needed = None
                get_logger().info(Event.DISK_RECOVERED, path=root.path, free_bytes=free)
        return 0 if time.monotonic() < self._resting_until else max(0, left)

    async def refuse(self, root: DataRoot, needed: int) -> None:
        """Note that there was no room for `needed` bytes.

        Log `disk.low`, unless it was logged already or there is room by now.
        """
        async with self._looking:
            if self._needed is None:
                free = await anyio.to_thread.run_sync(root.free_bytes)
                if free - self._floor - self._reserved >= needed and not self._was_full:
                    return
                get_logger().warning(
                    Event.DISK_LOW, path=root.path, free_bytes=free, needed_bytes=needed, floor_bytes=self._floor
                )
            self._needed = needed if self._needed is None else min(needed, self._needed)

    @asynccontextmanager
    async def above_floor(self, root: DataRoot) -> AsyncIterator[None]:
        """Cancel the body and raise `DiskFull` once clearly less than the floor is free.

        Other programs write to this disk too.
        """
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_floor, root)
                yield
                tasks.cancel_scope.cancel()

    async def _keep_floor(self, root: DataRoot) -> None:
        while True:
            await anyio.sleep(_CHECK_EVERY)
            # Our own rows, directories and manifests are not reserved: they may take an eighth of the floor.
            if await anyio.to_thread.run_sync(root.free_bytes) < self._floor - self._floor // 8:
                raise DiskFull("others took the room on the data root's disk while files were fetched")

    def found_full(self) -> None:
        """Note that a write found no room, whatever the disk reports."""
        self._was_full = True

    def ran_full(self) -> None:
        """Note that a write found no room, whatever the disk reports, and pause fetching.

        Writes of many hosts fail at the same moment: failures during a pause do not count again.
        """
        self.found_full()
        if time.monotonic() < self._resting_until:
            return
        self._full_in_a_row += 1
        self._resting_until = time.monotonic() + backoff(FIRST_PAUSE, self._full_in_a_row, _LONGEST_PAUSE)

    def proved(self) -> None:
        """Note that something was fetched and written."""
        self._was_full = False
        self._full_in_a_row = 0

    def reserve(self, size: int) -> None:
        """Reserve `size` bytes that are not written yet; a negative size releases them."""
        self._reserved += size
