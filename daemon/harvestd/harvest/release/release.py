"""Release of hosts whose verdict is safe: by the daemon, one after the other, and of one host on request.

The daemon terminates a host only if the operator named it, if it was safe without interruption for the grace period, if
a last full check calls it safe, and if it was proven to be the very instance that the cloud is asked to end. Any
objection restarts the grace period. If the cloud gave no clear answer, its list shows the result before it is asked
again.

On request, the same checks are made without the list of hosts and the rate limit. The verdict comes from the process
that watches the host, and the machine is identified before and after it.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import anyio

from harvestd.bulkhead import described
from harvestd.catalogue.engine import Database, open_engine
from harvestd.catalogue.entries import Decision, ReleaseOutcome
from harvestd.catalogue.hosts import Releases
from harvestd.convention.structs import Immutable
from harvestd.errors import DiskFull, HarvestError, HostQuarantined, Retry, concerns_all, unwrapped
from harvestd.harvest.context import Context
from harvestd.harvest.fleet.connections import connected, identify_machine
from harvestd.harvest.release.cloud import UnconfirmedTerminations, end, listed, named_in
from harvestd.harvest.release.policy import (
    MachineIdentity,
    ReleaseStage,
    SafeStreak,
    gone_within_hour,
    may_be_released,
    reason_for,
    stage_of,
    still_safe,
    why_another,
    why_not_named,
    why_not_safe,
)
from harvestd.harvest.startup import open_read_only_context
from harvestd.harvest.verdict import requests
from harvestd.inventory.host import Host, cents_since
from harvestd.safety.check import FRESH
from harvestd.safety.verdict import Verdict
from harvestd.settings import Settings
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

DaemonJudge = Callable[[Host, Context], Awaitable[Verdict]]
"""Makes a full scan of a host and returns the verdict."""

EVERY = 5.0
"""The most seconds between two readings of the verdicts."""
_UNREAD = 60.0
"""Seconds without a verdict, after which a safe streak counts as interrupted."""
_AFTER_A_DEFECT = timedelta(minutes=5)
"""The pause of a host after an unexpected exception; its grace period restarts as well."""
_FULL_CHECK = 60.0
"""Seconds for the last full check, beyond those that a full verdict may take."""


class NotNow(HarvestError):
    """The host may not be released now; the text gives the reason. Its grace period restarts."""

    def __init__(self, message: str, *, key: str = "", wait: timedelta = timedelta()) -> None:
        super().__init__(message)
        self.key = key or message
        """Identifies the reason: the same one is logged once."""
        self.wait = wait


class _KnownMachine(Immutable):
    """The machine that answered when a safe streak began."""

    since: float
    at: float
    identity: MachineIdentity


class AutoRelease:
    """Follows the verdicts of all hosts. Times in memory restart with the process; decisions are on record."""

    def __init__(self, context: Context, judge: DaemonJudge) -> None:
        self._context = context
        self._judge = judge
        self._safe: dict[str, SafeStreak] = {}
        """By host identity, like all dictionaries here."""
        self._known: dict[str, _KnownMachine] = {}
        self._not_before: dict[str, float] = {}
        self._logged: set[tuple[str, str]] = set()
        self._decisions: dict[int, Decision] = {}
        """By their ids."""
        self._unclear = UnconfirmedTerminations()

    async def run(self) -> None:
        """Release hosts until cancelled. Raise `HaltedForSafety` if nothing can be recorded."""
        for each in await self._context.catalogue.releases.all():
            self._take(each)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow_verdicts)
            while True:
                scanned_before = self._context.signals.scanned.version
                await self._settle()
                self._update_streaks()
                safe = [host for host in self._context.fleet.present.values() if host.identity in self._safe]
                for host in sorted(safe, key=lambda each: each.name):
                    await self._attend_contained(host)
                await self._pause(scanned_before)

    def _take(self, decision: Decision) -> None:
        """Track the result of a decision; decisions are passed in order."""
        self._decisions[decision.id] = decision
        self._unclear.take(decision)

    async def _pause(self, scanned_before: int) -> None:
        with anyio.move_on_after(EVERY):
            await self._context.signals.scanned.wait(scanned_before)

    async def _follow_verdicts(self) -> None:
        while True:
            scanned_before = self._context.signals.scanned.version
            self._update_streaks()
            await self._pause(scanned_before)

    def _update_streaks(self) -> None:
        """Update the safe streaks of all hosts by their verdicts."""
        for identity in self._safe.keys() - self._context.fleet.present.keys():
            self._forget(identity)
        for host in self._context.fleet.present.values():
            self._update_streak(host)

    def _update_streak(self, host: Host) -> None:
        """Update the safe streak of one present host."""
        timed = self._context.states.of(host.identity).verdict
        if timed is not None and timed.verdict.is_safe and may_be_released(host, self._context.settings.release):
            before = self._safe.get(host.identity)
            self._safe[host.identity] = still_safe(before, timed, time.monotonic(), _UNREAD)
        else:
            self._forget(host.identity)

    def _forget(self, identity: str) -> None:
        self._safe.pop(identity, None)
        self._known.pop(identity, None)

    async def _settle(self) -> None:
        """Find the results of requests that were not clearly answered."""
        for released in await self._unclear.settled(self._context.settings.lambda_cloud):
            with suppress(DiskFull):  # the next process finds it again
                await self._context.catalogue.releases.settle(released)
            self._take(released)
            get_logger().info(
                Event.HOST_RELEASED,
                host=released.host,
                identity=released.identity,
                reason=released.why,
                by_hand=released.by_hand,
            )

    async def _attend_contained(self, host: Host) -> None:
        """Do `_attend`; an unexpected exception counts as a reason against releasing this host, and is not raised."""
        try:
            with unwrapped():
                await self._attend(host)
        except Exception as e:
            if concerns_all(e):
                raise
            self._context.host_failures.report(host.name, e)
            await self._refuse(host, NotNow(f"it failed: {described(e)}", wait=_AFTER_A_DEFECT))

    async def _attend(self, host: Host) -> None:
        """Take the next step for one host."""
        # The streaks may be out of date: other hosts were handled, or this process was suspended.
        self._update_streaks()
        safe, now = self._safe.get(host.identity), time.monotonic()
        if safe is None or now < self._not_before.get(host.identity, 0.0) or self._is_done(host):
            return
        try:
            known = self._known.get(host.identity)
            if known is None or known.since != safe.since:
                self._known[host.identity] = known = _KnownMachine(
                    safe.since, time.monotonic(), await self._identify(host)
                )
            gone = gone_within_hour(self._decisions.values(), time.time())
            stage = stage_of(host, max(safe.since, known.at), self._context.settings.release, gone, time.monotonic())
            if stage is ReleaseStage.HELD_BACK:
                self._log_refused(host, f"{gone} were released within the last hour, and no more may be", "rate")
            elif stage is ReleaseStage.DUE:
                await self._release(host, safe, known)
        except NotNow as e:
            await self._refuse(host, e)
        except (Retry, HostQuarantined) as e:
            await self._refuse(host, NotNow(str(e)))
        except DiskFull:
            await self._refuse(host, NotNow("there is no room to record it"))
        except TimeoutError:
            await self._refuse(host, NotNow("a last full check took too long"))

    def _is_done(self, host: Host) -> bool:
        done = {ReleaseOutcome.RELEASED}
        if self._context.settings.release.terminate == "dry-run":
            done.add(ReleaseOutcome.PLANNED)
        return any(each.identity == host.identity and each.outcome in done for each in self._decisions.values())

    async def _identify(self, host: Host) -> MachineIdentity:
        box = self._context.states.of(host.identity).box
        if box is None:
            raise NotNow("it is not connected")
        return await identify_machine(box, self._context.limits, self._context.settings.verdict.ignore_programs)

    async def _release(self, host: Host, safe: SafeStreak, known: _KnownMachine) -> None:
        """Check everything once more, and ask the cloud to terminate it.

        Raise `NotNow` and what scans and queries raise.
        """
        with anyio.fail_after(_FULL_CHECK + requests.verdict_seconds(self._context.limits)):
            verdict = await self._judge(host, self._context)
        if not verdict.is_safe:
            why, key = why_not_safe(verdict)
            raise NotNow(why, key=key)
        judged_at = time.time()
        identity = await self._identify(host)
        await self._check_named(host, identity, known)
        # By wall clock: the monotonic clock stops while this machine is suspended, the host does not.
        passed = time.time() - judged_at
        if not 0 <= passed <= FRESH:
            raise NotNow(
                f"the last full check is too old by now ({passed:.0f} s): this machine slept, or the host took more "
                f"than {FRESH:g} s to say which machine it is and who works there"
            )
        self._check_unbroken(host, safe)
        settings = self._context.settings  # read again: a reload may have come meanwhile
        why = reason_for(verdict, timedelta(seconds=time.monotonic() - safe.since))
        if settings.release.terminate == "dry-run":
            planned = Decision(host.name, host.identity, why, ReleaseOutcome.PLANNED)
            self._take(await self._context.catalogue.releases.keep(planned))
            self._log_release(Event.HOST_RELEASE_PLANNED, host, why, safe.idle_since)
            return
        ended = await end(host, why, settings.lambda_cloud, self._context.catalogue.releases)
        self._take(ended.decision)
        match ended.decision.outcome:
            case ReleaseOutcome.RELEASED:
                self._log_release(Event.HOST_RELEASED, host, why, safe.idle_since)
            case ReleaseOutcome.UNCLEAR:
                raise NotNow(f"the cloud gave no clear answer: {ended.decision.detail}", wait=ended.wait)
            case _:
                raise NotNow(f"the cloud refuses: {ended.decision.detail}", wait=ended.wait)

    async def _check_named(self, host: Host, identity: MachineIdentity, known: _KnownMachine) -> None:
        """Raise `NotNow` unless the host that was read is the named instance."""
        last_scan = self._context.states.of(host.identity).last_scan
        if last_scan is None or last_scan.host.address != host.address:
            raise NotNow("it was not read at the address that it has now")
        why = why_another(known.identity, identity)
        if not why:
            answer = await listed(self._context.settings.lambda_cloud)
            why = why_not_named(last_scan.host, identity, named_in(answer, host.identity))
        if why:
            raise NotNow(why)

    def _check_unbroken(self, host: Host, safe: SafeStreak) -> None:
        """Raise `NotNow` if the safe streak was interrupted meanwhile, or the host is not to be released any more."""
        self._update_streaks()
        now = self._safe.get(host.identity)
        if now is None or now.since != safe.since:
            raise NotNow("something moved during the last full check")
        if self._context.fleet.present.get(host.identity) != host:
            raise NotNow("the cloud tells of it differently since the last full check")

    async def _refuse(self, host: Host, error: NotNow) -> None:
        self._forget(host.identity)
        self._not_before[host.identity] = time.monotonic() + error.wait.total_seconds()
        if self._log_refused(host, str(error), error.key):
            refused = Decision(host.name, host.identity, "", ReleaseOutcome.REFUSED, detail=str(error))
            with suppress(DiskFull):  # the transfers report the lack of room
                await self._context.catalogue.releases.keep(refused)

    def _log_refused(self, host: Host, reason: str, key: str) -> bool:
        """Log a refusal once; return whether it was logged now."""
        if (host.identity, key) in self._logged:
            return False
        self._logged.add((host.identity, key))
        get_logger().warning(Event.HOST_RELEASE_REFUSED, host=host.name, identity=host.identity, reason=reason)
        return True

    def _log_release(self, event: Event, host: Host, why: str, idle_since: float | None) -> None:
        cost = cents_since(host.cents_per_hour, idle_since, time.time())
        get_logger().info(
            event,
            host=host.name,
            identity=host.identity,
            reason=why,
            cost=cost,
            cents_per_hour=host.cents_per_hour,
            by_hand=False,
        )


Judge = Callable[[Host], Awaitable[Verdict]]
"""Makes a verdict on a host now, and returns it."""

_TIMEOUT = 60.0
"""Seconds to wait for the write lock beside a daemon."""


class Examined(Immutable):
    """The result of the checks."""

    verdict: Verdict | None = None
    """None if the checks ended before the verdict."""
    hindrance: str = ""
    """Why it may not be terminated; empty if it may."""


async def examined(host: Host, settings: Settings, judge: Judge) -> Examined:
    """Make all checks: the verdict, the machine that answers, and the cloud's entry. Changes nothing.

    Raise `Retry` if the cloud's list can't be read.
    """
    verdict: Verdict | None = None
    try:
        with unwrapped():
            async with open_read_only_context(settings) as context, connected(host, context) as (box, _):
                then = await identify_machine(box, context.limits, settings.verdict.ignore_programs)
                verdict = await judge(host)
                if not verdict.is_safe:
                    return Examined(verdict, why_not_safe(verdict)[0])
                now = await identify_machine(box, context.limits, settings.verdict.ignore_programs)
    except (Retry, HostQuarantined) as e:
        return Examined(verdict, str(e))
    return Examined(verdict, why_another(then, now) or await _why_not_named(host, now, settings))


async def _why_not_named(host: Host, identity: MachineIdentity, settings: Settings) -> str:
    answer = await listed(settings.lambda_cloud)
    return why_not_named(host, identity, named_in(answer, host.identity))


async def release(host: Host, verdict: Verdict, settings: Settings) -> Decision:
    """Ask the cloud to terminate a host that was examined, on record.

    Raise `HaltedForSafety` if that can't be recorded.
    """
    database = Database(open_engine(settings.state, timeout=_TIMEOUT))
    try:
        why = f"asked for by hand: {reason_for(verdict, timedelta())}"
        ended = await end(host, why, settings.lambda_cloud, Releases(database), by_hand=True)
    finally:
        database.close()
    return ended.decision
