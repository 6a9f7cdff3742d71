"""Collects the plan of one host, directory by directory, and notes what the part of each directory depends on."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from harvestd.convention.kinds import Value
from harvestd.convention.scan.completeness import FORMED, INDEX, is_final, unsealed
from harvestd.convention.scan.model import EvalDir, Group, LeftOut, RunDir, Wanted
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.structs import Immutable
from harvestd.planning.destinations import Destination
from harvestd.planning.diff import Targets
from harvestd.planning.host_plan.situation import RequestCounts, Situation, by_hand
from harvestd.planning.left_behind import hindered, rest
from harvestd.planning.plan import FetchFile, FetchGroup, Follow, Link, Plan, Removal, Target, UpdateReason, Waiting
from harvestd.planning.records import FileRecord
from harvestd.planning.requests import Request

Places = Sequence[tuple[Destination, tuple[str, ...]]]
"""The local directories of a group, each with the components between it and the group's files."""


class Consulted(Mapping[str, Collection[str]]):
    """What other hosts show, by storage; notes whether it was looked up."""

    def __init__(self, connected_storages: Mapping[str, Collection[str]]) -> None:
        self._connected_storages = connected_storages
        self.was_consulted = False

    def __getitem__(self, storage: str) -> Collection[str]:
        self.was_consulted = True
        return self._connected_storages[storage]

    def __iter__(self) -> Iterator[str]:
        self.was_consulted = True
        return iter(self._connected_storages)

    def __len__(self) -> int:
        self.was_consulted = True
        return len(self._connected_storages)


class QuietPart(Immutable):
    """The part of a directory in which nothing is to be done or waited for: only what is left out there."""

    left_out: tuple[tuple[str | None, tuple[LeftOut, ...]], ...]
    """By experiment."""
    ignored: tuple[str, ...]
    due: float
    """When time alone may change it, in monotonic seconds; infinite: never."""
    uses_liveness: bool
    """Whether it depends on `Situation.liveness`."""


