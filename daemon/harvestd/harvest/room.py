"""Free space on the data root's disk, over all hosts: how much may be fetched above the floor.

Space for transfers in progress is reserved, so that several large ones don't count the same bytes. Logs `disk.low` once
when the floor is reached, and `disk.recovered` once the refused size fits again.
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
"""Seconds without fetching after the disk was full although it seemed to have room (a quota, for example).

Many disks are full for a moment only, and one failed write after each pause costs little.
"""

_LOOK_EVERY = 1.0
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
            await anyio.sleep(_LOOK_EVERY)
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
        self._resting_until = time.monotonic() + backoff(_FIRST_PAUSE, self._full_in_a_row, _LONGEST_PAUSE)

    def proved(self) -> None:
        """Note that something was fetched and written."""
        self._was_full = False
        self._full_in_a_row = 0

    def reserve(self, size: int) -> None:
        """Reserve `size` bytes that are not written yet; a negative size releases them."""
        self._reserved += size
