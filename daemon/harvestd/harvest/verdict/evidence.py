"""Collects the evidence for a verdict on one connected host: a cheap part after each scan, all of it on demand.

The order of the queries ensures that no change is missed: first the activity on the host, then the local files, and the
full scan last.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import chain, islice
from typing import Final

import anyio.to_thread
from msgspec.structs import replace

from harvestd.convention.kinds import GROWING, LossKind
from harvestd.convention.paths import LocalPath
from harvestd.convention.rules import waived_places
from harvestd.convention.scan.links import leads_elsewhere, links_out
from harvestd.convention.scan.model import RunDir, ScanResult, SymbolicLink
from harvestd.convention.scan.snapshot import Snapshot, TreeState
from harvestd.harvest.context import Context
from harvestd.harvest.host.observer import Observer
from harvestd.inventory.host import Host
from harvestd.planning.plan import Plan
from harvestd.planning.records import FileRecord
from harvestd.planning.run_status import Liveness
from harvestd.remote.api import Box
from harvestd.safety.accounting import not_here, storages_of
from harvestd.safety.inputs import (
    Damaged,
    DirectoryMemo,
    Evidence,
    NotHere,
    RunState,
    ScanEvidence,
    renumbered,
    renumbered_roots,
    run_state,
)
from harvestd.safety.losses import accounting_for, link_losses, losses_of
from harvestd.safety.verdict import Loss
from harvestd.store.checksums import not_intact
from harvestd.store.root import DataRoot

_LATELY: Final = timedelta(days=1)
"""Files outside the roots that changed in this time are a loss; `verdict.idle_for` is used if it is longer."""
_PART: Final = 1_000
"""Files that are compared with the disk at once."""

ScanAll = Callable[[], Awaitable[Plan]]
"""Makes a full scan, in the host's own task."""


