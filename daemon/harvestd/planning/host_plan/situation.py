"""The inputs of a plan besides the scan: the records, the rules, and what is known of the host now. Values."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import field
from msgspec.structs import replace

from harvestd.convention.paths import LocalPath
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.model import Group, LeftOut, OnRequest
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.scan.stability import NO_TIME, StabilityTracker
from harvestd.convention.structs import Immutable
from harvestd.planning import retention
from harvestd.planning.index import PlanningIndex
from harvestd.planning.plan import FetchGroup, RequestState
from harvestd.planning.requests import Request
from harvestd.planning.run_status import Liveness


class Situation(Immutable):
    """The inputs of a plan besides the survey."""

    host: str
    storage: str
    knowledge: PlanningIndex
    selection: Selection
    sightings: StabilityTracker
    settle: float
    """Seconds of quiet after which a group without a marker is complete; `NO_TIME`: the host may end at any moment."""
    now: float
    """Monotonic seconds on our clock."""
    connected_storages: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By the storage of each other connected host: the absolute paths of the evals that it shows."""
    undecided: Mapping[str, str] = field(default_factory=dict)
    """By the absolute path of a run or eval whose identity is not decided yet: the reason."""
    refused: Mapping[tuple[str, LocalPath], tuple[Version, str]] = field(default_factory=dict)
    """By (remote path, target): the version that could not be published, and why."""
    liveness: Liveness = field(default_factory=Liveness)
    """Facts for deciding whether a run has died."""
    failing: Collection[str] = ()
    """The remote paths of groups that failed repeatedly."""

    @property
    def is_ending(self) -> bool:
        """Whether the host may end at any moment, so that files not fetched now may be lost."""
        return self.settle == NO_TIME

    @property
    def checkpoint(self) -> CheckpointPolicy:
        """The policy for wanted checkpoints; on an ending host the newest substitutes for the final one."""
        policy = self.selection.checkpoint
        return CheckpointPolicy.FINAL_AND_LATEST if self.is_ending and policy is CheckpointPolicy.FINAL else policy

    def order(self, group: FetchGroup) -> tuple[float | str, ...]:
        """Return the sort key of a group: its value; on an ending host, then smaller groups of the same value first."""
        if not self.is_ending:
            return group.value, group.place
        return group.value, retention.is_passing(group.files[0].reason), group.size, group.place


class RequestCounts:
    """Counts files for each requested thing that is not settled."""

    def __init__(self, requests: Iterable[Request]) -> None:
        """Start from the open requests, for runs on any host."""
        wanted = {(each.run, each.thing) for each in requests if each.thing}
        self._found = {key: RequestState(*key) for key in sorted(wanted)}
        self.shown = 0
        """How often anything was recorded."""

    def show(self, request: Request, *, refused: Collection[str] = ()) -> None:
        """Record that the host shows the run or an eval of it; `refused`: reasons why files will never be local."""
        key = (request.run, request.thing)
        if key in self._found:
            self.shown += 1
            found = self._found[key]
            self._found[key] = replace(found, shown=True, refused=(*found.refused, *refused))

    def count(self, request: Request, group: Group, outstanding: int, refused: Collection[str]) -> None:
        """Record how many files of a group that belongs to a request are still outstanding."""
        self.show(request, refused=refused)
        key = (request.run, request.thing)
        if key in self._found:
            found = self._found[key]
            self._found[key] = replace(
                found,
                files=found.files + len(group.members),
                outstanding=found.outstanding + outstanding,
                size=found.size + group.size,
            )

    def collected(self) -> tuple[RequestState, ...]:
        """Return the status of all; those of runs that the host does not show are marked as not shown."""
        return tuple(self._found.values())


def by_hand(group: Group, request: Request) -> Group:
    """Return a group with a request as the reason for fetching it."""
    return replace(group, members=tuple(replace(member, reason=request.reason) for member in group.members))


def still_left_out(lines: Iterable[LeftOut], taken: Iterable[OnRequest]) -> list[LeftOut]:
    """Return the lines that remain left out when `taken` is fetched; a line that covers more keeps its remainder."""
    rest = list(lines)
    at: dict[str, list[int]] = {}
    for i, line in enumerate(rest):
        at.setdefault(line.place, []).append(i)
    for each in taken:
        above = (i for place in _self_and_parents(each.group.place) for i in at.get(place, ()))
        counted = min((i for i in above if rest[i].reason.startswith(each.reason)), default=None)
        if counted is not None:
            rest[counted] = _without(rest[counted], each.group)
    return [line for line in rest if line.entries > 0]


def _self_and_parents(place: str) -> Iterator[str]:
    while place:
        yield place
        place = place.rpartition("/")[0]


def _without(line: LeftOut, group: Group) -> LeftOut:
    size = None if line.size is None else max(0, line.size - group.size)
    return LeftOut(line.place, size, line.entries - len(group.members), line.reason)
