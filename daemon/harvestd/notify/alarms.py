"""Records what is news, and has each receiver get it: at least once, in order, whatever the other receivers do.

One task observes and records; each receiver has a task of its own, which reads from the catalogue what its receiver has
not got yet. Nothing waits in memory. A receiver that hangs is given up after each attempt's deadline, one that fails is
tried again after growing pauses, and an unexpected exception ends only the task of its receiver, which begins again.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from harvestd.catalogue.entries import Delivery, Episode, Notification
from harvestd.errors import DiskFull, unwrapped
from harvestd.harvest.context import Context
from harvestd.harvest.metrics import FleetMetrics, NotificationCounts
from harvestd.harvest.sync import Broadcast
from harvestd.notify.conditions import Subject, news, over
from harvestd.notify.messages import message_of
from harvestd.notify.observation import ConditionReader
from harvestd.notify.receivers import Answer, Receiver, attempt, receivers_of
from harvestd.notify.schedule import A_MINUTE, MINUTE, pause_after, quiet_minutes, schedule
from harvestd.settings import Notify
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

EVERY: Final = 2.0
"""Seconds between two observations."""
_GRACE: Final = 2.0
"""Seconds for the answer of a receiver when the daemon ends."""
_LOOK_AGAIN: Final = 30.0
"""Seconds after which a receiver's task reads its deliveries again, whatever it waits for: clocks may be set."""


class Alarms:
    """The service of one daemon."""

    def __init__(self, context: Context, root: DataRoot, tally: FleetMetrics) -> None:
        self._context = context
        self._tally = tally
        self._reader = ConditionReader(context, root, tally)
        self._spool = context.catalogue.notifications
        self._known: dict[Subject, Episode] = {}
        """The latest notification of each subject."""
        self._since = 0.0
        self._recorded = Broadcast()
        self._settings: Notify | None = None
        """Those whose receivers are running."""
        self._running: dict[Receiver, anyio.CancelScope] = {}

    async def run(self) -> None:
        """Observe, record and deliver until cancelled."""
        self._known = await self._spool.episodes()
        self._since = await self._spool.since(time.time())
        self._settings, self._running = None, {}
        async with anyio.create_task_group() as tasks:
            while True:
                version = self._context.signals.alarming.version
                # Without room nothing can be recorded: it is observed again.
                try:
                    await self._adopt(tasks)
                    await self._observe()
                except DiskFull:
                    self._reader.forget()
                with anyio.move_on_after(EVERY):
                    await self._context.signals.alarming.wait(version)

    async def _adopt(self, tasks: TaskGroup) -> None:
        """Start the tasks of new receivers, and end those of removed ones."""
        settings = self._context.settings.notify
        if settings == self._settings:
            return
        wanted = receivers_of(settings)
        await self._spool.adopt([receiver.id for receiver in wanted])
        for gone in self._running.keys() - set(wanted):
            self._running.pop(gone).cancel()
            self._tally.notifications.pop(gone.label, None)
        for receiver in wanted:
            if receiver not in self._running:
                self._running[receiver] = scope = anyio.CancelScope()
                tasks.start_soon(self._keep_delivering, receiver, scope)
        self._settings = settings
        self._recorded.ring()

    async def _observe(self) -> None:
        """Record what is news, and what is over."""
        now = time.time()
        conditions = await self._reader.conditions(self._known)
        found = news(conditions, self._known, self._since, now)
        ended = over(conditions, self._known)
        if found:
            await self._record(found)
        if ended:
            await self._spool.end(ended, now)
            for subject in ended:
                before = self._known[subject]
                self._known[subject] = Episode(before.number, before.created, now)

    async def _record(self, found: Sequence[Notification]) -> None:
        # Those of the running receivers: what was configured meanwhile is adopted next.
        events = () if self._settings is None else self._settings.events
        ids = tuple(receiver.id for receiver in self._running)
        await self._spool.add(found, dict.fromkeys(events, ids))
        for each in found:
            subject = each.event, each.subject
            before = self._known.get(subject)
            self._known[subject] = Episode(1 if before is None else before.number + 1, each.created, None)
            if each.event == Event.HOST_UNWATCHED:
                get_logger().warning(Event.HOST_UNWATCHED, **each.payload)
        self._recorded.ring()

    async def _keep_delivering(self, receiver: Receiver, scope: anyio.CancelScope) -> None:
        deliverer = Deliverer(self._context, self._tally, receiver, self._recorded)
        with scope:
            service = f"alarms to {receiver.label}"
            await self._context.service_failures.keep_running(service, deliverer.run)