class Draft:
    """The plan of one host while it is made. A local path is claimed only once, by the first directory."""

    def __init__(self, situation: Situation) -> None:
        self.now = situation
        self.connected_storages = Consulted(situation.connected_storages)
        self.targets = Targets(
            situation.host, situation.storage, situation.knowledge, situation.refused, self.connected_storages
        )
        self.counts = RequestCounts(situation.knowledge.open_requests())
        self.uses_liveness = False
        """Whether the part of the present directory depends on `Situation.liveness`."""
        self._due = math.inf
        self._needs_liveness = False
        self._groups: list[FetchGroup] = []
        self._follows: list[Follow] = []
        self._links: list[Link] = []
        self._removals: list[Removal] = []
        self._remarks: list[UpdateReason] = []
        self._waiting: list[Waiting] = []
        self._ignored: list[str] = []
        self._left_out: dict[str | None, list[LeftOut]] = {}
        self._hindered = 0
        """Directories that something local blocks completely."""
        self._began = (0, 0)

    def begin(self) -> None:
        """Begin the part of a directory."""
        self.connected_storages.was_consulted = self.uses_liveness = False
        self._due = math.inf
        self._began = self._work(), len(self._ignored)

    def end(self) -> QuietPart | None:
        """End the part of a directory; return it if later plans may use it until one of its inputs changes."""
        left_out = tuple((experiment, tuple(found)) for experiment, found in self.targets.left_out.items() if found)
        self.targets.left_out.clear()
        work, ignored = self._began
        part = QuietPart(left_out, tuple(self._ignored[ignored:]), self._due, self.uses_liveness)
        self._add_left_out(part)
        return None if self._work() != work or self.connected_storages.was_consulted else part

    def reuse(self, part: QuietPart) -> None:
        """Add the part of a directory from an earlier plan."""
        self._ignored += part.ignored
        self._add_left_out(part)

    def _add_left_out(self, part: QuietPart) -> None:
        for experiment, found in part.left_out:
            self._left_out.setdefault(experiment, []).extend(found)

    def _work(self) -> int:
        """Return how much was planned that has to be planned again at the next scan, whatever changed."""
        lists = (self._groups, self._follows, self._links, self._removals, self._remarks, self._waiting)
        compared = len(self.targets.checks) + len(self.targets.refiles) + len(self.targets.refusals)
        return sum([len(each) for each in lists]) + compared + self.counts.shown + self._hindered + self._needs_liveness

    def collected(self, strangers: Sequence[LeftOut]) -> Plan:
        """Return the plan; `strangers`: what belongs to no run or eval."""
        left_out = {experiment: tuple(found) for experiment, found in self._left_out.items()}
        if strangers:
            left_out[None] = (*left_out.get(None, ()), *strangers)
        return Plan(
            groups=tuple(sorted(self._groups, key=self.now.order)),
            follows=tuple(sorted(self._follows, key=lambda follow: (follow.value, follow.place))),
            checks=tuple(self.targets.checks),
            refiles=tuple(self.targets.refiles),
            links=tuple(self._links),
            removals=tuple(self._removals),
            remarks=tuple(self._remarks),
            waiting=tuple(self._waiting),
            left_out=left_out,
            ignored=tuple(self._ignored),
            request_states=self.counts.collected(),
            needs_liveness=self._needs_liveness,
        )

    def due_in(self, seconds: float) -> None:
        """Note that time alone may change the part of the present directory after `seconds`."""
        self._due = min(self._due, self.now.now + seconds)

    def require_liveness(self) -> None:
        """Note that the plan depends on processes that must be queried."""
        self._needs_liveness = True

    def wait(self, waiting: Waiting) -> None:
        """Add something that can't be fetched yet."""
        self._waiting.append(waiting)

    def link(self, link: Link) -> None:
        """Add a local link to make."""
        self._links.append(link)

    def change_reasons(self, remarks: Iterable[UpdateReason]) -> None:
        """Add local files whose recorded reason must change."""
        self._remarks += remarks

    def remove(self, removals: Iterable[Removal]) -> None:
        """Add superseded local checkpoints, except those of which a file could not be published."""
        for removal in removals:
            if not any((file.place, file.target) in self.now.refused for file in removal.files):
                self._removals.append(removal)

    def leave_out(self, experiment: str | None, entries: Iterable[LeftOut]) -> None:
        """Add what is not fetched; `experiment` is the one whose manifest lists it."""
        self.targets.leave_out(experiment, entries)

    def hinder(self, directory: RunDir | EvalDir, experiment: str | None, reason: str) -> None:
        """Leave out a whole directory that something local blocks."""
        self._hindered += 1
        self.leave_out(experiment, [hindered(directory, reason)])

    def ignore(self, directory: RunDir | EvalDir, experiment: str | None, request: Request) -> None:
        """Leave out the rest of a directory as a person requested; files that are already local are not counted."""
        self._ignored.append(directory.place)
        self.leave_out(experiment, [rest(directory, request.reason, self.now.storage, self.now.knowledge)])

    def plan_requested(self, group: Group, requests: Sequence[Request], places: Places) -> None:
        """Plan a group that only a request wants; the reason is that of the first of the requests (at least one)."""
        coming = self.plan_group(by_hand(group, requests[0]), places, not_before=Value.BY_HAND)
        self.count(group, requests, coming)

    def count(self, group: Group, requests: Iterable[Request], coming: int) -> None:
        """Count a group, of which `coming` files are still to be fetched, for the requests that want it."""
        refusals = self.targets.refusals
        for request in requests:
            refused = [refusals[each.source.place] for each in group.members if each.source.place in refusals]
            self.counts.count(request, group, coming, refused)

    def plan_group(self, group: Group, places: Places, *, not_before: Value = Value.CONFIG) -> int:
        """Plan a group; return the number of its files that are not local yet and can be fetched."""
        all_targets = self._targets(group, places)
        if all_targets is None:
            self.wait(Waiting(group.place, group.size, "its place is taken: it is compared with what is here", None))
            return len(group.members)
        files: list[FetchFile] = []
        now = self.now
        final: bool | None = None
        for member, found in zip(group.members, all_targets, strict=True):
            targets = tuple([target for target in found if target is not None])
            if targets:
                marker, beside = group.marker is member.source, self._beside(group, member)
                formed = not marker and member.rest[-1].endswith(FORMED)
                if formed and final is None:
                    final = is_final(group, now.sightings, now.settle, now.now)
                as_is = formed and bool(final)
                files.append(FetchFile(member.source, member.kind, targets, member.reason, marker, beside, as_is))
        if not files:
            return 0
        needed = FetchGroup(group.place, tuple(files), not_before)
        why = unsealed(group, now.sightings, now.settle, now.now)
        if why is None:
            self._groups.append(needed)
        else:
            self.wait(Waiting(group.place, needed.size, why.reason, why.seconds))
        return len(files)

    def _targets(self, group: Group, places: Places) -> Sequence[Sequence[Target | None]] | None:
        """Return the targets for each member of a group, by local directory; None while its files are compared."""
        here = [self.targets.here(group, destination, between) for destination, between in places]
        if None not in here:
            known = [
                (destination, records)
                for (destination, _), records in zip(places, here, strict=True)
                if records is not None
            ]
            changed = self.targets.changed
            return [
                [changed(member.source, records[number], destination) for destination, records in known]
                for number, member in enumerate(group.members)
            ]
        settled = self._settled(group, places)
        if settled is None:
            return None
        return [
            [self.targets.sealed(member, destination, between + member.rest) for destination, between in destinations]
            for member, destinations in zip(group.members, settled, strict=True)
        ]

    def _settled(self, group: Group, places: Places) -> Sequence[Places] | None:
        """Return the directories for each member of a group; None while its files are compared."""
        is_joint = any(destination.is_joint for destination, _ in places)
        units = [Group.single(member) for member in group.members] if is_joint else [group]
        settled: list[Places] = []
        for unit in units:
            found = [
                (self.targets.destination_for(unit, destination, between), between) for destination, between in places
            ]
            settled.append([(destination, between) for destination, between in found if destination is not None])
        if any(len(found) < len(places) for found in settled):
            return None
        return settled if is_joint else settled * len(group.members)

    def _beside(self, group: Group, member: Wanted) -> frozenset[str] | None:
        """Return the names for checking an index; None if the operator's patterns may exclude some of them."""
        if not group.needs_marker or not member.rest[-1].endswith(INDEX) or self.now.selection.exclude:
            return None
        above = member.rest[:-1]
        return frozenset(each.rest[-1] for each in group.members if each.rest[:-1] == above)

    def plan_follow(self, wanted: Wanted, destination: Destination, *, finished: bool) -> None:
        """Plan a growing file; `finished`: whether its writer is done."""
        target = self.targets.growing(wanted, destination)
        if target is None:
            return
        now, source, here = self.now, wanted.source, target.replaces
        lag = now.sightings.lag(source, now.now) if here is not None else 0.0
        if here is not None and lag > 0 and _is_older(source.version, here):
            self.wait(Waiting(source.place, 0, "this box may show an older state of it", lag))
            return
        done = finished or now.is_ending
        left = now.sightings.settle(source.tree, now.settle) - now.sightings.age(source, now.now)
        whole = done and left <= 0
        torn = here is not None and here.size < source.version.size
        if here is None or here.version != source.version or (whole and torn):
            self._follows.append(Follow(source, wanted.kind, target, wanted.reason, whole))
        elif done and torn:
            self.due_in(left)


def _is_older(shown: Version, here: FileRecord) -> bool:
    """Return whether a growing file is shown in an older state than the local copy; one that was restarted is not.

    If change times are unknown, as on FUSE, modification times decide: appending sets both.
    """
    changed = shown.ctime_ns or shown.mtime_ns
    last = here.version.ctime_ns or here.version.mtime_ns
    return shown.size < here.size and changed > 0 and (changed <= last or not last)
