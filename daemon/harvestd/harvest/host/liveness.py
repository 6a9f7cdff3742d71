"""Queries whether any process that could write a run is alive; rarely, since the query is expensive.

A run that several hosts show may be written by any of them, so all of these that are connected are queried.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from harvestd.convention.scan.model import ScanResult
from harvestd.errors import HostQuarantined, Retry
from harvestd.harvest.context import Context
from harvestd.inventory.host import Host
from harvestd.planning.liveness import Life
from harvestd.remote.api import Box

_GOOD_FOR: Final = 60.0
"""Seconds for which an answer is valid, and in which no query is repeated."""


class LivenessMonitor:
    """Queries processes on behalf of one connected host."""

    def __init__(self, host: Host, context: Context, box: Box) -> None:
        self._host = host
        self._context = context
        self._box = box
        self._asked_at: float | None = None
        self._processes: int | None = None

    def known(self) -> Life:
        """Return what is known now."""
        return Life(
            idle_for=self._context.settings.verdict.idle_for.total_seconds(),
            gpu_processes=None if self._is_due() else self._processes,
            hosts=self._context.fleet.hosts,
            ending=self._context.fleet.ending,
        )

    async def asked(self, seen: ScanResult) -> Life | None:
        """Query the hosts and return the result; None if that was done just now. Raise `Retry`.

        `seen` is what this host shows; others may show a part of it as well.
        """
        if not self._is_due():
            return None
        counts = [await self._box.gpu_processes()]
        for storage in self._storages(seen):
            for identity, box in list(self._context.states.connected(storage).items()):
                if identity != self._host.identity:
                    counts.append(await _of_another(box))
        known = [count for count in counts if count is not None]
        self._processes = sum(known) if len(known) == len(counts) else None
        self._asked_at = time.monotonic()
        return self.known()

    def _storages(self, seen: ScanResult) -> set[str]:
        """Return the storages that show any run that this host shows."""
        own, knowledge = self._context.storage_of(self._host), self._context.catalogue.knowledge
        records = (knowledge.run_at(own, run.place) for run in seen.runs)
        experiments = {record.experiment for record in records if record is not None and record.experiment}
        return {own, *(run.storage for each in experiments for run in knowledge.runs_of(each))}

    def _is_due(self) -> bool:
        return self._asked_at is None or time.monotonic() - self._asked_at >= _GOOD_FOR


async def _of_another(box: Box) -> int | None:
    """Query a host that another task works with; if it fails, that task detects the failure itself."""
    try:
        return await box.gpu_processes()
    except (Retry, HostQuarantined):
        return None


@contextmanager
def shown(context: Context, host: Host, box: Box) -> Iterator[None]:
    """Register this connected host for queries by others, for the duration of the body."""
    state = context.states.of(host.identity)
    state.box, state.storage = box, context.storage_of(host)
    try:
        yield
    finally:
        state.box = None
