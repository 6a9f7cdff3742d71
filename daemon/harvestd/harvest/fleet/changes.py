"""Compares successive inventories, and logs hosts that appeared, disappeared or were replaced, once each.

A name or an endpoint belongs to the last host that had it; a new host may take either. Only the inventory counts here:
whether a host can be reached is up to its supervisor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from harvestd.convention.metadata.models import hardware_of_instance_type
from harvestd.convention.structs import Immutable
from harvestd.inventory.host import Host
from harvestd.remote.ssh.target import Target
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_REMEMBERED = 1_000
"""Names, and endpoints, of hosts that are gone."""

T = TypeVar("T")


class Present(Immutable):
    """A host, and how it is reached."""

    host: Host
    target: Target

    @property
    def place(self) -> tuple[str, int, str]:
        """The endpoint, which no two hosts have at the same time."""
        return self.target.address, self.target.port, self.target.proxy_jump


@dataclass
class HostChanges:
    """Keeps the last inventory, and the last holders of names and endpoints."""

    _told: Mapping[str, Present] = field(default_factory=dict)
    """The last inventory, by identity."""
    _named: dict[str, str] = field(default_factory=dict)
    """The identity that last had each name; the most recent one last."""
    _placed: dict[tuple[str, int, str], str] = field(default_factory=dict)
    """The identity that last had each endpoint, in the same order."""

    def call(self, hosts: Mapping[str, Present]) -> list[Host]:
        """Process all present hosts, by identity; return those that disappeared since the last call."""
        gone = [each.host for identity, each in self._told.items() if identity not in hosts]
        for host in gone:
            get_logger().info(Event.HOST_GONE, host=host.name, address=host.address, source=host.source)
        for identity, each in hosts.items():
            before = self._named.get(each.host.name, identity)
            if before == identity and identity not in self._told:
                _log_appeared(each.host)
            old = before if before != identity else self._left(each, hosts)
            if old is not None:
                _log_replaced(each.host, old)
        for identity, each in hosts.items():
            _hold(self._named, each.host.name, identity)
            holder = hosts.get(self._placed.get(each.place, ""))
            if holder is None or holder.place != each.place:
                _hold(self._placed, each.place, identity)
        most = max(_REMEMBERED, 2 * len(hosts))
        _forget(self._named, most)
        _forget(self._placed, most)
        self._told = hosts
        return gone

    def is_last(self, host: Host) -> bool:
        """Return whether a host that is gone was the last of its name."""
        return self._named.get(host.name) == host.identity and host.identity not in self._told

    def _left(self, new: Present, hosts: Mapping[str, Present]) -> str | None:
        """Return the identity that left its endpoint to a host that is new there."""
        old = self._placed.get(new.place)
        if old is None or old in hosts or (new.host.identity in self._told and old not in self._told):
            return None
        return old


def _hold(held: dict[T, str], key: T, identity: str) -> None:
    held.pop(key, None)
    held[key] = identity


def _forget(held: dict[T, str], most: int) -> None:
    while len(held) > most:
        del held[next(iter(held))]


def _log_appeared(host: Host) -> None:
    get_logger().info(
        Event.HOST_APPEARED,
        host=host.name,
        address=host.address,
        source=host.source,
        hardware=host.hardware or hardware_of_instance_type(host.instance_type or ""),
    )


def _log_replaced(host: Host, old: str) -> None:
    get_logger().info(
        Event.HOST_REPLACED, host=host.name, address=host.address, source=host.source, identity=host.identity, old=old
    )
