"""The floor of free space on the data root's disk, below which fetching pauses."""

import anyio.to_thread

from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger


class Room:
    """Asks for free space, and tells once when the floor is reached and once when there is room again."""

    def __init__(self, root: DataRoot, floor: int) -> None:
        """`floor` in bytes."""
        self._root = root
        self._floor = floor
        self.low = False
        """Whether fetching pauses now."""

    async def for_bytes(self, size: int) -> bool:
        """Tell whether `size` more bytes leave the floor free."""
        free = await anyio.to_thread.run_sync(self._root.free_bytes)
        if free - size < self._floor:
            self.tell_low(free, size)
            return False
        if self.low:
            self.low = False
            get_logger().info(Event.DISK_RECOVERED, path=self._root.path, free_bytes=free)
        return True

    def tell_low(self, free: int, needed: int) -> None:
        """Note that the disk has no room, and say so once."""
        if not self.low:
            self.low = True
            get_logger().warning(
                Event.DISK_LOW, path=self._root.path, free_bytes=free, needed_bytes=needed, floor_bytes=self._floor
            )
