"""What the API speaks of: the parts of the running daemon, as the service puts them together."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from harvestd.harvest.context import House
from harvestd.harvest.fleet.metrics import Tally
from harvestd.harvest.sync import Bell
from harvestd.store.root import DataRoot


@dataclass(frozen=True)
class Source:
    """One running daemon. Read only, but for the three things that it can be told."""

    house: House
    root: DataRoot
    tally: Tally
    scan_now: Bell
    reload: Callable[[], None]
    """Has the configuration read anew."""
    ready: anyio.Event = field(default_factory=anyio.Event)
    """Set once the hosts are being watched."""
    stopping: anyio.Event = field(default_factory=anyio.Event)
    """Set when whoever follows the events should end."""
    started: float = field(default_factory=time.time)
    """Unix time."""
    pid: int = field(default_factory=os.getpid)

    def pause(self) -> None:
        """Fetch nothing from now on; what is half here stays."""
        self.house.is_paused = True
        self.scan_now.ring()

    def resume(self) -> None:
        """Fetch again."""
        self.house.is_paused = False
        self.scan_now.ring()
