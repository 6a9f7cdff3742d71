"""Hosts that may end soon: which they are, what of theirs is not here yet, and what was lost once one is gone.

On such a host nothing is left to settle and what is worth most comes first; the planner and the session see to that.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct, field

from harvestd.convention.structs import Immutable
from harvestd.inventory.host import Host
from harvestd.inventory.lambda_cloud.provider import is_rented
from harvestd.planning.plan import FetchGroup, Follow, Plan
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.planning.index import Knowledge

_MOST = 16
"""Places that an event names; the others are counted."""


class Missing(Immutable):
    """Something wanted that is not here."""

    place: str
    """On the box: a directory, or a file."""
    size: int
    """Bytes that are missing of it."""
    files: int


class Rescue(Struct):
    """Follows the hosts of one house."""

    perils: dict[str, str] = field(default_factory=dict)
    """By name: what its provider calls the state of a host that may end soon."""
    _told: dict[str, str] = field(default_factory=dict)
    """By identity: those whose peril was told."""
    _last: dict[str, tuple[Host, Plan]] = field(default_factory=dict)
    """By identity: what the last look at each host that there is came to, connected or not."""

    def saw(self, host: Host, plan: Plan) -> None:
        """Note what a look came to."""
        self._last[host.identity] = host, plan

    def take(self, hosts: Iterable[Host], known: "Knowledge | None") -> bool:
        """Take the full set of hosts, and tell which are in peril since the last one; tells whether there are such."""
        threatened = [host for host in hosts if host.peril]
        self.perils = {host.name: host.peril for host in threatened}
        fresh = [host for host in threatened if host.identity not in self._told]
        self._told = {host.identity: host.peril for host in threatened}
        for host in fresh:
            get_logger().warning(
                Event.HOST_ENDING, host=host.name, status=host.peril, bytes=self._outstanding(host, known)
            )
        return bool(fresh)

    def _outstanding(self, host: Host, known: "Knowledge | None") -> int | None:
        if known is None or host.identity not in self._last:
            return None
        return sum(each.size for each in self.missing(host, known))

    def missing(self, host: Host, known: "Knowledge") -> list[Missing]:
        """Return what a host showed last and is not here, by value; nothing where it was never looked at."""
        if host.identity not in self._last:
            return []
        seen, plan = self._last[host.identity]
        return missing(plan, seen.storage or seen.identity, known)

    def gone(self, host: Host, known: "Knowledge") -> None:
        """Tell what was lost with a host that there is no more. What lies on storage that outlives it is not."""
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


def missing(plan: Plan, storage: str, known: "Knowledge") -> list[Missing]:
    """Return what a plan wanted and is not here now: its plan may be older than the last of what it brought."""
    found = [_of_group(group, storage, known) for group in plan.groups]
    found += [_of_follow(follow, storage, known) for follow in plan.follows]
    found += [Missing(each.place, each.size, 1) for each in plan.waiting]
    return [each for each in found if each.files]


def _of_group(group: FetchGroup, storage: str, known: "Knowledge") -> Missing:
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


def _of_follow(follow: Follow, storage: str, known: "Knowledge") -> Missing:
    record = known.file(storage, follow.place, follow.target.path)
    left = max(0, follow.source.version.size - (record.size if record else 0))
    return Missing(follow.place, left, 1 if left or record is None else 0)
