"""The parts of the running daemon that the API uses, as composed by the service."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from harvestd.harvest.context import Context
from harvestd.harvest.fleet.metrics import FleetMetrics
from harvestd.harvest.sync import Broadcast
from harvestd.store.root import DataRoot


@dataclass(frozen=True)
class Source:
    """One running daemon. Read only, except for its three commands."""

    context: Context
    root: DataRoot
    tally: FleetMetrics
    scan_now: Broadcast
    reload: Callable[[], None]
    """Reloads the configuration."""
    ready: anyio.Event = field(default_factory=anyio.Event)
    """Set once the hosts are being watched."""
    stopping: anyio.Event = field(default_factory=anyio.Event)
    """Set when streams of events should end."""
    started: float = field(default_factory=time.time)
    """Unix time."""
    pid: int = field(default_factory=os.getpid)

    def pause(self) -> None:
        """Stop fetching; partial files stay."""
        self.context.fleet.is_paused = True
        self.scan_now.ring()

    def resume(self) -> None:
        """Fetch again."""
        self.context.fleet.is_paused = False
        self.scan_now.ring()
