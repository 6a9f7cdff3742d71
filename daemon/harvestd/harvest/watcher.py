"""One host's life: connect, watch until the link is lost, pause, connect again. State changes are told once."""

import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from harvestd.catalogue.entries import HostRecord
from harvestd.errors import DiskFull, HarvestError, HostQuarantined, Retry
from harvestd.harvest.bell import Bell
from harvestd.harvest.house import House
from harvestd.harvest.pins import Pins
from harvestd.harvest.results import PassResult
from harvestd.harvest.tally import Tally
from harvestd.inventory.provider import Host
from harvestd.remote.box import Box, BoxFacts
from harvestd.remote.connecting import connect
from harvestd.remote.failures import AuthenticationRefused
from harvestd.remote.opening import open_box
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

if TYPE_CHECKING:
    from harvestd.harvest.session import Session

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0
_QUARANTINE = 900.0
"""Seconds before a host that broke a rule, or goes on refusing us, is tried again: a person has to act first."""
_FIRST_REFUSAL = 30.0
_RECORD_EVERY = 30.0
"""Seconds between two records of a host that is well and unchanged."""


@asynccontextmanager
async def connected(host: Host, house: House) -> AsyncIterator[tuple[Box, BoxFacts]]:
    """Connect to a host and open its box; raises `Retry` and `HostQuarantined` as `remote` does."""
    async with AsyncExitStack() as stack:
        async with house.connecting:
            connecting = connect(house.target_of(host), Pins(host, house), window=house.window)
            connection = await stack.enter_async_context(connecting)
        box = await stack.enter_async_context(open_box(connection, house.watch_list_of(host), house.limits))
        yield box, await box.facts()


class Watcher:
    """Watches one host until cancelled."""

    def __init__(self, host: Host, house: House, root: DataRoot, scan_now: Bell, tally: Tally) -> None:
        self._host = host
        self._house = house
        self._root = root
        self._scan_now = scan_now
        self._tally = tally
        self._log = get_logger().bind(host=host.name)
        self._attempt = 0
        self._told = ""
        self._recorded = 0.0
        self._pending = -1

    async def run(self) -> None:
        """Watch for good. Ends only by cancellation, or with an error that concerns all hosts."""
        while True:
            pause = _FIRST_PAUSE
            try:
                await self._connect_and_watch()
            except Retry as e:
                await self._tell("lost", Event.HOST_LOST, e)
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._attempt, 16))
            except DiskFull:
                # Not even what was seen can be recorded. The connection is given up meanwhile, and nothing else.
                self._house.room.ran_full()
                await self._house.room.refuse(self._root, 0)
                pause = self._house.room.pause
            except HostQuarantined as e:
                await self._tell("quarantined", Event.HOST_QUARANTINED, e)
                pause = _QUARANTINE
                if isinstance(e, AuthenticationRefused):
                    # A booting box may answer before our key is in place.
                    pause = min(_QUARANTINE, _FIRST_REFUSAL * 2 ** min(self._attempt, 16))
            self._attempt += 1
            with anyio.move_on_after(pause * random.uniform(0.5, 1.0)):  # noqa: S311  (spreads load, keeps no secret)
                await self._scan_now.rung()

    async def _connect_and_watch(self) -> None:
        started = time.monotonic()
        async with connected(self._host, self._house) as (box, facts):
            duration = round(time.monotonic() - started, 3)
            self._log.info(
                Event.HOST_CONNECTED,
                address=self._host.address,
                method=box.method,
                duration_seconds=duration,
                attempt=self._attempt + 1,
            )
            self._told = ""
            await self._record("connected", method=box.method)

            async def passed(pending: int) -> None:
                self._attempt = 0
                self._tally.last_success = datetime.now(UTC)
                now = time.monotonic()
                if pending != self._pending or now - self._recorded >= _RECORD_EVERY:
                    self._pending, self._recorded = pending, now
                    await self._record("connected", method=box.method, last_success=time.time(), pending=pending)

            self._tally.connected.add(self._host.name)
            try:
                await _session(self._host, self._house, self._root, box, facts).watch(self._scan_now, passed)
            finally:
                self._tally.connected.discard(self._host.name)

    async def _tell(self, state: str, event: Event, error: HarvestError) -> None:
        """Tell a change of state once; the same again is for those who debug.

        A box that goes down is lost in several ways, one after the other: it is lost once. Why one is quarantined is
        what a person has to act on.
        """
        told = state if isinstance(error, Retry) else f"{state}: {type(error).__name__}"
        level = self._log.debug if told == self._told else self._log.warning
        level(event, error=str(error), hint=error.hint, attempt=self._attempt + 1)
        if told != self._told:
            await self._record(state, error=str(error))
        self._told = told

    async def _record(
        self, state: str, *, method: str = "", last_success: float | None = None, error: str = "", pending: int = 0
    ) -> None:
        record = HostRecord(
            name=self._host.name,
            identity=self._host.identity,
            address=self._host.address,
            state=state,
            method=method,
            last_success=last_success,
            error=error,
            pending_bytes=pending,
        )
        with suppress(DiskFull):  # told by whoever fetches; how a host was seen is recorded anew every now and then
            await self._house.catalogue.save_host(record)


async def single_pass(host: Host, house: House, root: DataRoot) -> PassResult:
    """Connect, bring home everything that is complete, disconnect. Raises `Retry` and `HostQuarantined`."""
    async with connected(host, house) as (box, facts):
        await house.knows.wait()
        return await _session(host, house, root, box, facts).single_pass()


def _session(host: Host, house: House, root: DataRoot, box: Box, facts: BoxFacts) -> "Session":
    from harvestd.harvest.session import Session  # noqa: PLC0415  (imported while hosts were connected, see `opening`)

    return Session(host, house, root, box, facts)
