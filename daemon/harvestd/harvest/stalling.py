"""Noticing runs that don't go on: a log that falls silent while its run should live, and a loss that is no number.

Told once each, and again only after the run went on. Nobody is asked and nothing is told of a run that has ended.
"""

import time
from collections.abc import Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from harvestd.convention.artifacts import Kind
from harvestd.convention.layout import RunDir, Survey
from harvestd.convention.lives import Life, has_died
from harvestd.convention.records import RunRecord
from harvestd.convention.sightings import Sightings
from harvestd.convention.strides import readings, strode
from harvestd.harvest.house import House
from harvestd.inventory.provider import Host
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

_BEHIND: Final = 64 * 1024
"""Bytes of a log that are not here yet, beyond which its lines come as fast as they are read, not as they are written;
less is a line that is torn."""


class Look(Protocol):
    """What the last look at a host showed, and a way to ask for more."""

    sightings: Sightings
    seen: Survey | None

    async def life(self) -> Life:
        """Ask who could still write."""
        ...


class Stalling:
    """Follows the runs of one host for as long as a connection lasts."""

    def __init__(self, host: Host, house: House) -> None:
        """Begin to listen: what was not heard before a connection stood says nothing."""
        self._host = host
        self._house = house
        self._storage = house.storage_of(host)
        self._since = time.monotonic()
        self._caught_up: dict[tuple[str, str], bool] = {}
        """By run: whether all of its log was here when it was heard last, on this connection."""

    def heard(self, run: RunRecord, lines: Sequence[bytes], *, behind: int) -> None:
        """Take in lines of a run's log, of which `behind` bytes are still to come."""
        live = self._caught_up.get(run.key, False)
        self._caught_up[run.key] = behind <= _BEHIND
        before = self._house.strides.get(run.key)
        now = strode(before, readings(lines), time.monotonic(), live=live)
        self._house.strides[run.key] = now
        known = before is not None and before.diverged is not None and before.began == now.began
        if now.diverged is not None and not known and not run.finished:
            get_logger().warning(
                Event.RUN_DIVERGED,
                host=self._host.name,
                run_id=run.name,
                step=now.diverged.step,
                what=f"loss is {now.diverged.loss}",
            )

    async def look(self, looking: Look) -> None:
        """Tell of runs that fell silent, as the last look shows them. Raises `Retry`, `HostQuarantined`."""
        now = time.monotonic()
        for run in looking.seen.runs if looking.seen is not None else ():
            record = self._house.catalogue.knowledge.run_at(self._storage, run.place)
            if record is not None and record.finished:
                self._house.strides.pop(record.key, None)
            elif record is not None:
                await self._look_at(run, record, looking, now)

    async def _look_at(self, run: RunDir, record: RunRecord, looking: Look, now: float) -> None:
        stride = self._house.strides.get(record.key)
        if stride is None or stride.settled:
            return
        silent = self._silence(run, looking.sightings, stride.at, now)
        if not stride.is_stalled(silent):
            return
        life = await looking.life()
        if self._house.strides.get(record.key) is not stride:
            return  # it went on meanwhile, or another host that shows it has told
        self._house.strides[record.key] = replace(stride, settled=True)
        # Without a process it has died, whether or not it has been quiet for long enough to be taken for dead.
        has_ended = life.gpu_processes == 0 or has_died(run, record.host, life, looking.sightings, now)
        if has_ended or self._was_followed(record.key, stride.at):
            return
        get_logger().warning(
            Event.RUN_STALLED,
            host=self._host.name,
            run_id=record.name,
            step=stride.step,
            seconds=round(silent),
            usual_seconds=round(stride.usual or 0.0, 3),
        )

    def _silence(self, run: RunDir, sightings: Sightings, at: float, now: float) -> float:
        """Give the seconds for which no step came while somebody listened."""
        silent = now - max(at, self._since)
        logs = [wanted.source for wanted in run.growing if wanted.kind is Kind.TRAIN_LOG]
        copies = self._house.catalogue.knowledge.copies
        for log in logs:
            # What was written and is not here yet, for want of room or of a turn, is no silence of the run's.
            if all(log.version.size - copy.size > _BEHIND for copy in copies(self._storage, log.place)):
                silent = min(silent, sightings.age(log, now))
        return silent

    def _was_followed(self, key: tuple[str, str], at: float) -> bool:
        """Tell whether another run began on this storage since: then this one's turn is over."""
        return any(
            other != key and other[0] == self._storage and stride.began > at
            for other, stride in self._house.strides.items()
        )