class EvidenceCollector:
    """Collects evidence for one connected host; created anew for each connection, as its `Observer` is."""

    def __init__(self, host: Host, context: Context, root: DataRoot, box: Box, observer: Observer) -> None:
        self._host = host
        self._context = context
        self._root = root
        self._box = box
        self._observer = observer
        self._storage = context.storage_of(host)
        self._memo = DirectoryMemo(observer.planner)
        self._devices: dict[str, int] | None = None
        self._root_devices: Mapping[str, int] = {}
        """By root: its device when the host was last queried."""

    async def cheap(self, plan: Plan, transfers: int) -> Evidence:
        """Return the evidence of the last scan alone, which can never make a host safe."""
        seen, snapshot = self._last()
        await self._note_devices(seen, snapshot, {})
        evidence = partial(self._evidence, plan, transfers, self._observer.known_liveness, hoping=0.0)
        return await self._observer.lease.evaluated(evidence)

    async def whole(self, scan_all: ScanAll, transfers: Callable[[], int]) -> Evidence:
        """Return the complete, present evidence. Raise `Retry` and `HostQuarantined` as a scan does."""
        context = self._context
        await context.requests.take()
        rules = context.settings.verdict
        circumstances = await self._box.circumstances(max(_LATELY, rules.idle_for))
        circumstances = circumstances.without(rules.ignore_programs)
        self._root_devices = circumstances.devices
        liveness = await self._observer.liveness()
        damaged = await self._damaged()
        # Resolving links may take long, and the scan must be the newest evidence.
        before = self._links()
        targets = await self._box.link_targets(before) if before else {}
        await scan_all()
        seen, snapshot = self._last()
        links = self._links()
        new = [link for link in links if link not in before]
        targets = {**targets, **(await self._box.link_targets(new) if new else {})}
        self._devices = None  # the operator may have had them forgotten
        await self._note_devices(seen, snapshot, circumstances.devices)

        await self._account(seen)

        def concluded() -> tuple[Evidence, Plan, tuple[NotHere, ...], tuple[Loss, ...]]:
            plan, missing, losses = self._missing(seen)
            return self._evidence(plan, transfers(), liveness, hoping=None), plan, missing, losses

        evidence, plan, missing, losses = await self._observer.lease.evaluated(concluded)
        return replace(
            evidence,
            scan=self._scan_evidence(plan, snapshot, whole=True),
            circumstances=circumstances,
            damaged=damaged,
            not_here=missing,
            losses=(*losses, *link_losses(links, targets)),
        )

    async def _account(self, seen: ScanResult) -> None:
        """Compute in slices what `_missing` needs of each directory: then it holds the event loop for a moment only."""
        plan = await self._observer.lease.evaluated(self._observer.plan_alone)
        self._memo.begin()
        knowledge, datasets = self._context.catalogue.knowledge, self._context.selection.datasets
        await self._observer.in_slices(
            lambda: accounting_for(seen, plan, self._storage, knowledge, datasets, self._memo)
        )

    def _missing(self, seen: ScanResult) -> tuple[Plan, tuple[NotHere, ...], tuple[Loss, ...]]:
        """Return what is planned, what would be missing then, and what is lost, by the same records.

        Raise `NotLoaded` if these are not all in memory.
        """
        plan, knowledge = self._observer.plan_alone(), self._context.catalogue.knowledge
        self._memo.begin()
        losses = losses_of(seen, plan, self._storage, knowledge, self._context.selection.datasets, self._memo)
        return plan, not_here(seen, plan, self._storage, knowledge, self._memo), losses

    def _links(self) -> Sequence[SymbolicLink]:
        """Return the links that lead out of the trees, by the last scan."""
        seen, snapshot = self._last()
        return links_out(seen, snapshot.listings)

    def _last(self) -> tuple[ScanResult, Snapshot]:
        seen, snapshot = self._observer.seen, self._observer.snapshot
        if seen is None or snapshot is None:
            raise RuntimeError("nothing was looked at yet")
        return seen, snapshot

    def _scan_evidence(self, plan: Plan, snapshot: Snapshot, *, whole: bool) -> ScanEvidence:
        # Counted from the end of the scan: one that takes minutes on a slow file system would otherwise never be fresh.
        age = max(0.0, time.monotonic() - self._observer.scanned - self._observer.scan_took)
        waived = waived_places(snapshot.listings, self._context.selection)
        return ScanEvidence(snapshot.listings, plan, age, whole=whole, rejected=snapshot.rejected, waived=waived)

    def _evidence(self, plan: Plan, transfers: int, liveness: Liveness, *, hoping: float | None) -> Evidence:
        """Return the evidence of the last scan and of the records; `hoping`: see `_state`."""
        seen, snapshot = self._last()
        settings = self._context.settings
        runs = [(run, self._state(run, liveness, hoping)) for run in seen.runs if run.config is not None]
        through = self._through(seen, snapshot)
        others = [run for run, state in runs if state.elsewhere] if through else []
        return Evidence(
            connected=True,
            scan=self._scan_evidence(plan, snapshot, whole=False),
            roots=settings.remote_for(self._host).roots,
            devices=self._devices or {},
            seen=self._was_seen(seen, [state for _, state in runs]),
            quiet=self._quiet(others),
            still_since=self._still_since(others),
            idle_for=settings.verdict.idle_for.total_seconds(),
            runs=tuple(state for _, state in runs),
            failing=self._failing(),
            transfers=transfers,
            through=through,
            accepted=accepted(self._context),
        )

    def _state(self, run: RunDir, liveness: Liveness, hoping: float | None) -> RunState:
        """Return the state of a run.

        `hoping`: the seconds left to a run of which only its processes could prove the end, and which were not queried.
        """
        record = self._context.catalogue.knowledge.run_at(self._storage, run.place)
        state = run_state(run, record, self._host.name, liveness, self._observer.sightings, time.monotonic(), hoping)
        writer = self._context.fleet.machines.writing(run.writer, self._host)
        return replace(state, elsewhere=writer is not None and self._context.storage_of(writer.host) == self._storage)

    def _failing(self) -> dict[str, str]:
        failures, lasting = self._observer.failures, self._observer.failures.lasting()
        return {place: found.reason for place, found in failures.all().items() if place in lasting}

    def _was_seen(self, seen: ScanResult, states: list[RunState]) -> bool:
        """Return whether a run or eval was ever seen on this host that is not certainly another host's."""
        if seen.evals or any(not state.elsewhere for state in states):
            return True
        known, name = self._context.catalogue.knowledge, self._host.name
        if any(run.storage == self._storage and run.is_of(name, self._host.identity) for run in known.runs()):
            return True
        return any(file.host == name for file in known.files_from(self._storage))

    def _quiet(self, others: list[RunDir]) -> float:
        """Return the seconds without a change, other than changes by other machines on the same storage."""
        stillness = self._observer.stillness
        if not others:
            return stillness.quiet
        return min(stillness.watched, time.monotonic() - self._still_since(others))

    def _still_since(self, others: list[RunDir]) -> float:
        """Return the moment from which `_quiet` counts, in monotonic seconds."""
        stillness = self._observer.stillness
        if not others:
            return stillness.since
        without = [(run.tree, run.path) for run in others]
        return max(stillness.began, self._observer.sightings.unchanged_since(time.monotonic(), without))

    def _through(self, seen: ScanResult, snapshot: Snapshot) -> str | None:
        """Return another connected host that shows all of this on the same storage, which outlives both.

        Only what a run or an eval proves to be shown there counts. A tree on another device than its root does not
        count: a link may lead from the storage to a disk of the host's own.
        """
        storage, context = self._host.storage, self._context
        own = _places(seen)
        if storage is None or not own or leads_elsewhere(snapshot.listings, self._root_devices):
            return None
        connected = context.states.connected(storage)
        for last_scan in sorted(context.states.last_scans(), key=lambda each: each.host.identity):
            other = last_scan.host
            if other.identity not in connected or other.name in context.fleet.ending:
                continue
            fresh = last_scan.is_fresh(time.monotonic(), context.settings.poll.interval.total_seconds())
            if other.identity != self._host.identity and fresh and own <= _places(last_scan.seen):
                return other.name
        return None

    async def _note_devices(self, seen: ScanResult, snapshot: Snapshot, roots: Mapping[str, int]) -> None:
        """Record the device of each tree when something was first seen in it, and the device of each root."""
        devices = self._context.catalogue.devices
        if self._devices is None:
            self._devices = await devices.of(self._host.identity)
        full = {run.tree for run in seen.runs} | {each.tree for each in seen.evals}
        shown = [each for each in snapshot.listings if each.state is TreeState.PRESENT and each.tree in full]
        found = {str(each.tree): each.device for each in shown}
        found |= {each.tree.root: roots[each.tree.root] for each in shown if each.tree.root in roots}
        if any(self._devices.get(place, device) != device for place, device in found.items()):
            self._devices = await devices.of(self._host.identity)  # the operator may have confirmed the present devices
        known = self._devices
        new = {place: device for place, device in found.items() if device and place not in known}
        new |= renumbered_roots(known, snapshot.listings, roots)
        await self._save_devices(new)

    async def recognise(self) -> None:
        """Record new device numbers whose files prove the same file system, before anything of the scan is fetched.

        A file that is fetched from another file system is recorded as it is there, and would prove nothing later.
        """
        _, snapshot = self._last()
        if self._devices is None:
            self._devices = await self._context.catalogue.devices.of(self._host.identity)
        devices, knowledge = self._devices, self._context.catalogue.knowledge

        def files() -> Iterator[FileRecord]:
            # Only another device needs the records.
            yield from knowledge.files_from(self._storage)

        found = await self._observer.lease.evaluated(lambda: renumbered(devices, snapshot.listings, files()))
        await self._save_devices(found)

    async def _save_devices(self, new: Mapping[str, int]) -> None:
        if new:
            self._devices = {**(self._devices or {}), **new}
            await self._context.catalogue.devices.save(self._host.identity, self._devices)

    async def _damaged(self) -> tuple[Damaged, ...]:
        """Return the files that came from this host, by any storage, and whose local file differs from its record."""
        seen, _ = self._last()
        knowledge = self._context.catalogue.knowledge
        storages = storages_of(seen, self._storage, knowledge)
        if self._observer.rests and storages == {self._storage} and await self._is_intact():
            return ()
        await self._observer.lease.load((), storages)
        mine = (knowledge.run_at(self._storage, run.place) for run in seen.runs)
        experiments = {run.experiment for run in mine if run is not None}
        async with self._context.directory_lock.still():
            # Files that are here only from another host, since they have the same content.
            same = await self._observer.lease.evaluated(lambda: list(knowledge.same_from(self._storage)))
            own = knowledge.files_from(self._storage)
            shared = [knowledge.files_from(storage) for storage in storages if storage != self._storage]
            ignored = knowledge.ignored_experiments()

            def find() -> list[FileRecord]:
                of_runs = (file for files in shared for file in files if file.experiment in experiments)
                wanted = (file for file in chain(own, of_runs) if file.experiment not in ignored)
                return _not_intact(self._root, chain(wanted, same))

            found = await anyio.to_thread.run_sync(find)
        # Files that got another version meanwhile do not count.
        holders = [await self._context.catalogue.files.holder(each.target) for each in found]
        return tuple(Damaged(each.target, each.size) for each, now in zip(found, holders, strict=True) if now == each)

    async def _is_intact(self) -> bool:
        """Return whether all files from this storage are here with their sizes, without loading their records."""
        async with self._context.directory_lock.still():
            ignored = self._context.catalogue.knowledge.ignored_experiments()
            sizes = await self._context.catalogue.files.sizes_from(self._storage)
            expected = [(each.target, each.size, each.grows) for each in sizes if each.experiment not in ignored]
            return not await anyio.to_thread.run_sync(not_intact, self._root, expected)


def _not_intact(root: DataRoot, files: Iterable[FileRecord]) -> list[FileRecord]:
    """Return the files whose local file does not have its recorded size; in a worker thread, since they are many.

    In parts: sorting all of them at once would hold the interpreter's lock, and with it the event loop, for a tenth of
    a second.
    """
    found: dict[LocalPath, FileRecord] = {}
    remaining = iter(files)
    while part := {file.target: file for file in islice(remaining, _PART)}:
        expected = [(path, record.size, record.kind in GROWING) for path, record in part.items()]
        found |= {path: part[path] for path in not_intact(root, expected)}
    return list(found.values())


def accepted(context: Context) -> frozenset[LossKind]:
    """Return the kinds of loss that the operator accepts in advance."""
    return frozenset(LossKind(each) for each in context.settings.verdict.accept_loss)


def _places(seen: ScanResult) -> set[str]:
    return {run.place for run in seen.runs} | {each.place for each in seen.evals}
