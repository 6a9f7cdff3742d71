"""Tracks hosts that may end soon, what of theirs is not here yet, and what was lost once one is gone.

On such a host nothing has to settle, and the most valuable files come first; the planner and `host.loop` implement
that.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct, field

from harvestd.convention.structs import Immutable
from harvestd.inventory.host import Host
from harvestd.inventory.lambda_provider import is_rented
from harvestd.planning.plan import FetchGroup, Follow, Plan
from harvestd.planning.records import NotLoaded
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.planning.index import PlanningIndex

_MOST = 16
"""Remote paths that an event names; the others are counted."""


class Missing(Immutable):
    """A wanted item that is not here."""

    place: str
    """The remote path of a directory or a file."""
    size: int
    """The missing bytes."""
    files: int


class Preemption(Struct):
    """Tracks the hosts of one context."""

    perils: dict[str, str] = field(default_factory=dict)
    """By host name: the provider's state of a host that may end soon."""
    _told: dict[str, str] = field(default_factory=dict)
    """By identity: the hosts whose coming end was logged."""
    _last: dict[str, tuple[Host, Plan]] = field(default_factory=dict)
    """By identity: the plan of the last scan of each present host, connected or not."""

    def saw(self, host: Host, plan: Plan) -> None:
        """Record the plan of a scan."""
        self._last[host.identity] = host, plan

    def take(self, hosts: Iterable[Host], known: "PlanningIndex | None") -> bool:
        """Process the full set of hosts, and log those that may end soon; return whether there are new ones."""
        threatened = [host for host in hosts if host.peril]
        self.perils = {host.name: host.peril for host in threatened}
        fresh = [host for host in threatened if host.identity not in self._told]
        self._told = {host.identity: host.peril for host in threatened}
        for host in fresh:
            get_logger().warning(
                Event.HOST_ENDING, host=host.name, status=host.peril, bytes=self._outstanding(host, known)
            )
        return bool(fresh)

    def _outstanding(self, host: Host, known: "PlanningIndex | None") -> int | None:
        if known is None or host.identity not in self._last:
            return None
        try:
            return sum(each.size for each in self.missing(host, known))
        except NotLoaded:
            return None  # it has been lost for long

    def missing(self, host: Host, known: "PlanningIndex") -> list[Missing]:
        """Return what a host showed last and is not here, by value; nothing if it was never scanned.

        Raise `NotLoaded` if its files are not in memory any more.
        """
        if host.identity not in self._last:
            return []
        seen, plan = self._last[host.identity]
        return missing(plan, seen.storage or seen.identity, known)

    def gone(self, host: Host, known: "PlanningIndex") -> None:
        """Log what was lost with a host that is gone, except for what is on storage that outlives it.

        Raise `NotLoaded` as `missing` does.
        """
        lost = self.missing(host, known)
        seen, _ = self._last.pop(host.identity, (host, None))
        if lost and seen.storage is None and is_rented(host):
            what = [f"{each.place} ({each.size} bytes)" for each in lost[:_MOST]]
            more = [f"{len(lost) - _MOST} more"] if len(lost) > _MOST else []
            get_logger().error(
                Event.HOST_LOST_DATA,
                host=host.name,
                files=sum(each.files for each in lost),
                bytes=sum(each.size for each in lost),
                what=[*what, *more],
            )


def missing(plan: Plan, storage: str, known: "PlanningIndex") -> list[Missing]:
    """Return what a plan wants and is not here now: the plan may be older than the last transfer."""
    found = [_of_group(group, storage, known) for group in plan.groups]
    found += [_of_follow(follow, storage, known) for follow in plan.follows]
    found += [Missing(each.place, each.size, 1) for each in plan.waiting]
    return [each for each in found if each.files]


def _of_group(group: FetchGroup, storage: str, known: "PlanningIndex") -> Missing:
    files = [
        file
        for file in group.files
        if any(
            (record := known.file(storage, file.source.place, target.path)) is None
            or record.version != file.source.version
            for target in file.targets
        )
    ]
    return Missing(group.place, sum(file.source.version.size for file in files), len(files))


def _of_follow(follow: Follow, storage: str, known: "PlanningIndex") -> Missing:
    record = known.file(storage, follow.place, follow.target.path)
    left = max(0, follow.source.version.size - (record.size if record else 0))
    return Missing(follow.place, left, 1 if left or record is None else 0)
