"""Gathering what a verdict on one connected host rests on: the cheap part after each look, all of it when it matters.

Everything is asked in an order in which nothing can slip through: first who works on the box, then what stands at home,
and the whole look last of all.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final

import anyio.to_thread
from msgspec.structs import replace

from harvestd.convention.kinds import GROWING, LossKind
from harvestd.convention.rules import waived_places
from harvestd.convention.scan.links import leads_elsewhere, links_out
from harvestd.convention.scan.model import RunDir, Survey, SymbolicLink
from harvestd.convention.scan.snapshot import Snapshot, TreeState
from harvestd.harvest.context import House
from harvestd.harvest.host.observer import Looking
from harvestd.inventory.host import Host
from harvestd.planning.liveness import Life
from harvestd.planning.plan import Plan
from harvestd.planning.records import FileRecord
from harvestd.remote.api import Box
from harvestd.safety.accounting import not_here, storages_of
from harvestd.safety.filesystems import renumbered, renumbered_roots
from harvestd.safety.inputs import Damaged, Evidence, Look, RunState, run_state
from harvestd.safety.losses import link_losses, losses_of
from harvestd.store.root import DataRoot
from harvestd.store.verify.sizes import not_intact

_LATELY: Final = timedelta(days=1)
"""Files outside the roots that changed in this time are a loss; `verdict.idle_for` where that is longer."""

Looked = Callable[[], Awaitable[Plan]]
"""Makes a whole look, as the host's own task makes its looks."""


