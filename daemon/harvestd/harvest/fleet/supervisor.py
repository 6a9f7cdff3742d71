"""Supervises one host: connect, watch until the link is lost, pause, reconnect. Each state change is logged once.

This is the bulkhead between hosts: every exception in one host's task that does not concern all hosts is reported,
counted and followed by a pause, and affects nothing else.

Computes the reconnect delays of one host, and suppresses repeated state-change events. Every pause is shortened at
random, so that hosts that were lost together do not reconnect together. A host that stays down is logged once. One
that goes up and down is logged a few times, and after that only once it is stable again.
"""

import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import anyio

from harvestd.bulkhead import backoff, described
from harvestd.catalogue.entries import ENDING, FAILED, HostRecord
from harvestd.errors import DiskFull, HostQuarantined, Retry, concerns_all, unwrapped
from harvestd.harvest.context import Context
from harvestd.harvest.fleet.connections import connected
from harvestd.harvest.metrics import FleetMetrics
from harvestd.harvest.sync import Broadcast, first_of
from harvestd.inventory.host import Host
from harvestd.remote.api import Box
from harvestd.remote.ssh.errors import AuthenticationRefused
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
QUARANTINE = 900.0
"""Seconds before a host that broke a rule, or keeps refusing us, is tried again: a person has to act first."""
_FIRST_REFUSAL = 30.0
_MOST_LOSSES = 16
_LEAST_SHARE = 0.5
"""The least part of a pause that remains after the random shortening."""
_FLAPPING = 3
"""A host that lost this many established links within `REMEMBERED` seconds is flapping."""
REMEMBERED = 600.0


class ReconnectPolicy:
    """Computes reconnect delays and suppresses repeated state-change events."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns monotonic seconds."""
        self._clock = clock
        self.attempt = 1
        """The number of this attempt, counted from the last successful scan."""
        self._refusals = 0
        self._was_connected = False
        self._losses: deque[float] = deque(maxlen=_MOST_LOSSES)
        """When established links were lost recently."""
        self._logged_state = ""

    def connected(self) -> None:
        """Note that the link is established."""
        self._was_connected = True

    def passed(self) -> None:
        """Note that a scan of the host succeeded."""
        self.attempt, self._refusals = 1, 0

    def failed(self, error: Exception) -> float:
        """Note that the attempt ended with `error`, whatever its class; return the seconds until the next one."""
        if self._was_connected:
            self._losses.append(self._clock())
            self._was_connected = False
        pause = self._pause(error)
        self.attempt += 1
        return pause * random.uniform(_LEAST_SHARE, 1.0)  # noqa: S311  (spreads load, keeps no secret)

    def _pause(self, error: Exception) -> float:
        if isinstance(error, AuthenticationRefused):
            # A booting host may answer before our key is installed, whatever it did before.
            self._refusals += 1
            return backoff(_FIRST_REFUSAL, self._refusals, QUARANTINE)
        if isinstance(error, HostQuarantined):
            return QUARANTINE
        return backoff(FIRST_PAUSE, max(self.attempt, self._lost_of_late), LONGEST_PAUSE)

    def forget_failures(self) -> None:
        """Note that the workstation was suspended: earlier failures predict nothing."""
        self.attempt, self._was_connected = 1, False

    @property
    def settled(self) -> bool:
        """Whether the present link is expected to last."""
        return self._lost_of_late < _FLAPPING

    @property
    def _lost_of_late(self) -> int:
        while self._losses and self._clock() - self._losses[0] >= REMEMBERED:
            self._losses.popleft()
        return len(self._losses)

    def is_new_state(self, state: str) -> bool:
        """Return whether `state` differs from the last logged one, and store it as that."""
        before, self._logged_state = self._logged_state, state
        return state != before


_FULL_PAUSE = 0.5
_LONGEST_FULL_PAUSE = 60.0
"""Seconds before a host is tried again whose data could not be recorded because the disk was full."""


