"""One scan of a host and its plan, the same for the daemon, a single pass and `plan`; fetches nothing."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

import anyio
from msgspec.structs import replace

from harvestd.catalogue.loading import KEPT
from harvestd.convention.scan.classify import Surveyor
from harvestd.convention.scan.model import LeftOut, ScanResult
from harvestd.convention.scan.snapshot import Snapshot
from harvestd.convention.scan.stability import IdleTimer, StabilityTracker
from harvestd.convention.structs import Steps
from harvestd.errors import unwrapped
from harvestd.harvest.context import Context
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.host.health import LivenessMonitor
from harvestd.harvest.host.indexed import EarlyReads
from harvestd.harvest.host.indexer import RunIndexer
from harvestd.harvest.host.scan_events import ScanEvents, SharedView
from harvestd.harvest.state import LastScan
from harvestd.harvest.sync import in_slices
from harvestd.harvest.transfer.publish import Refusals
from harvestd.inventory.host import Host
from harvestd.planning.destinations import possible
from harvestd.planning.host_plan.planner import HostPlanner
from harvestd.planning.host_plan.situation import Situation
from harvestd.planning.left_behind import EntryStates
from harvestd.planning.plan import Plan
from harvestd.planning.records import NotLoaded, Section
from harvestd.planning.run_status import Liveness
from harvestd.remote.api import REST_PER_SCAN, Box, BoxFacts, OwnScan

T = TypeVar("T")
SCANS = 5
"""The deadline of a scan, as a multiple of `limits.scan_time`: the program that scans may have to be started first.

