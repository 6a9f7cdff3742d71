"""The provider of hosts of a Lambda Cloud account: one poll for the whole process.

A failure keeps the last good set.

`lambda_api` sends the requests and keeps the key secret; `KnownInstances` decides when an instance is gone.

The known instances, updated answer by answer. Pure: the same answers give the same set. An answer adds and changes
instances at once. An instance is removed only after several answers in a row without it, since a failing cloud
returns incomplete lists, and a host that is given up too early is not read any more. Fields that an answer omits keep
their last value.
"""

import ipaddress
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from harvestd.bulkhead import backoff_span
from harvestd.errors import Retry
from harvestd.inventory.host import Host, Publish
from harvestd.inventory.lambda_api import (
    MOST_INSTANCES,
    Instance,
    InstanceList,
    Unanswered,
    client_of,
    instances_of,
    is_local,
)
from harvestd.settings import LambdaCloud
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    import httpx

AGREEING = 3
"""Answers in a row without an instance, after which it is gone."""
AGREEING_EMPTY = 10
"""Answers in a row without any instance, after which all are gone."""
MOST_KNOWN = 2 * MOST_INSTANCES
"""An upper bound, for a cloud that lists other instances each time."""


class KnownInstances:
    """Processes answers in their order."""

    def __init__(self) -> None:
        self._instances: dict[str, Instance] = {}
        self._absent: dict[str, int] = {}
        """How many answers in a row have omitted an instance."""
        self._empty = 0

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances that are assumed to exist."""
        return tuple(self._instances.values())

    def take(self, answer: InstanceList) -> str:
        """Process the next answer; return why it does not count as evidence of absence, "" where it counts."""
        named = {each.id: each for each in answer.instances}
        for key, new in named.items():
            if key in self._instances or len(self._instances) < MOST_KNOWN:
                self._instances[key] = _completed(new, self._instances.get(key))
        self._absent = {key: count for key, count in self._absent.items() if key not in named}
        if not answer.whole:
            return "a part of it can't be read"
        if not named and self._instances:
            self._empty += 1
            if self._empty < AGREEING_EMPTY:
                return "it is empty all at once, which is not believed before it was repeated"
            self._instances, self._absent = {}, {}
        self._empty = 0
        for key in set(self._instances) - set(named):
            self._absent[key] = self._absent.get(key, 0) + 1
            if self._absent[key] >= AGREEING:
                del self._instances[key], self._absent[key]
        return ""


def _completed(new: Instance, old: Instance | None) -> Instance:
    if old is None:
        return new
    unknown = {name: getattr(old, name) for name in new.__struct_fields__ if getattr(new, name) is None}
    return replace(new, **unknown)


_UNHEALTHY = "unhealthy"
"""The state of an instance that may end, and may recover."""
_LONGEST_PAUSE = timedelta(minutes=10)
"""Between two requests while the cloud fails, unless the interval or the cloud's Retry-After is longer."""
_LONGEST_WAIT = timedelta(hours=1)
"""The longest Retry-After that is honoured."""


class Doubtful(Unanswered):
    """Its additions were applied, but it does not count as evidence of absence: continue at the normal interval."""


class LambdaCloudHosts:
    """The provider of an account's hosts; `replace` follows a reload. Where it is not enabled there are none."""

    name = "lambda_cloud"

    def __init__(self, settings: LambdaCloud, env: Mapping[str, str] | None = None) -> None:
        """Store the settings. `env` replaces the process's environment, which may hold the key."""
        self._settings = settings
        self._env = env
        self._known = KnownInstances()
        self._replaced = anyio.Event()
        self._failing = False

    def replace(self, settings: LambdaCloud) -> None:
        """Apply the section of a reloaded configuration; the cloud is queried at once."""
        if settings != self._settings:
            self._settings = settings
            self._replaced.set()

    async def run(self, publish: Publish) -> None:
        """Publish the hosts whenever they changed, until cancelled."""
        told: frozenset[Host] | None = None

        def send_hosts() -> None:
            nonlocal told
            if self.hosts != told:
                told = self.hosts
                publish(told)

        while True:
            self._replaced = anyio.Event()
            if self._settings.enabled:
                with anyio.CancelScope() as polling:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._poll, self._settings, send_hosts)
                        await self._replaced.wait()
                        polling.cancel()
            else:
                self._known = KnownInstances()
                self._failing = False
                send_hosts()
                await self._replaced.wait()

    async def query(self) -> None:
        """Query the hosts once; raise `Retry` where that fails. Do nothing where no cloud is enabled."""
        if not self._settings.enabled:
            return
        async with client_of(self._settings) as client:
            await self._query(client, self._settings)

    @property
    def hosts(self) -> frozenset[Host]:
        """The known hosts: instances that have an address."""
        local = is_local(self._settings.base_url)
        return frozenset(
            _host(each, each.address)
            for each in self._known.instances
            if each.address is not None and (local or _may_be_a_box(each.address))
        )

    async def _poll(self, settings: LambdaCloud, send_hosts: Callable[[], None]) -> None:
        """Query for ever, with a growing interval while that fails."""
        failures = 0
        async with client_of(settings) as client:
            while True:
                try:
                    await self._query(client, settings)
                except Doubtful as e:
                    failures, pause = 0, settings.interval
                    self._log_failed(e)
                    send_hosts()
                except Retry as e:
                    failures += 1
                    wait = e.wait if isinstance(e, Unanswered) else timedelta()
                    slower = backoff_span(settings.interval, failures, _LONGEST_PAUSE)
                    pause = max(settings.interval, slower, min(wait, _LONGEST_WAIT))
                    self._log_failed(e)
                else:
                    failures, pause = 0, settings.interval
                    self._log_recovered()
                    send_hosts()
                await anyio.sleep(pause.total_seconds())

    async def _query(self, client: "httpx.AsyncClient", settings: LambdaCloud) -> None:
        doubt = self._known.take(await instances_of(client, settings, self._env))
        if doubt:
            raise Doubtful(doubt)

    def _log_failed(self, error: Retry) -> None:
        log = get_logger()
        (log.debug if self._failing else log.warning)(
            Event.INVENTORY_FAILED, source=self.name, error=str(error), hint=error.hint, hosts=len(self.hosts)
        )
        self._failing = True

    def _log_recovered(self) -> None:
        if self._failing:
            get_logger().info(Event.INVENTORY_RECOVERED, source=self.name, hosts=len(self.hosts))
        self._failing = False


def is_rented(host: Host) -> bool:
    """Return whether a host belongs to the cloud; only such hosts can be released."""
    return host.source == LambdaCloudHosts.name


def _may_be_a_box(address: str) -> bool:
    """Return whether an address may be a rented host's: it must not be this machine's or one of its local network."""
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified)


def _host(instance: Instance, address: str) -> Host:
    return Host(
        identity=f"{LambdaCloudHosts.name}:{instance.id}",
        name=instance.name or f"lambda-{instance.id[:8]}",
        address=address,
        source=LambdaCloudHosts.name,
        instance_type=instance.instance_type,
        gpus=instance.gpus,
        experiment=instance.experiment,
        mounts=instance.mounts or (),
        region=instance.region,
        cents_per_hour=instance.cents_per_hour,
        ending=instance.is_ending,
        peril=instance.status if instance.status and (instance.is_ending or instance.status == _UNHEALTHY) else "",
    )