class HostSupervisor:
    """Watches one host until cancelled."""

    def __init__(self, host: Host, context: Context, root: DataRoot, scan_now: Broadcast, tally: FleetMetrics) -> None:
        self._host = host
        self._context = context
        self._root = root
        self._scan_now = scan_now
        self._tally = tally
        self._log = get_logger().bind(host=host.name)
        self._reconnects = ReconnectPolicy()
        self._state = ""
        self._pending = -1
        self._full_in_a_row = 0
        """How often in a row there was no room to record what this host shows."""
        self._failed: tuple[Exception, float] | None = None
        """An unexpected exception, and the seconds to pause after it."""

    async def run(self) -> None:
        """Watch for good. Ends only by cancellation, or with an error that concerns all hosts."""
        while True:
            with self._context.links.waking.until_woken() as woken:
                try:
                    with unwrapped():
                        await self._attempt(woken)
                except Exception as e:
                    if concerns_all(e):
                        raise
                    self._contain(e)
            if woken.cancel_called:
                self._reconnects.forget_failures()

    async def _attempt(self, woken: anyio.CancelScope) -> None:
        """Connect once and watch until the link is lost, then pause. Raise unexpected exceptions."""
        await self._recover()
        try:
            if self._reconnects.attempt == 1:
                # A host that failed may never be back: requests are settled without it.
                self._context.requests.awaits(self._host.name)
            try:
                with unwrapped():
                    await self._connect_and_watch()
            finally:
                self._context.requests.record_leaving(self._host.name)
        except (Retry, HostQuarantined) as e:
            # A link that ended because the workstation was suspended was not lost.
            if not woken.cancel_called:
                await self._log_failed(e)
                await self._wait_out(self._reconnects.failed(e), e)
        except DiskFull:
            # Not even the scan can be recorded. Only the link is given up meanwhile: other hosts may have nothing to
            # record, and their transfers show whether there is room.
            self._context.budgets.room.found_full()
            await self._context.budgets.room.refuse(self._root, 0)
            self._full_in_a_row += 1
            await anyio.sleep(backoff(_FULL_PAUSE, self._full_in_a_row, _LONGEST_FULL_PAUSE))

    def _contain(self, error: Exception) -> None:
        """Report an unexpected exception. Everything that has to be awaited is left to the next attempt."""
        self._context.host_failures.report(self._host.name, error, attempt=self._reconnects.attempt)
        self._failed = error, self._reconnects.failed(error)
        self._note_unreadable(described(error))
        self._tally.set_state(self._host.name, FAILED, described(error))
        self._reconnects.is_new_state(FAILED)

    def _note_unreadable(self, why: str) -> None:
        """Note why the host can't be read now, and wake the tasks that wait for a scan of it."""
        self._context.states.of(self._host.identity).unreadable = why
        self._context.signals.scanned.ring()

    async def _recover(self) -> None:
        """After an unexpected exception: record it, and pause."""
        if self._failed is None:
            return
        (error, pause), self._failed = self._failed, None
        if self._state != FAILED:
            self._state = FAILED
            # The record itself may be what failed: the pause is made in any case.
            with self._context.host_failures.containing(self._host.name):
                await self._record(FAILED, error=described(error))
        await self._wait_out(pause, error)

    async def _wait_out(self, pause: float, error: Exception) -> None:
        resting = f"the pause before {self._host.name} is tried again"
        with self._context.deadlines.within(pause, resting), anyio.move_on_after(pause):
            await self._until_worth_trying(error)

    async def _until_worth_trying(self, error: Exception) -> None:
        """Return when the pause after `error` may end early: on the operator's request, or if the host is about to end.

        Events of other hosts are no reason. A quarantined host has no reason either: a person has to act there first,
        and each further attempt can only do harm.
        """
        if isinstance(error, HostQuarantined):
            await anyio.sleep_forever()
        retry_now = self._context.signals.scan_now
        await first_of(partial(retry_now.wait, retry_now.version), self._ending)

    async def _ending(self) -> None:
        """Return when the host turns out to end soon; never if that was known before."""
        if self._host.name in self._context.fleet.rescue.ending_hosts:
            await anyio.sleep_forever()
        while self._host.name not in self._context.fleet.rescue.ending_hosts:
            await self._scan_now.wait(self._scan_now.version)

    async def _connect_and_watch(self) -> None:
        started = time.monotonic()
        async with connected(self._host, self._context) as (box, facts):
            duration = round(time.monotonic() - started, 3)

            def log_connected() -> None:
                self._log_connected(box, duration)

            self._reconnects.connected()
            self._context.states.of(self._host.identity).unreadable = None
            log_connected()
            self._tally.set_state(self._host.name, "connected")
            self._state = self._connected_state()
            await self._record(self._state, method=box.method)

            async def passed(pending: int) -> None:
                self._reconnects.passed()
                self._full_in_a_row = 0
                log_connected()
                self._tally.succeeded(self._host.name, pending)
                # The fleet records the time of the last success of a host of which nothing else changes.
                if (self._connected_state(), pending) != (self._state, self._pending):
                    self._state, self._pending = self._connected_state(), pending
                    await self._record(self._state, method=box.method, last_success=time.time(), pending=pending)

            from harvestd.harvest.host.loop import HostLoop  # noqa: PLC0415  (imported by the fleet)

            self._tally.connected.add(self._host.name)
            try:
                await HostLoop(self._host, self._context, self._root, box, facts).watch(self._scan_now, passed)
            finally:
                self._tally.connected.discard(self._host.name)

    def _connected_state(self) -> str:
        """Return the state of a host that is connected."""
        return ENDING if self._host.name in self._context.fleet.rescue.ending_hosts else "connected"

    def _log_connected(self, box: Box, duration: float) -> None:
        if self._reconnects.settled and self._reconnects.is_new_state("connected"):
            attempt = self._reconnects.attempt
            self._log.info(
                Event.HOST_CONNECTED,
                address=self._host.address,
                method=box.method,
                duration_seconds=duration,
                attempt=attempt,
                **({"probe_error": box.without_probe.reason} if box.without_probe else {}),
            )

    async def _log_failed(self, error: Retry | HostQuarantined) -> None:
        """Log a change of state once, and repetitions for debugging only.

        A host that goes down fails in several ways, one after the other, which counts as one loss. The reason of a
        quarantine is logged, since a person has to act on it.
        """
        self._note_unreadable(error.with_hint)
        lost = isinstance(error, Retry)
        state, event = ("lost", Event.HOST_LOST) if lost else ("quarantined", Event.HOST_QUARANTINED)
        why = state if lost else f"{state}: {type(error).__name__}"
        level = self._log.warning if self._reconnects.is_new_state(why) else self._log.debug
        level(event, error=str(error), hint=error.hint, attempt=self._reconnects.attempt)
        self._tally.set_state(self._host.name, state, error.with_hint)
        if why != self._state:
            await self._record(state, error=error.with_hint)
        self._state = why

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
        tally = self._tally.of(self._host.name)
        tally.method = method or tally.method
        with suppress(DiskFull):  # the transfers report the lack of room; the state is recorded again periodically
            tally.first_seen = await self._context.catalogue.hosts.save(record)
