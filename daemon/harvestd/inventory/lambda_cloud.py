"""The hosts of a Lambda Cloud account: one poll for the whole process, and the last good set whenever that fails.

Only GET /instances is ever asked. The key goes to the configured address and nowhere else (no redirect is followed),
and neither it nor a word of an answer that was not checked stands in an error or an event. Who is believed to be gone,
and when, `known` says.
"""

import ipaddress
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from harvestd.errors import Retry
from harvestd.inventory.instances import MOST_BYTES, Instance
from harvestd.inventory.known import KnownInstances
from harvestd.inventory.provider import Host, Publish
from harvestd.settings import LambdaCloud
from harvestd.settings.credentials import api_key
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

if TYPE_CHECKING:
    import httpx

_ENDING = frozenset({"terminating", "terminated", "preempted"})
"""States of an instance that will not come back."""
_DEADLINE = 30.0
"""Seconds for a whole request: connecting, asking, and all of the answer."""
_LONGEST_PAUSE = timedelta(minutes=10)
"""Between two requests while the cloud fails, unless the interval is longer or the cloud asks for more."""
_LONGEST_WAIT = timedelta(hours=1)
"""The most that the cloud may ask us to wait."""
_HINTS = {
    401: "check the API key: lambda_cloud.api_key_file, or LAMBDA_API_KEY",
    403: "is the account active, and may the key read its instances?",
    404: "check lambda_cloud.base_url",
}
_OK, _TOO_MANY = 200, 429


class Unanswered(Retry):
    """The cloud gave no answer that can be used; `wait`: not to be asked again before."""

    def __init__(self, message: str, *, hint: str = "", wait: timedelta = timedelta()) -> None:
        super().__init__(f"the cloud's list of instances can't be had: {message}", hint=hint)
        self.wait = wait


class Doubtful(Unanswered):
    """What it adds was taken, but nobody is taken for gone by it: ask again as ever."""


