"""The machines behind the hosts, by the host names that they report; known from the first connection of this process.

On a shared file system the host that shows a run may not be the one that wrote it.
"""

from collections import defaultdict

from msgspec import Struct
from msgspec import field as struct_field

from harvestd.convention.structs import Immutable
from harvestd.inventory.host import Host
from harvestd.remote.api import BoxFacts


class Machine(Immutable):
    """A host, and the facts that its machine reported."""

    host: Host
    facts: BoxFacts


class Machines(Struct):
    """All machines that were connected."""

    _met: dict[str, Machine] = struct_field(default_factory=dict)
    """By the host's identity."""
    _by_hostname: defaultdict[str, dict[str, Machine]] = struct_field(default_factory=lambda: defaultdict(dict))
    """By the host name that the machine reports, and by the host's identity."""

    def met(self, host: Host, facts: BoxFacts) -> None:
        """Record the facts that a host's machine reports now."""
        before = self._met.get(host.identity)
        if before is not None:
            del self._by_hostname[before.facts.hostname][host.identity]
        self._met[host.identity] = self._by_hostname[facts.hostname][host.identity] = Machine(host, facts)

    def writing(self, writer: str | None, shown_by: Host) -> Machine | None:
        """Return the other machine that calls itself `writer`, of a run that `shown_by` shows.

        None if it is that host itself, if it is unknown, or if several machines call themselves so.
        """
        found = self._by_hostname.get(writer, {}) if writer else {}
        if len(found) != 1 or shown_by.identity in found:
            return None
        return next(iter(found.values()))
