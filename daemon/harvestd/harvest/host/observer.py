"""One look at a host: scan, learn, plan. The same for the daemon, for a single pass and for `plan`; fetches nothing."""

import time
from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from functools import partial

from msgspec.structs import replace

from harvestd.convention.scan.classify import Surveyor
from harvestd.convention.scan.model import EvalDir, LeftOut, Survey
from harvestd.convention.scan.quiet import Stillness
from harvestd.convention.scan.snapshot import Snapshot, TreeState
from harvestd.convention.scan.stability import NETWORK_SETTLE, Sightings
from harvestd.convention.scan.views import View, may_see_more, sees_more
from harvestd.harvest.context import House, Outlook, Showing
from harvestd.harvest.host.early_reads import Glimpses
from harvestd.harvest.host.failures import Troubles
from harvestd.harvest.host.indexer import Learning
from harvestd.harvest.host.kept_plan import KeptPlan
from harvestd.harvest.host.liveness import Lives
from harvestd.harvest.transfer.refusals import Refusals
from harvestd.inventory.host import Host
from harvestd.planning.left_behind import Fates
from harvestd.planning.liveness import Life
from harvestd.planning.plan import Plan
from harvestd.planning.planner import Situation, make_plan
from harvestd.planning.run_filter import possible
from harvestd.remote.api import Box, BoxFacts
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_LOOKS = 5
"""Of a look's own deadline: what looks may have to be started on the box, and others' looks come before."""


