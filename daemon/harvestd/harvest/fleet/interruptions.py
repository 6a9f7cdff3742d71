"""Interruptions: hosts that the cloud is about to take back, and suspends of this machine.

Tracks hosts that may end soon, what of theirs is not here yet, and what was lost once one is gone. On such a host
nothing has to settle, and the most valuable files come first; the planner and `host.loop` implement that.

Detects suspends of the workstation: on wake-up all links count as dead, without waiting for proof. CLOCK_BOOTTIME
advances while the machine is suspended; CLOCK_MONOTONIC, which all deadlines here use, does not. Their difference is
the time suspended, whatever is done to the time of day.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct, field

from harvestd.convention.structs import Immutable
from harvestd.inventory.host import Host
from harvestd.inventory.lambda_provider import is_rented
from harvestd.planning.plan import FetchGroup, Follow, Plan
from harvestd.planning.records import NotLoaded
from harvestd.remote.ssh.connection import Connection
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.planning.index import PlanningIndex

_MOST = 16
"""Remote paths that an event names; the others are counted."""
_REMEMBERED = 1_000
"""Hosts that are gone and whose losses are kept."""


class Missing(Immutable):
    """A wanted item that is not here."""

    place: str
    """The remote path of a directory or a file."""
    size: int
    """The missing bytes."""
    files: int


class LostData(Immutable):
    """What was wanted and not here when its host was gone."""

    host: str
    files: int
    bytes: int
    what: tuple[str, ...]
    """Remote paths with their sizes, the most valuable first."""


class Preemption(Struct):
    """Tracks the hosts of one context."""

    ending_hosts: dict[str, str] = field(default_factory=dict)
    """By host name: the provider's state of a host that may end soon."""
    _logged: dict[str, str] = field(default_factory=dict)
    """By identity: the hosts whose coming end was logged."""
    _last: dict[str, tuple[Host, Plan]] = field(default_factory=dict)
    """By identity: the plan of the last scan of each present host, connected or not."""
    lost: dict[str, LostData] = field(default_factory=dict)
    """By identity: what was lost with hosts that are gone, the latest ones."""

    def record_scan(self, host: Host, plan: Plan) -> None:
        """Record the plan of a scan."""
        self._last[host.identity] = host, plan

    def take(self, hosts: Iterable[Host], known: "PlanningIndex | None") -> bool:
        """Process the full set of hosts, and log those that may end soon; return whether there are new ones."""
        threatened = [host for host in hosts if host.peril]
        self.ending_hosts = {host.name: host.peril for host in threatened}
        fresh = [host for host in threatened if host.identity not in self._logged]
        self._logged = {host.identity: host.peril for host in threatened}
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
            files, size = sum(each.files for each in lost), sum(each.size for each in lost)
            self.lost[host.identity] = LostData(host.name, files, size, (*what, *more))
            while len(self.lost) > _REMEMBERED:
                del self.lost[next(iter(self.lost))]
            get_logger().error(Event.HOST_LOST_DATA, host=host.name, files=files, bytes=size, what=[*what, *more])


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


CHECK_EVERY = 1.0
"""Seconds between two readings of the clocks; also the shortest suspend that counts."""


def slept() -> float:
    """Return the seconds that this machine was suspended since it was started."""
    # A delay between the two readings makes one result too large, but not three in a row.
    return min(_distance() for _ in range(3))


def _distance() -> float:
    awake = time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - awake


class SuspendDetector(Struct):
    """Interrupts all tasks that rely on a link when the workstation was suspended."""

    clock: Callable[[], float] = field(default_factory=lambda: slept)
    """Returns the seconds suspended, which never decrease."""
    _scopes: set[anyio.CancelScope] = field(default_factory=set)
    _connections: set[Connection] = field(default_factory=set)

    async def run(self) -> None:
        """Read the clocks until cancelled."""
        before = self.clock()
        while True:
            await anyio.sleep(CHECK_EVERY)
            now = self.clock()
            if now - before >= CHECK_EVERY:
                get_logger().info(Event.SERVICE_WOKE, seconds=round(now - before, 1))
                self._interrupt()
            before = now

    def _interrupt(self) -> None:
        # First the sockets: on a dead link, a regular close would wait for the other side.
        for connection in tuple(self._connections):
            connection.abort()
        for scope in tuple(self._scopes):
            scope.cancel()

    @contextmanager
    def until_woken(self) -> Iterator[anyio.CancelScope]:
        """Provide a scope for the body, which is cancelled when the workstation wakes."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    @contextmanager
    def ending(self, connection: Connection) -> Iterator[None]:
        """Abort a connection, without a regular close, when the workstation wakes during the body."""
        self._connections.add(connection)
        try:
            yield
        finally:
            self._connections.discard(connection)