class Gathering:
    """Gathers for one connected host; made anew for each connection, as its `Looking` is."""

    def __init__(self, host: Host, house: House, root: DataRoot, box: Box, looking: Looking) -> None:
        self._host = host
        self._house = house
        self._root = root
        self._box = box
        self._looking = looking
        self._storage = house.storage_of(host)
        self._devices: dict[str, int] | None = None
        self._root_devices: Mapping[str, int] = {}
        """By root: the device that it was on when the host was asked last."""

    async def cheap(self, plan: Plan, transfers: int) -> Evidence:
        """Return what the last look alone tells; nothing can be safe by that."""
        seen, snapshot = self._last()
        await self._note_devices(seen, snapshot, {})
        return self._evidence(plan, transfers, self._looking.known_life, hoping=0.0)

    async def whole(self, look: Looked, transfers: Callable[[], int]) -> Evidence:
        """Return everything, as of now. Raises `Retry` and `HostQuarantined` as a look does."""
        house = self._house
        await house.attending.take()
        rules = house.settings.verdict
        circumstances = await self._box.circumstances(max(_LATELY, rules.idle_for))
        circumstances = circumstances.without(rules.ignore_programs)
        self._root_devices = circumstances.devices
        life = await self._looking.life()
        damaged = await self._damaged()
        # Where links lead may take long to find out, and the look is to be the newest of all.
        before = self._links()
        targets = await self._box.link_targets(before) if before else {}
        await look()
        seen, snapshot = self._last()
        links = self._links()
        new = [link for link in links if link not in before]
        targets = {**targets, **(await self._box.link_targets(new) if new else {})}
        self._devices = None  # a person may have had them forgotten
        await self._note_devices(seen, snapshot, circumstances.devices)
        plan, knowledge = self._looking.alone(), house.catalogue.knowledge
        return replace(
            self._evidence(plan, transfers(), life, hoping=None),
            look=self._look(plan, snapshot, whole=True),
            circumstances=circumstances,
            damaged=damaged,
            not_here=not_here(seen, plan, self._storage, knowledge),
            losses=(
                *losses_of(seen, plan, self._storage, knowledge, house.selection.datasets),
                *link_losses(links, targets),
            ),
        )

    def _links(self) -> Sequence[SymbolicLink]:
        """Return the links that lead out of the trees, as the last look shows them."""
        seen, snapshot = self._last()
        return links_out(seen, snapshot.listings)

    def _last(self) -> tuple[Survey, Snapshot]:
        seen, snapshot = self._looking.seen, self._looking.snapshot
        if seen is None or snapshot is None:
            raise RuntimeError("nothing was looked at yet")
        return seen, snapshot

    def _look(self, plan: Plan, snapshot: Snapshot, *, whole: bool) -> Look:
        # Since its end: a scan that takes minutes on a slow file system would otherwise never be fresh.
        age = max(0.0, time.monotonic() - self._looking.scanned - self._looking.scan_took)
        waived = waived_places(snapshot.listings, self._house.selection)
        return Look(snapshot.listings, plan, age, whole=whole, rejected=snapshot.rejected, waived=waived)

    def _evidence(self, plan: Plan, transfers: int, life: Life, *, hoping: float | None) -> Evidence:
        """Return what the last look and what we know tell; `hoping`: see `_state`."""
        seen, snapshot = self._last()
        settings = self._house.settings
        runs = [(run, self._state(run, life, hoping)) for run in seen.runs if run.config is not None]
        through = self._through(seen, snapshot)
        others = [run for run, state in runs if state.elsewhere] if through else []
        return Evidence(
            connected=True,
            look=self._look(plan, snapshot, whole=False),
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
            accepted=accepted(self._house),
        )

    def _state(self, run: RunDir, life: Life, hoping: float | None) -> RunState:
        """Return how a run stands; `hoping`: when one will have ended of which only its processes could tell."""
        record = self._house.catalogue.knowledge.run_at(self._storage, run.place)
        state = run_state(run, record, self._host.name, life, self._looking.sightings, time.monotonic(), hoping)
        writer = self._house.machines.writing(run.writer, self._host)
        return replace(state, elsewhere=writer is not None and self._house.storage_of(writer.host) == self._storage)

    def _failing(self) -> dict[str, str]:
        troubles, lasting = self._looking.troubles, self._looking.troubles.lasting()
        return {place: found.reason for place, found in troubles.all().items() if place in lasting}

    def _was_seen(self, seen: Survey, states: list[RunState]) -> bool:
        """Return whether any run or eval was ever seen on this host that is not surely another's."""
        if seen.evals or any(not state.elsewhere for state in states):
            return True
        known, name = self._house.catalogue.knowledge, self._host.name
        if any(run.storage == self._storage and run.is_of(name, self._host.identity) for run in known.runs()):
            return True
        return any(file.host == name for file in known.files_from(self._storage))

    def _quiet(self, others: list[RunDir]) -> float:
        """Return the seconds for which nothing has moved, but for what other machines write on the same storage."""
        stillness = self._looking.stillness
        if not others:
            return stillness.quiet
        return min(stillness.watched, time.monotonic() - self._still_since(others))

    def _still_since(self, others: list[RunDir]) -> float:
        """Return the moment from which `_quiet` counts: monotonic seconds."""
        stillness = self._looking.stillness
        if not others:
            return stillness.since
        without = [(run.tree, run.path) for run in others]
        return max(stillness.began, self._looking.sightings.unchanged_since(time.monotonic(), without))

    def _through(self, seen: Survey, snapshot: Snapshot) -> str | None:
        """Return another connected host that shows all of this on the same storage, which outlives both.

        What no run and no eval proves to be shown there is not, nor is a tree that leads to another device than its
        root's: a link may lead from the storage to a disk of the host's own.
        """
        storage, house = self._host.storage, self._house
        own = _places(seen)
        if storage is None or not own or leads_elsewhere(snapshot.listings, self._root_devices):
            return None
        for identity, outlook in sorted(house.outlooks.items()):
            other = outlook.host
            connected = identity in house.boxes.get(storage, {}) and other.name not in house.ending
            fresh = outlook.is_fresh(time.monotonic(), house.settings.poll.interval.total_seconds())
            if identity != self._host.identity and connected and fresh and own <= _places(outlook.seen):
                return other.name
        return None

    async def _note_devices(self, seen: Survey, snapshot: Snapshot, roots: Mapping[str, int]) -> None:
        """Keep on which device each tree was when something was first seen in it, and each root."""
        devices = self._house.catalogue.devices
        if self._devices is None:
            self._devices = await devices.of(self._host.identity)
        full = {run.tree for run in seen.runs} | {each.tree for each in seen.evals}
        shown = [each for each in snapshot.listings if each.state is TreeState.PRESENT and each.tree in full]
        found = {str(each.tree): each.device for each in shown}
        found |= {each.tree.root: roots[each.tree.root] for each in shown if each.tree.root in roots}
        if any(self._devices.get(place, device) != device for place, device in found.items()):
            self._devices = await devices.of(self._host.identity)  # a person may have confirmed what is there now
        known = self._devices
        new = {place: device for place, device in found.items() if device and place not in known}
        new |= renumbered_roots(known, snapshot.listings, roots)
        await self._save_devices(new)

    async def recognise(self) -> None:
        """Note new numbers of devices whose files prove the same file system; before anything of the scan is read.

        What is read from another file system is on record afterwards as it is there, and would prove nothing.
        """
        _, snapshot = self._last()
        if self._devices is None:
            self._devices = await self._house.catalogue.devices.of(self._host.identity)
        files = self._house.catalogue.knowledge.files_from(self._storage)
        await self._save_devices(renumbered(self._devices, snapshot.listings, files))

    async def _save_devices(self, new: Mapping[str, int]) -> None:
        if new:
            self._devices = {**(self._devices or {}), **new}
            await self._house.catalogue.devices.save(self._host.identity, self._devices)

    async def _damaged(self) -> tuple[Damaged, ...]:
        """Return what came from this host, by whichever storage, and does not stand at home as it is on record."""
        seen, _ = self._last()
        knowledge = self._house.catalogue.knowledge
        storages = storages_of(seen, self._storage, knowledge)
        mine = (knowledge.run_at(self._storage, run.place) for run in seen.runs)
        experiments = {run.experiment for run in mine if run is not None}
        async with self._house.places.still():
            records = {
                record.target: record
                for storage in storages
                for record in knowledge.files_from(storage)
                if (storage == self._storage or record.experiment in experiments) and not self._is_ignored(record)
            }
            # What is here by another host's files only, as they have the same content.
            records |= {record.target: record for record in knowledge.same_from(self._storage)}
            expected = [(path, record.size, record.kind in GROWING) for path, record in records.items()]
            found = await anyio.to_thread.run_sync(not_intact, self._root, expected)
        # What got another version meanwhile is no matter.
        return tuple(Damaged(path, records[path].size) for path in found if knowledge.holder(path) == records[path])

    def _is_ignored(self, record: FileRecord) -> bool:
        return self._house.catalogue.knowledge.ignored_in(record.experiment) is not None


def accepted(house: House) -> frozenset[LossKind]:
    """Return the losses that the operator accepts beforehand."""
    return frozenset(LossKind(each) for each in house.settings.verdict.accept_loss)


def _places(seen: Survey) -> set[str]:
    return {run.place for run in seen.runs} | {each.place for each in seen.evals}
