"""All hosts at once: one watcher each, as the inventory says. One that fails or leaves disturbs none of the others."""

from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from harvestd.harvest.bell import Bell
from harvestd.harvest.house import House
from harvestd.harvest.watcher import Watcher
from harvestd.inventory.merge import Inventory
from harvestd.inventory.provider import Host
from harvestd.inventory.static import StaticHosts
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger


@dataclass
class Fleet:
    """Follows the inventory: a host that appears is watched, one that leaves is not any more."""

    house: House
    root: DataRoot
    bell: Bell
    _watching: dict[Host, anyio.CancelScope] = field(default_factory=dict)
    _changed: Bell = field(default_factory=Bell)
    _hosts: frozenset[Host] = frozenset()

    async def run(self) -> None:
        """Watch until cancelled; raises what concerns all hosts (`HaltedForSafety`)."""
        self.house.follows = True
        inventory = Inventory([StaticHosts(self.house.settings.hosts)], self._take)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inventory.run)
            while True:
                self._follow(tasks)
                await self._changed.rung()

    def _take(self, hosts: frozenset[Host]) -> None:
        self._hosts = hosts
        self._changed.ring()

    def _follow(self, tasks: TaskGroup) -> None:
        for host in self._watching.keys() - self._hosts:
            self._watching.pop(host).cancel()
        for host in sorted(self._hosts - self._watching.keys(), key=lambda each: each.name):
            get_logger().info(
                Event.HOST_APPEARED, host=host.name, address=host.address, source=host.source, hardware=host.hardware
            )
            scope = anyio.CancelScope()
            self._watching[host] = scope
            tasks.start_soon(self._watch, host, scope)

    async def _watch(self, host: Host, scope: anyio.CancelScope) -> None:
        with scope:
            await Watcher(host, self.house, self.root, self.bell).run()