class Looking:
    """Looks at one connected host again and again, remembering what it saw."""

    def __init__(self, host: Host, house: House, box: Box, facts: BoxFacts) -> None:
        self._host = host
        self._house = house
        self._box = box
        self.troubles = Troubles(host.name, house.monitor)
        """What could not be brought, and how often that was tried."""
        self._learning = Learning(host, house, facts, self.troubles)
        self._glimpses = Glimpses(box, house.catalogue.knowledge, house.storage_of(host), self.troubles)
        self._lives = Lives(host, house, box)
        self.sightings = Sightings()
        """How long files have been as they are."""
        self._kept = KeptPlan()
        self.stillness = Stillness()
        """For how long nothing has moved."""
        self._surveyor = Surveyor()
        self._selection = house.selection
        """What the surveyor understood by so far."""
        self.seen: Survey | None = None
        """The newest snapshot, understood."""
        self._shown: Survey | None = None
        """What other hosts' planners know of."""
        self._places: frozenset[str] = frozenset()
        """Of the evals in it."""
        self.is_outseen = False
        """Whether another connected host of the storage shows trees that this one does not show (any more)."""
        self._outseen_since: float | None = None
        """Since when that may be so: monotonic seconds."""
        self._seen_evals: set[str] = set()
        self._missing_roots: set[str] = set()
        self._drifting: set[str] = set()
        self._emptied_roots: set[str] = set()
        self._rejected = 0
        self.refused = Refusals()
        """What could not be put in its place, so that it is not fetched again for nothing."""
        self.snapshot: Snapshot | None = None
        """What the last look showed."""
        self._scanned = 0.0
        """When the last look of ours began, on our clock; what the box tells by itself is newer, but may not be all."""
        self.scan_took = 0.0
        """Seconds from the request for the last scan to its end."""
        self.took = 0.0
        """Seconds in which the last look was understood, other hosts waiting for some of it."""

    async def look(self) -> Plan:
        """Scan, learn what the scan asks for, and plan. Raises `Retry` and `HostQuarantined`."""
        if self.seen is not None:
            return await self._seen_by(self._box.scan)
        return await self._seen_by(partial(self._glimpses.beside, self._box.scan))

    async def look_whole(self) -> Plan:
        """As `look`, at every entry: those too that have long been at rest."""
        return await self._seen_by(self._box.scan_whole)

    async def _seen_by(self, scan: Callable[[], Awaitable[Snapshot]]) -> Plan:
        scanned = time.monotonic()
        longest = _LOOKS * self._house.limits.scan_time.total_seconds()
        with self._house.deadlines.within(longest, f"a look at {self._host.name}"):
            snapshot = await scan()
        self._scanned = scanned
        self.scan_took = time.monotonic() - scanned
        return await self._understood(snapshot)

    def alone(self) -> Plan:
        """Plan by the last look as though no other host showed anything: what this box itself holds that is not here.

        There must have been a look.
        """
        if self.seen is None:
            raise RuntimeError("nothing was looked at yet")
        return make_plan(self.seen, replace(self._situation(time.monotonic()), showing={}))

    async def life(self) -> Life:
        """Ask what still runs, unless that was done just now. Raises `Retry`."""
        return self._lives.known() if self.seen is None else await self._lives.asked(self.seen) or self._lives.known()

    @property
    def known_life(self) -> Life:
        """What is known of it."""
        return self._lives.known()

    @property
    def scanned(self) -> float:
        """When the last look of ours began: monotonic seconds."""
        return self._scanned

    async def hear(self) -> Plan:
        """As `look`, with what the box told of changes by itself in place of a scan."""
        return await self._understood(await self._box.pushed())

    async def _understood(self, snapshot: Snapshot) -> Plan:
        now = time.monotonic()
        await self._house.look_around()
        self.snapshot = snapshot
        self.sightings.update(snapshot, now)
        self.stillness.looked(snapshot, now, self._house.settings.poll.interval.total_seconds(), self.scan_took)
        self._tell_roots(snapshot)
        if self._selection is not self._house.selection:
            self._selection = self._house.selection
            self._surveyor, self.seen = Surveyor(), None
        if snapshot.changed or self.seen is None:
            self.seen = self._surveyor.survey(snapshot, self._house.selection)
        only = self._house.selection.only
        seen = possible(self.seen, only) if only else self.seen
        whole = (self.seen, snapshot)
        await self._learning.learn(seen, whole, self._box, self.sightings, now, self._glimpses.taken())
        self._show(seen, snapshot)
        situation = self._situation(now)
        plan = self._kept.still_good(seen, situation)
        if plan is None:
            plan = await self._planned(seen, situation)
        self.took = time.monotonic() - now
        refused = frozenset(place for place, _ in self.refused)
        self._house.outlooks[self._host.identity] = Outlook(
            self._host, seen, plan, refused, self._scanned, self.scan_took
        )
        self._house.rescue.saw(self._host, plan)
        self._house.looked.ring()
        return plan

    async def _planned(self, seen: Survey, situation: Situation) -> Plan:
        """Plan, ask for what only the box can say, and record what is left out."""
        plan = make_plan(seen, situation)
        if plan.asks_for_life and (life := await self._lives.asked(seen)) is not None:
            plan = make_plan(seen, replace(situation, life=life))
        self._tell_evals(seen.evals)
        self._kept.keep(plan, situation)
        left_out = plan.left_out if self._house.selection.only is None else self._beside_others(seen, plan)
        fates = Fates(self.snapshot) if self.snapshot is not None else None
        records = self._house.catalogue.left_out
        self._house.touch(await records.save(self._host.name, self._host.identity, left_out, fates))
        return plan

    def _beside_others(self, seen: Survey, plan: Plan) -> dict[str | None, tuple[LeftOut, ...]]:
        """Return what is left out on this host when one run alone was looked for: of all else, what is on record."""
        knowledge, storage = self._house.catalogue.knowledge, self._house.storage_of(self._host)
        records = [knowledge.run_at(storage, run.place) for run in seen.runs]
        own = {record.experiment for record in records if record is not None}
        said_anew = {each.place for entries in plan.left_out.values() for each in entries}
        found = {
            experiment: tuple(each for each in entries if each.place not in said_anew and each.gone_at is None)
            for experiment, entries in self._house.catalogue.left_out.on(self._host.name, self._host.identity).items()
            if experiment not in own
        }
        # A base eval is told of under one of its experiments, which may be another run's.
        return found | {key: (*found.get(key, ()), *entries) for key, entries in plan.left_out.items()}

    def _show(self, seen: Survey, snapshot: Snapshot) -> None:
        """Let planners of hosts that may share this one's file system know what it shows."""
        if self._shown is not seen and self._host.identity in self._house.showing:
            self._shown, self._places = seen, frozenset(each.place for each in seen.evals if each.run is not None)
        view = View.of(snapshot)
        if self._host.identity in self._house.showing:
            showing = Showing(self._house.storage_of(self._host), self._places, view)
            self._house.showing[self._host.identity] = showing
        self.is_outseen = self._is_outseen(view, time.monotonic())

    def _is_outseen(self, view: View, now: float) -> bool:
        others = self._house.views_beside(self._host)
        if any(sees_more(other, view) for other in others):
            return True
        if not any(may_see_more(other, view) for other in others):
            self._outseen_since = None
            return False
        # What another host wrote a moment ago may only not be seen here yet.
        if self._outseen_since is None:
            self._outseen_since = now
        return now - self._outseen_since > NETWORK_SETTLE

    def _situation(self, now: float) -> Situation:
        return Situation(
            host=self._host.name,
            storage=self._house.storage_of(self._host),
            knowledge=self._house.catalogue.knowledge,
            selection=self._house.selection,
            sightings=self.sightings,
            settle=self._house.settle_of(self._host),
            now=now,
            showing=self._house.shown_by_others(self._host),
            undecided=self._learning.undecided,
            refused=self.refused,
            life=self._lives.known(),
            failing=self.troubles.lasting(),
        )

    def _tell_roots(self, snapshot: Snapshot) -> None:
        missing = {listing.tree.root for listing in snapshot.listings if listing.state is TreeState.NO_ROOT}
        for root in sorted(missing - self._missing_roots):
            get_logger().warning(
                Event.HOST_ROOT_MISSING,
                host=self._host.name,
                path=root,
                error="the root does not exist on the box",
                hint="is its file system mounted? Otherwise set remote.roots, or roots in the host's table",
            )
        self._missing_roots = missing
        drifting = {str(each.tree): each.filesystem for each in snapshot.listings if each.drifts}
        for place in sorted(drifting.keys() - self._drifting):
            get_logger().info(
                Event.HOST_INODES_IGNORED, host=self._host.name, path=place, filesystem=drifting[place] or "unknown"
            )
        self._drifting |= drifting.keys()
        if snapshot.changed or self.seen is None:
            self._tell_emptied(snapshot, missing)
        if snapshot.rejected > self._rejected:
            get_logger().warning(
                Event.FILE_REJECTED, host=self._host.name, error=f"{snapshot.rejected} names that can't be used"
            )
        self._rejected = snapshot.rejected

    def _tell_emptied(self, snapshot: Snapshot, missing: AbstractSet[str]) -> None:
        """Tell once of a root that shows nothing although files came from it: nothing here follows it."""
        full = {listing.tree.root for listing in snapshot.listings if listing.entries or listing.unreadable}
        elsewhere = {TreeState.DENIED, TreeState.TWIN}
        unseen = {listing.tree.root for listing in snapshot.listings if listing.state in elsewhere}
        bare = {listing.tree.root for listing in snapshot.listings} - full - unseen - missing
        storage = self._house.storage_of(self._host)
        emptied = {
            root
            for root in bare
            if root in self._emptied_roots or self._house.catalogue.knowledge.any_below(storage, root)
        }
        for root in sorted(emptied - self._emptied_roots):
            get_logger().warning(
                Event.HOST_ROOT_MISSING,
                host=self._host.name,
                path=root,
                error="nothing is left in the root, though files came from it",
                hint="is its file system mounted? What came from it stays here",
            )
        self._emptied_roots = emptied

    def _tell_evals(self, evals: Iterable[EvalDir]) -> None:
        """Tell evals that were never seen: neither by this process nor, going by what is here, by an earlier one."""
        for eval_dir in evals:
            if eval_dir.place in self._seen_evals:
                continue
            self._seen_evals.add(eval_dir.place)
            sources = (member.source for group in eval_dir.groups for member in group.members)
            storage = self._house.storage_of(self._host)
            if not any(self._house.catalogue.knowledge.copies(storage, source.place) for source in sources):
                get_logger().info(Event.EVAL_DISCOVERED, host=self._host.name, path=eval_dir.place)

    @property
    def missing_roots(self) -> frozenset[str]:
        """Configured roots that the last look did not find."""
        return frozenset(self._missing_roots)