class LambdaCloudHosts:
    """The provider of an account's hosts; `replace` follows a reload. Where it is not enabled there are none."""

    name = "lambda_cloud"

    def __init__(self, settings: LambdaCloud, env: Mapping[str, str] | None = None) -> None:
        """`env` stands for the process's environment, in which the key may lie."""
        self._settings = settings
        self._env = env
        self._known = KnownInstances()
        self._replaced = anyio.Event()
        self._failing = False

    def replace(self, settings: LambdaCloud) -> None:
        """Take the section of a reloaded configuration in place of the one before; the cloud is asked at once."""
        if settings != self._settings:
            self._settings = settings
            self._replaced.set()

    async def run(self, publish: Publish) -> None:
        """Publish the hosts whenever they changed, until cancelled."""
        told: frozenset[Host] | None = None

        def tell() -> None:
            nonlocal told
            if self.hosts != told:
                told = self.hosts
                publish(told)

        while True:
            self._replaced = anyio.Event()
            if self._settings.enabled:
                with anyio.CancelScope() as polling:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._poll, self._settings, tell)
                        await self._replaced.wait()
                        polling.cancel()
            else:
                self._known = KnownInstances()
                self._failing = False
                tell()
                await self._replaced.wait()

    async def ask(self) -> None:
        """Learn the hosts once; raises `Retry` where they can't be had. Without a cloud there is nothing to ask."""
        if not self._settings.enabled:
            return
        async with _client(self._settings) as client:
            await self._ask(client, self._settings)

    @property
    def hosts(self) -> frozenset[Host]:
        """The hosts that are known: instances that have an address."""
        is_local = _is_local(self._settings.base_url)
        return frozenset(
            _host(each, each.address)
            for each in self._known.instances
            if each.address is not None and (is_local or _may_be_a_box(each.address))
        )

    async def _poll(self, settings: LambdaCloud, tell: Callable[[], None]) -> None:
        """Ask for good, more and more rarely while that fails."""
        failures = 0
        async with _client(settings) as client:
            while True:
                try:
                    await self._ask(client, settings)
                except Doubtful as e:
                    failures, pause = 0, settings.interval
                    self._tell_failed(e)
                    tell()
                except Retry as e:
                    failures += 1
                    wait = e.wait if isinstance(e, Unanswered) else timedelta()
                    slower = min(settings.interval * 2 ** min(failures - 1, 10), _LONGEST_PAUSE)
                    pause = max(settings.interval, slower, min(wait, _LONGEST_WAIT))
                    self._tell_failed(e)
                else:
                    failures, pause = 0, settings.interval
                    self._tell_recovered()
                    tell()
                await anyio.sleep(pause.total_seconds())

    async def _ask(self, client: "httpx.AsyncClient", settings: LambdaCloud) -> None:
        from harvestd.inventory.answers import (  # noqa: PLC0415  (only who asks a cloud pays for it)
            NonsensicalAnswer,
            answer_of,
            error_code_of,
        )

        key = await anyio.to_thread.run_sync(api_key, settings, self._env)
        try:
            with anyio.fail_after(_DEADLINE):
                status, wait, body = await _get(client, f"{settings.base_url}/instances", key.get_secret_value())
        except TimeoutError:
            raise Unanswered(f"no whole answer within {_DEADLINE:g} s") from None
        if status != _OK:
            code = error_code_of(body)
            raise Unanswered(f"status {status}{f' ({code})' if code else ''}", hint=_HINTS.get(status, ""), wait=wait)
        try:
            answer = await anyio.to_thread.run_sync(answer_of, body)
        except NonsensicalAnswer as e:
            raise Unanswered(str(e), hint="check lambda_cloud.base_url") from None
        doubt = self._known.take(answer)
        if doubt:
            raise Doubtful(doubt)

    def _tell_failed(self, error: Retry) -> None:
        log = get_logger()
        (log.debug if self._failing else log.warning)(
            Event.INVENTORY_FAILED, source=self.name, error=str(error), hint=error.hint, hosts=len(self.hosts)
        )
        self._failing = True

    def _tell_recovered(self) -> None:
        if self._failing:
            get_logger().info(Event.INVENTORY_RECOVERED, source=self.name, hosts=len(self.hosts))
        self._failing = False


def _client(settings: LambdaCloud) -> "httpx.AsyncClient":
    # Only who asks a cloud pays for the import.
    import httpx  # noqa: PLC0415

    # Not compressed: how large an answer becomes is known before it is there. On this machine no proxy sees the key.
    return httpx.AsyncClient(
        headers={"accept": "application/json", "accept-encoding": "identity"},
        timeout=_DEADLINE,
        trust_env=not _is_local(settings.base_url),
    )


async def _get(client: "httpx.AsyncClient", url: str, key: str) -> tuple[int, timedelta, bytes]:
    """Give status, asked pause and body; raises `Unanswered`, never with words of the server or of the request."""
    import httpx  # noqa: PLC0415  (see above)

    try:
        async with client.stream("GET", url, headers={"authorization": f"Bearer {key}"}) as answer:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise Unanswered("it is compressed, unasked")
            body = bytearray()
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > MOST_BYTES:
                    raise Unanswered(f"it is longer than {MOST_BYTES} bytes")
            return answer.status_code, _asked_pause(answer.headers.get("retry-after", "")), bytes(body)
    except httpx.TimeoutException:
        raise Unanswered("it answers too slowly") from None
    except httpx.ConnectError:
        raise Unanswered("no connection", hint="is there a network, and is lambda_cloud.base_url right?") from None
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise Unanswered(f"the connection broke ({type(e).__name__})") from None


def _asked_pause(header: str) -> timedelta:
    """Read Retry-After; the form with a date counts as none."""
    return timedelta(seconds=int(header)) if header.isascii() and header.isdigit() and len(header) < 7 else timedelta()  # noqa: PLR2004


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"}


def _may_be_a_box(address: str) -> bool:
    """Tell whether an address may be a rented box's: nobody sends us to our own machine or to its neighbours."""
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
        ending=instance.status in _ENDING,
    )
