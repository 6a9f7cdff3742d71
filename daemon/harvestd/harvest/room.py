"""Room on the data root's disk, for all hosts together: what may still be fetched above the floor of free space.

What is under way is reserved, so that several large transfers don't count the same bytes. Reaching the floor is told
once, and once more when there is room again for what there was none for.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from harvestd.backoff import backoff
from harvestd.errors import DiskFull, unwrapped
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 60.0
"""Seconds for which nothing is fetched after the disk was full although it seemed to have room (a quota, say).

Many a disk is full for a moment only, and one failed write after each pause costs little.
"""

_LOOK_EVERY = 1.0
"""Seconds between two looks at the floor while something is being written."""


class Room:
    """Shares out the free space of one data root."""

    def __init__(self, floor: int) -> None:
        """`floor` in bytes."""
        self._floor = floor
        self._reserved = 0
        self._needed: int | None = None
        """What there was no room for; None while there is room."""
        self._was_full = False
        self._full_in_a_row = 0
        self._resting_until = 0.0
        self._looking = anyio.Lock()
        """Held while the disk is asked and what it says is told: two hosts must not tell one thing twice."""

    def resize(self, floor: int) -> None:
        """Hold to another floor, in bytes, from now on."""
        self._floor = floor

    async def left(self, root: DataRoot) -> int:
        """Return the bytes that may be asked for now; also notices, and tells, that there is room again."""
        async with self._looking:
            free = await anyio.to_thread.run_sync(root.free_bytes)
            left = free - self._floor - self._reserved
            if self._needed is not None and left >= self._needed and not self._was_full:
                self._needed = None
                get_logger().info(Event.DISK_RECOVERED, path=root.path, free_bytes=free)
        return 0 if time.monotonic() < self._resting_until else max(0, left)

    async def refuse(self, root: DataRoot, needed: int) -> None:
        """Note that there was no room for `needed` bytes, and say so unless that is known, or over by now."""
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
        """Stop the body with `DiskFull` once clearly less than the floor is free: other programs write there too."""
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_floor, root)
                yield
                tasks.cancel_scope.cancel()

    async def _keep_floor(self, root: DataRoot) -> None:
        while True:
            await anyio.sleep(_LOOK_EVERY)
            # Our own rows, directories and manifests were counted by nobody: they may take a little of the floor.
            if await anyio.to_thread.run_sync(root.free_bytes) < self._floor - self._floor // 8:
                raise DiskFull("others took the room on the data root's disk while files were fetched")

    def found_full(self) -> None:
        """Note that a write found no room, whatever the disk says of itself."""
        self._was_full = True

    def ran_full(self) -> None:
        """Note that a write found no room, whatever the disk says of itself; fetching rests for a while.

        Writes of many hosts fail at the same moment: those that fail while fetching rests already count once.
        """
        self.found_full()
        if time.monotonic() < self._resting_until:
            return
        self._full_in_a_row += 1
        self._resting_until = time.monotonic() + backoff(_FIRST_PAUSE, self._full_in_a_row, _LONGEST_PAUSE)

    def proved(self) -> None:
        """Note that something was fetched and written."""
        self._was_full = False
        self._full_in_a_row = 0

    def reserve(self, size: int) -> None:
        """Count `size` bytes as taken although they are not written yet; negative: not any more."""
        self._reserved += size