Other requests to the host may come before it, too.
"""
_LIGHT = 5_000
"""Files of a host of which the records may be dropped while it is connected: loading them takes a tenth of a second."""
SHORTEST_STAY = 20.0
"""Seconds for which records that were dropped and needed again twice stay in memory; then twice as long each time."""
MARGIN = 1.0
"""Seconds beyond the settling time without a change after which everything has settled."""


class Residency:
    """Decides how long records stay in memory: longer each time that they were dropped and soon needed again.

    All times are monotonic seconds.
    """

    def __init__(self) -> None:
        self.was_dropped = False
        """Whether they were dropped, as far as was noticed: they may have been loaded again."""
        self._dropped_at = 0.0
        self._until = 0.0
        """Until when they stay."""
        self._length = 0.0
        """Seconds for which they stay when they are needed again."""

    def has_ended(self, now: float, *, is_loaded: bool) -> bool:
        """Return whether they are in memory and may be dropped; `is_loaded`: whether any of them is in memory."""
        if self.was_dropped and is_loaded:
            self.was_dropped = False
            self._length = 0.0 if now - self._dropped_at > KEPT else self._length
            self._until = now + self._length
            self._length = min(KEPT, max(SHORTEST_STAY, 2 * self._length))
        return is_loaded and now >= self._until

    def dropped(self, now: float) -> None:
        """Note that they are dropped now."""
        self.was_dropped, self._dropped_at = True, now


class Observer:
    """Scans one connected host repeatedly, and keeps what it saw."""

    def __init__(self, host: Host, context: Context, box: Box, facts: BoxFacts) -> None:
        self._host = host
        self._context = context
        self._box = box
        self.failures = FailureTracker(host.name, context.monitor)
        """Files that could not be fetched, and how often that was tried."""
        self._indexer = RunIndexer(host, context, facts, self.failures)
        self._early_reads = EarlyReads(box, context.catalogue.knowledge, context.storage_of(host), self.failures)
        self._monitor = LivenessMonitor(host, context, box)
        self.sightings = StabilityTracker()
        """How long each file has been unchanged."""
        self.planner = HostPlanner()
        self._recorded: Plan | None = None
        """The plan whose skipped entries are on record."""
        self.stillness = IdleTimer()
        """How long nothing has changed."""
        self._surveyor = Surveyor()
        self._selection = context.selection
        """The selection that the surveyor applied so far."""
        self.seen: ScanResult | None = None
        """The classified newest snapshot."""
        self.shared = SharedView(host, context)
        """What it shows, for hosts that may share its file system."""
        self._events = ScanEvents(host, context)
        self.lease = context.catalogue.files.lease()
        """The files that must be in memory while this host is connected."""
        self._residency = Residency()
        """When the records of its files may be dropped although it is connected."""
        self.refused = Refusals()
        """Files that could not be published locally, so that they are not fetched again in vain."""
        self.snapshot: Snapshot | None = None
        """The result of the last scan."""
        self._scanned = 0.0
        """When the last scan of all trees began, by the local clock; other pushes are newer, but may be incomplete."""
        self.scan_took = 0.0
        """Seconds from the request for the last scan to its end."""
        self._planned_at = 0.0
        """When the last plan was begun, in monotonic seconds."""
        self.took = 0.0
        """Seconds that processing the last scan took; other hosts wait for a part of it."""

    async def scan(self) -> Plan:
        """Scan, index what the scan shows, and return the plan. Raise `Retry` and `HostQuarantined`."""
        if self.seen is not None:
            return await self._plan_after(self._box.scan)
        return await self._plan_after(partial(self._beside_loading, partial(self._early_reads.beside, self._box.scan)))

    async def scan_all(self) -> Plan:
        """Do the same as `scan`, but scan every entry, also those that have not changed for long."""
        return await self._plan_after(self._box.scan_whole)

    async def _beside_loading(self, scan: Callable[[], Awaitable[Snapshot]]) -> Snapshot:
        """Scan, and load what came from this storage meanwhile. Raise what either of them raises."""
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.lease.load, (), [self._context.storage_of(self._host)])
                snapshot = await scan()
        return snapshot

    async def _plan_after(self, scan: Callable[[], Awaitable[Snapshot]]) -> Plan:
        scanned = time.monotonic()
        longest = SCANS * self._context.limits.scan_time.total_seconds()
        with self._context.deadlines.within(longest, f"a look at {self._host.name}"):
            snapshot = await scan()
        self._scanned = scanned
        self.scan_took = time.monotonic() - scanned
        self.stillness.record_scan(snapshot, time.monotonic(), self._interval, self.scan_took)
        return await self._planned_for(snapshot)

    async def plan_again(self) -> Plan:
        """Plan by the last scan, since records changed. Raise `RuntimeError` if there was no scan yet."""
        if self.snapshot is None:
            raise RuntimeError("nothing was looked at yet")
        return await self._planned_for(replace(self.snapshot, changed=False))

    def plan_alone(self) -> Plan:
        """Return a plan by the last scan as if no other host showed anything: what this host holds that is not here.

        Raise `RuntimeError` if there was no scan yet, and `NotLoaded` as `HostPlanner.plan` does.
        """
        if self.seen is None:
            raise RuntimeError("nothing was looked at yet")
        return self.planner.plan(self.seen, replace(self._situation(time.monotonic()), connected_storages={}))

    async def liveness(self) -> Liveness:
        """Return the process liveness; query it unless that was done just now. Raise `Retry`."""
        return (
            self._monitor.known()
            if self.seen is None
            else await self._monitor.queried(self.seen) or self._monitor.known()
        )

    @property
    def known_liveness(self) -> Liveness:
        """The process liveness as far as it is known."""
        return self._monitor.known()

    @property
    def scanned(self) -> float:
        """When the last scan of all trees began, in monotonic seconds."""
        return self._scanned

    async def take_reports(self) -> Plan:
        """Do the same as `scan`, with what the host pushed instead of a scan."""
        snapshot = await self._box.pushed()
        # The host may have scanned all of its trees by itself; otherwise only a change is certain.
        self._scanned = max(self._scanned, self._box.last_scan_began)
        if snapshot.changed:
            self.stillness.record_scan(snapshot, time.monotonic(), self._interval, self.scan_took)
        else:
            self._note_unchanged(self._scanned)
        return await self._planned_for(snapshot)

    def plan_unchanged(self, scans: Iterable[OwnScan]) -> Plan | None:
        """Record scans of the host's own that found nothing new; return the last plan if it is certainly still right.

        None if it must be made anew, as `take_reports` does.
        """
        for scan in scans:
            self._scanned = max(self._scanned, scan.began)
            self._note_unchanged(scan.began)
        state, now = self._context.states.of(self._host.identity), time.monotonic()
        if state.last_scan is None or self.snapshot is None or self._selection is not self._context.selection:
            return None
        state.last_scan = replace(state.last_scan, scanned=self._scanned)
        if self.refused or not self._has_settled(self.snapshot) or self._shares():
            return None
        # A plan that depends on what other hosts show is not kept.
        return self.planner.last(state.last_scan.seen, self._situation(now, connected_storages={}))

    def _has_settled(self, snapshot: Snapshot) -> bool:
        """Return whether nothing had changed for so long at the last turn that time alone hardly has an effect."""
        settle = self._context.settle_of(self._host)
        longest = max((self.sightings.settle(each.tree, settle) for each in snapshot.listings), default=settle)
        return self._planned_at - self.stillness.since >= longest + MARGIN

    def _note_unchanged(self, at: float) -> None:
        """Note that a scan of the host's own, which began at `at`, found nothing new."""
        interval = max(self._interval, REST_PER_SCAN * self.scan_took)
        self.stillness.unchanged(at, interval, self.scan_took)

    def _shares(self) -> bool:
        """Return whether other connected hosts show the same storage: they may show more at any time."""
        return len(self._context.states.connected(self._context.storage_of(self._host))) > 1

    @property
    def _interval(self) -> float:
        return self._context.settings.poll.interval.total_seconds()

    async def _planned_for(self, snapshot: Snapshot) -> Plan:
        now = self._planned_at = time.monotonic()
        await self._context.check_directories()
        self.snapshot = snapshot
        self.sightings.update(snapshot, now)
        is_new = snapshot.changed or self.seen is None or self._selection is not self._context.selection
        if is_new or not self.rests:
            await self.lease.load((), [self._context.storage_of(self._host)])
        self._events.log_trees(snapshot, is_new=snapshot.changed or self.seen is None)
        if self._selection is not self._context.selection:
            self._selection = self._context.selection
            self._surveyor, self.seen = Surveyor(), None
        if snapshot.changed or self.seen is None:
            self.seen = await in_slices(self._surveyor.surveying(snapshot, self._context.selection))
        only = self._context.selection.only
        seen = possible(self.seen, only) if only else self.seen
        whole = (self.seen, snapshot)
        if is_new or not self.rests:
            await self.lease.load(self._sections_of_runs(seen))
        await self._index(seen, whole, now)
        self.shared.register(seen, snapshot)
        situation = self._situation(now)
        plan = await self._planned(seen, situation)
        self.took = time.monotonic() - now
        refused = frozenset(place for place, _ in self.refused)
        self._context.states.of(self._host.identity).last_scan = LastScan(
            self._host, seen, plan, refused, self._scanned, self.scan_took
        )
        self._context.fleet.rescue.record_scan(self._host, plan)
        self._context.signals.scanned.ring()
        return plan

    async def _index(self, seen: ScanResult, whole: tuple[ScanResult, Snapshot], now: float) -> None:
        """Index what the scan shows, after loading everything that this needs."""
        early = self._early_reads.taken()
        while True:
            try:
                return await self._indexer.index(seen, whole, self._box, self.sightings, now, early)
            except NotLoaded as e:
                await self.lease.load(e.sections, e.storages)

    async def _planned(self, seen: ScanResult, situation: Situation) -> Plan:
        """Plan, query the liveness if the plan needs it, and record what is left out."""
        plan = await self._plan(seen, situation)
        if plan.needs_liveness and (liveness := await self._monitor.queried(seen)) is not None:
            plan = await self._plan(seen, replace(situation, liveness=liveness))
        if plan is self._recorded:
            return plan
        await in_slices(self._events.logging_evals(seen.evals))
        left_out = plan.left_out if self._context.selection.only is None else self._beside_others(seen, plan)
        states = EntryStates(self.snapshot) if self.snapshot is not None else None
        records = self._context.catalogue.left_out
        self._context.changes.touch(await records.save(self._host.name, self._host.identity, left_out, states))
        self._recorded = plan
        return plan

    async def _plan(self, seen: ScanResult, situation: Situation) -> Plan:
        """Return the plan, made in slices, after loading everything that it needs."""
        return await self.in_slices(lambda: self.planner.planning(seen, situation))

    async def in_slices(self, compute: Callable[[], Steps[T]]) -> T:
        """Return the result of a computation in slices; it is begun again after loading what it needs."""
        while True:
            try:
                return await in_slices(compute())
            except NotLoaded as e:
                await self.lease.load(e.sections, e.storages)

    async def rest(self, plan: Plan) -> None:
        """Drop the records and groups of the files of a host with nothing to do, if they are soon there again.

        The planner keeps what the next scan without changes needs of them. Each time that something needs them again,
        they stay longer: a host that is busy now and then would have them loaded each time.
        """
        now = time.monotonic()
        is_loaded = bool(self.lease.storages or self.lease.sections)
        if self._residency.has_ended(now, is_loaded=is_loaded) and self._may_rest(plan):
            self._residency.dropped(now)
            for each in self.seen.evals if self.seen is not None else ():
                each.contents.release()
            await self.lease.rest()

    @property
    def rests(self) -> bool:
        """Whether the records of its files were dropped, and nothing has needed all of them since."""
        return self._residency.was_dropped and self._context.storage_of(self._host) not in self.lease.storages

    def _may_rest(self, plan: Plan) -> bool:
        """Return whether the next scan without changes needs no record of a file, and dropping them costs little."""
        storage, last_scan = (
            self._context.storage_of(self._host),
            self._context.states.of(self._host.identity).last_scan,
        )
        has_work = not plan.is_empty or plan.waiting or plan.request_states or self.refused
        if has_work or last_scan is None or last_scan.plan is not plan or self._context.selection.only is not None:
            return False
        if self._shares() or not self._context.catalogue.knowledge.is_light(storage, _LIGHT):
            return False
        return self.planner.last(last_scan.seen, self._situation(time.monotonic(), connected_storages={})) is plan

    def _sections_of_runs(self, seen: ScanResult) -> set[Section]:
        """Return the sections of the experiments of runs that this host shows."""
        knowledge, storage = self._context.catalogue.knowledge, self._context.storage_of(self._host)
        records = (knowledge.run_at(storage, run.place) for run in seen.runs)
        experiments = {record.experiment for record in records if record is not None and record.experiment}
        return {section for each in experiments for section in knowledge.sections_of(each)}

    def _beside_others(self, seen: ScanResult, plan: Plan) -> dict[str | None, tuple[LeftOut, ...]]:
        """Return what is left out on this host after a scan for one run alone; the rest is taken from the records."""
        knowledge, storage = self._context.catalogue.knowledge, self._context.storage_of(self._host)
        records = [knowledge.run_at(storage, run.place) for run in seen.runs]
        own = {record.experiment for record in records if record is not None}
        said_anew = {each.place for entries in plan.left_out.values() for each in entries}
        found = {
            experiment: tuple(each for each in entries if each.place not in said_anew and each.gone_at is None)
            for experiment, entries in self._context.catalogue.left_out.on(self._host.name, self._host.identity).items()
            if experiment not in own
        }
        # A base eval is listed under one of its experiments, which may be another run's.
        return found | {key: (*found.get(key, ()), *entries) for key, entries in plan.left_out.items()}

    def _situation(self, now: float, connected_storages: Mapping[str, frozenset[str]] | None = None) -> Situation:
        storage = self._context.storage_of(self._host)
        return Situation(
            host=self._host.name,
            storage=storage,
            knowledge=self._context.catalogue.knowledge,
            selection=self._context.selection,
            sightings=self.sightings,
            settle=self._context.settle_of(self._host),
            now=now,
            connected_storages=self._context.states.evals_of_others(storage)
            if connected_storages is None
            else connected_storages,
            undecided=self._indexer.undecided,
            refused=self.refused,
            liveness=self._monitor.known(),
            failing=self.failures.lasting(),
        )

    @property
    def missing_roots(self) -> frozenset[str]:
        """Configured roots that the last scan did not find."""
        return frozenset(self._events.missing_roots)