class Deliverer:
    """Has one receiver get what it has not got yet."""

    def __init__(
        self,
        context: Context,
        tally: FleetMetrics,
        receiver: Receiver,
        recorded: Broadcast,
        clock: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        """Store the parameters: `recorded` is rung when there may be more to deliver; `clock`: the local time."""
        self._context = context
        self._spool = context.catalogue.notifications
        self._tally = tally
        self._receiver = receiver
        self._recorded = recorded
        self._clock = clock
        self._sent: deque[float] = deque(maxlen=A_MINUTE)
        """When the last messages were sent, by the monotonic clock."""
        self._unrecorded: list[int] = []
        """Notifications that the receiver has got, which could not be recorded yet for lack of room."""
        self._is_failing = False

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            version = self._recorded.version
            try:
                wait = await self._deliver()
            except DiskFull:
                wait = None
            if wait != 0.0:
                with anyio.move_on_after(min(_LOOK_AGAIN, wait or _LOOK_AGAIN)):
                    await self._recorded.wait(version)

    async def _deliver(self) -> float | None:
        """Send what is due; return the seconds until more may be due, None if nothing is waiting."""
        if self._unrecorded:
            await self._spool.delivered(self._receiver.id, self._unrecorded, time.time())
            self._unrecorded = []
        moment = self._clock()
        waiting = await self._spool.open_deliveries(self._receiver.id)
        counts = self._tally.notifications.setdefault(self._receiver.label, NotificationCounts())
        counts.waiting = len(waiting)
        hours = self._context.settings.notify.quiet_hours
        quiet = quiet_minutes(hours, moment.hour * 60 + moment.minute) * MINUTE
        # The monotonic clock of the messages that were sent, in the time of the deliveries.
        shift = moment.timestamp() - time.monotonic()
        plan = schedule(waiting, [at + shift for at in self._sent], moment.timestamp(), quiet)
        if plan.expired:
            await self._spool.drop(self._receiver.id, [each.notification.id for each in plan.expired])
            counts.dropped += len(plan.expired)
            get_logger().error(Event.NOTIFY_DROPPED, receiver=self._receiver.label, count=len(plan.expired))
        for batch in plan.batches:
            # An answer that is under way when the daemon ends is waited for: the next one would send it again.
            await finished(partial(self._send, batch, len(waiting)), _GRACE)
            if self._is_failing:
                break
        return 0.0 if plan.batches else plan.wait

    async def _send(self, batch: Sequence[Delivery], waiting: int) -> None:
        """Send one message, and record what became of it."""
        message = message_of([each.notification for each in batch])
        ids = [each.notification.id for each in batch]
        self._sent.append(time.monotonic())
        answer = await attempt(self._receiver, message)
        counts = self._tally.notifications[self._receiver.label]
        if answer.ok:
            counts.delivered += len(ids)
            counts.waiting -= len(ids)
            self._unrecorded = ids
            await self._spool.delivered(self._receiver.id, ids, time.time())
            self._unrecorded = []
        else:
            counts.failures += 1
            pause = pause_after(batch, answer.wait)
            await self._spool.failed(self._receiver.id, ids, answer.said, time.time() + pause)
        self._log(answer, waiting)

    def _log(self, answer: Answer, waiting: int) -> None:
        """Log when the receiver begins and ceases to fail."""
        if answer.ok == self._is_failing:
            log = get_logger().bind(receiver=self._receiver.label)
            if answer.ok:
                log.info(Event.NOTIFY_RECOVERED)
            else:
                log.warning(Event.NOTIFY_FAILED, error=answer.said, hint=answer.hint or None, waiting=waiting)
        self._is_failing = not answer.ok


async def finished(work: Callable[[], Awaitable[None]], grace: float) -> None:
    """Run `work`; where that is cancelled, it has `grace` seconds to come to its end."""
    with unwrapped():
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope(shield=True) as scope:
                tasks.start_soon(_end_soon, scope, grace)
                await work()
            tasks.cancel_scope.cancel()
    await anyio.lowlevel.checkpoint()


async def _end_soon(scope: anyio.CancelScope, grace: float) -> None:
    """Wait to be cancelled, and let `scope` end after `grace` seconds."""
    try:
        await anyio.sleep_forever()
    finally:
        scope.deadline = anyio.current_time() + grace
