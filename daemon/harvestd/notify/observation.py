"""Reads the state of the daemon, and returns the conditions that hold now.

All is read from memory, apart from the free space and, for hosts that have nothing to do, the time of their last file.
What a condition is about survives a restart, so that `conditions.news` finds its notification again.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, cast

import anyio.to_thread

from harvestd.catalogue.entries import Episode
from harvestd.harvest.context import Context
from harvestd.harvest.metrics import FleetMetrics, HostTally
from harvestd.inventory.host import Host, cents_for
from harvestd.notify.conditions import OLD, Condition, Subject
from harvestd.planning.records import RunRecord
from harvestd.planning.run_status import RunStatus
from harvestd.safety.verdict import is_fresh
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.serialize import plain

_PROBLEMS: Final[Mapping[RunStatus, Event]] = {
    RunStatus.STALLED: Event.RUN_STALLED,
    RunStatus.DIED: Event.RUN_DIED,
    RunStatus.DIVERGED: Event.RUN_DIVERGED,
}
QUARANTINED: Final = "quarantined"


class ConditionReader:
    """Reads one daemon."""

    def __init__(
        self, context: Context, root: DataRoot, tally: FleetMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` in seconds; it stops while the workstation is suspended."""
        self._context = context
        self._root = root
        self._tally = tally
        self._clock = clock
        self._runs: dict[str, RunRecord] = {}
        """The records that were observed, by id: one that is the same object has not changed."""
        self._successes: dict[str, float] | None = None
        """When each host was last read completely, by identity, before this process began."""
        self._arrivals: dict[str, float | None] = {}
        """When the last file of a host that has nothing to do arrived, by identity."""
        self._progress: dict[str, tuple[object, float]] = {}
        """What showed last that a host is read, by identity, and when that changed by `clock`."""

    def forget(self) -> None:
        """Observe everything anew: what was observed last could not be recorded."""
        self._runs.clear()

    async def conditions(self, known: Mapping[Subject, Episode]) -> list[Condition]:
        """Return the conditions of all hosts and of the disk, and of the runs whose record changed.

        `known` has the latest notification of each subject.
        """
        if self._successes is None:
            self._successes = await self._context.catalogue.notifications.last_successes()
        found = list(self._of_runs())
        present = list(self._context.fleet.present.values())
        for gone in self._progress.keys() - {host.identity for host in present}:
            del self._progress[gone]
        for host in present:
            found += await self._of_host(host, self._tally.of(host.name))
        found += self._of_losses()
        return [*found, *await self._of_disk(known)]

    def _of_runs(self) -> Iterator[Condition]:
        prices = {host.name: host.cents_per_hour for host in self._context.fleet.present.values()}
        oldest = time.time() - OLD
        for run in self._context.catalogue.knowledge.runs():
            if self._runs.get(run.id) is run:
                continue
            self._runs[run.id] = run
            finished = None if run.final_version is None else run.final_version.mtime_ns / 1e9
            if run.final is not None and finished is not None and finished > oldest:
                yield self._run_condition(Event.RUN_FINISHED, run, "", finished, prices.get(run.host))
            elif run.final is None and run.problem is not None and run.problem.status in _PROBLEMS:
                event, since = _PROBLEMS[run.problem.status], run.problem.since
                begun = f"@{run.step}" if event is not Event.RUN_DIVERGED else f"@{since:.0f}"
                yield self._run_condition(event, run, begun, since, prices.get(run.host))

    def _run_condition(
        self, event: Event, run: RunRecord, begun: str, since: float, cents_per_hour: int | None
    ) -> Condition:
        directory = None if run.experiment is None else self._context.catalogue.knowledge.experiment(run.experiment)
        # Two storages may show one run: it has a record on each, and one experiment.
        about = f"{run.experiment or run.id}/{run.name}{begun}"
        fields = {
            "host": run.host,
            "run_id": run.name,
            "experiment": None if directory is None else directory.directory,
            "path": run.place,
            "step": run.step,
            "cents_per_hour": cents_per_hour,
        }
        if event is Event.RUN_FINISHED:
            fields["steps"] = run.final.step if run.final else None
        else:
            lasted = max(0.0, time.time() - since)
            fields |= {"seconds": round(lasted), "cost": cents_for(cents_per_hour, lasted)}
        return Condition(event, about, since=since, fields=_plain(fields))

    async def _of_host(self, host: Host, tally: HostTally) -> list[Condition]:
        found = list(self._of_link(host, tally))
        resting = list(self._of_rest(host))
        if not resting:
            self._arrivals.pop(host.identity, None)
            return found
        if host.identity not in self._arrivals:
            self._arrivals[host.identity] = await self._context.catalogue.notifications.last_arrival(host.name)
        contrary = self._arrivals[host.identity]
        return [
            *found,
            *(Condition(event, host.identity, contrary=contrary, fields=fields) for event, fields in resting),
        ]

    def _of_link(self, host: Host, tally: HostTally) -> Iterator[Condition]:
        """Yield what is wrong with the way to a host."""
        last = tally.last_success.timestamp() if tally.last_success else (self._successes or {}).get(host.identity)
        fields = {"host": host.name, "error": tally.error, "cents_per_hour": host.cents_per_hour}
        if tally.state == QUARANTINED:
            yield Condition(Event.HOST_QUARANTINED, host.identity, contrary=last, fields=_plain(fields))
        if host.peril:
            ending = _plain({"host": host.name, "status": host.peril, "bytes": tally.pending})
            yield Condition(Event.HOST_ENDING, host.identity, fields=ending)
        else:
            yield Condition(Event.HOST_ENDING, host.identity, holds=False)
        # Moved bytes are progress, too: the first pass over a host may take hours.
        seen = (tally.last_success, tally.moved)
        before = self._progress.get(host.identity)
        if before is None or before[0] != seen:
            self._progress[host.identity] = before = (seen, self._clock())
        unread = self._clock() - before[1]
        if unread >= self._patience(tally).total_seconds() and tally.state != QUARANTINED and not host.ending:
            seconds = max(unread, time.time() - last) if last is not None else unread
            fields["seconds"] = round(seconds)
            yield Condition(Event.HOST_UNWATCHED, host.identity, contrary=last, fields=_plain(fields))

    def _patience(self, tally: HostTally) -> timedelta:
        """Return how long a host may not be read: a connected one may be in a long scan."""
        settings = self._context.settings
        patience = settings.notify.unwatched_after
        return patience if tally.state != "connected" else max(patience, 2 * settings.limits.scan_time)

    def _of_rest(self, host: Host) -> Iterator[tuple[Event, dict[str, Any]]]:
        """Yield what holds of a host on which nothing works."""
        state = self._context.states.of(host.identity)
        common = {"host": host.name, "cents_per_hour": host.cents_per_hour}
        judged = state.verdict
        if judged is not None and judged.verdict.is_safe and is_fresh(abs(time.time() - judged.at), watched=True):
            idle = None if judged.idle_since is None else max(0.0, time.time() - judged.idle_since)
            accepted = [f"{loss.kind}: {loss.what}" for loss in judged.verdict.losses]
            yield (
                Event.HOST_DRAINED,
                _plain(
                    {
                        **common,
                        "verdict": judged.verdict.answer.value.replace("_", " "),
                        "losses": accepted,
                        "idle_seconds": None if idle is None else round(idle),
                        "cost": cents_for(host.cents_per_hour, idle),
                    }
                ),
            )
        if state.idle is not None and state.idle.is_logged:
            rested = time.monotonic() - state.idle.since
            spent = cents_for(host.cents_per_hour, rested)
            yield Event.HOST_IDLE, _plain({**common, "idle_seconds": round(rested), "cost": spent})

    def _of_losses(self) -> Iterator[Condition]:
        for identity, lost in self._context.fleet.rescue.lost.items():
            fields = {"host": lost.host, "files": lost.files, "bytes": lost.bytes, "what": list(lost.what)}
            yield Condition(Event.HOST_LOST_DATA, identity, fields=_plain(fields))

    async def _of_disk(self, known: Mapping[Subject, Episode]) -> list[Condition]:
        room, path = self._context.budgets.room, str(self._root.path)
        last = known.get((Event.DISK_LOW.value, path))
        if not room.is_low and (last is None or last.ended is not None):
            return []
        free = await anyio.to_thread.run_sync(self._root.free_bytes)
        if not room.is_low and free < room.floor:
            return []  # after a restart nothing was refused yet, and the earlier notification still holds
        fields = {"path": path, "free_bytes": free, "floor_bytes": room.floor}
        return [Condition(Event.DISK_LOW, path, holds=room.is_low, fields=_plain(fields))]


def _plain(fields: Mapping[str, object]) -> dict[str, Any]:
    """Return fields as JSON values, escaped and without secrets."""
    return cast("dict[str, Any]", plain(dict(fields)))
