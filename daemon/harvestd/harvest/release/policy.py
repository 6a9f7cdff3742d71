"""Decides which hosts may be released now, and whether a host is the named instance. Pure: no I/O, no clock.

The default answer is no; a host passes only if every check does. Values from the cloud or the host are compared, and
quoted in reasons, which are escaped where they are displayed.
"""

from collections.abc import Iterable
from dataclasses import field
from datetime import timedelta
from enum import StrEnum

from harvestd.catalogue.entries import Decision, ReleaseOutcome
from harvestd.convention.structs import Immutable, value
from harvestd.harvest.state import Judged
from harvestd.inventory.host import Host
from harvestd.inventory.lambda_api import Instance
from harvestd.inventory.lambda_provider import is_rented
from harvestd.safety.check import activity_on
from harvestd.safety.inputs import Circumstances
from harvestd.safety.verdict import Verdict
from harvestd.settings.sections import Release

HOUR = 3600.0
_ACTIVE = "active"
_MAY_HAVE_ENDED_ONE = frozenset({ReleaseOutcome.ASKED, ReleaseOutcome.RELEASED, ReleaseOutcome.UNCLEAR})


class ReleaseStage(StrEnum):
    """The stage of a host on its way to being released."""

    NOT_MEANT = "not_meant"
    """The operator did not name it for automatic release, or it is not a cloud host."""
    NOT_YET = "not_yet"
    """Its verdict is not safe, or has not been for long enough."""
    HELD_BACK = "held_back"
    """It may be released, but the limit per hour is reached."""
    DUE = "due"
    """It may be released after a last full check."""


@value
class MachineIdentity:
    """How a host identifies itself."""

    machine: str
    hostname: str
    activity: str = field(default="", compare=False)
    """The activity on the host at that moment, in words; empty if it reports none."""

    @classmethod
    def of(cls, circumstances: Circumstances) -> "MachineIdentity":
        """Return the identity in a host's circumstances."""
        activity = next((reason.detail for reason in activity_on(circumstances)), "")
        return cls(circumstances.machine, circumstances.hostname, activity)


class SafeStreak(Immutable):
    """A streak of safe verdicts up to the last reading; times in seconds, `since` and `read_at` monotonic."""

    since: float
    read_at: float
    idle_since: float | None
    """Since when nothing changed, by the verdict, in Unix time."""
    still_since: float | None
    """The same moment in monotonic seconds; a different value means that something changed."""


def may_be_released(host: Host, rules: Release) -> bool:
    """Return whether the operator lets the daemon release this host."""
    return rules.terminate != "never" and host.name in rules.only and is_rented(host) and not host.ending


def still_safe(before: SafeStreak | None, timed: Judged, now: float, timeout: float) -> SafeStreak:
    """Return the continued streak, or a new one if something changed or no verdict came for `timeout` seconds.

    The moments of the last change are compared, never differences to the present: how late a verdict is made and read
    says nothing about the host.
    """
    if before is None or now - before.read_at > timeout or before.still_since != timed.still_since:
        return SafeStreak(now, now, timed.idle_since, timed.still_since)
    return SafeStreak(before.since, now, before.idle_since, before.still_since)


def stage_of(host: Host, safe_since: float | None, rules: Release, gone: int, now: float) -> ReleaseStage:
    """Return the stage of a host; `gone`: how many may have been released within the last hour."""
    if not may_be_released(host, rules):
        return ReleaseStage.NOT_MEANT
    if safe_since is None or now - safe_since < rules.grace.total_seconds():
        return ReleaseStage.NOT_YET
    return ReleaseStage.DUE if gone < rules.at_most_per_hour else ReleaseStage.HELD_BACK


def gone_within_hour(decisions: Iterable[Decision], now: float) -> int:
    """Count the hosts that the daemon may have released within the last hour; `now` in Unix time.

    A decision later than `now` counts as well: a clock was set back.
    """
    return sum(
        decision.outcome in _MAY_HAVE_ENDED_ONE and not decision.by_hand and decision.at > now - HOUR
        for decision in decisions
    )


def why_another(then: MachineIdentity, now: MachineIdentity) -> str:
    """Return why the host may be another machine than at the start of the streak, or is at work; "" if neither."""
    if not then.machine or not now.machine:
        return "the box does not say which machine it is"
    if then != now:
        return "another machine answers than when the verdict began"
    if now.activity:
        # A verdict queries the activity before its full scan, which takes time.
        return f"since the last full check: {now.activity}"
    return ""


def why_not_named(host: Host, identity: MachineIdentity, instance: Instance | None) -> str:
    """Return why the named instance is not certainly the host that was read; "" if it is.

    `instance` is the cloud's present entry for the host's id, `host` what it was reached by.
    """
    if instance is None:
        return "the cloud names no such instance now"
    if instance.address != host.address:
        return f"the cloud names another address for it now, {instance.address or 'none'}"
    if instance.hostname is not None and _plain(instance.hostname) not in _names(identity.hostname):
        return f"the cloud calls it {instance.hostname}, and it calls itself {identity.hostname or 'nothing'}"
    if instance.status != _ACTIVE:
        return f"the cloud says that it is {instance.status or 'in no state'}, not {_ACTIVE}"
    if instance.can_end is False:
        return "the cloud says that it can't be terminated now"
    return ""


def _names(hostname: str) -> set[str]:
    """Return the names that the cloud may use for this host name: with its domain or without."""
    return {_plain(hostname), _plain(hostname.partition(".")[0])} - {""}


def _plain(hostname: str) -> str:
    # In places the cloud writes 198.51.100.2 where the host writes 198-51-100-2.
    return hostname.lower().replace(".", "-")


def why_not_safe(verdict: Verdict) -> tuple[str, str]:
    """Return why the last full check does not release a host, and a key that identifies the reason."""
    if verdict.reasons:
        first = verdict.reasons[0]
        return f"a last full check found that {first.detail}", f"verdict:{first.kind}"
    kinds = sorted({str(loss.kind) for loss in verdict.losses if not verdict.accepts(loss.kind)})
    return f"it would lose {', '.join(kinds)}", f"losses:{kinds}"


def reason_for(verdict: Verdict, stood: timedelta) -> str:
    """Return why a host is released."""
    minutes, seconds = divmod(int(stood.total_seconds()), 60)
    long = f"{minutes} min" if minutes else f"{seconds} s"
    said = "all that is wanted is here" + (f", and was for {long} without a break" if stood else "")
    lost = sorted({str(loss.kind) for loss in verdict.losses})
    return f"{said}; lost as accepted: {', '.join(lost)}" if lost else said
