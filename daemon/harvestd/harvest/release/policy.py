"""Who may be released now, and whether a box that was read is the instance that is named. Pure: no I/O, no clock.

Every question here is answered with no until everything says yes. What a cloud or a box says is compared, and quoted in
reasons; who shows them escapes them.
"""

from collections.abc import Iterable
from dataclasses import field
from datetime import timedelta
from enum import StrEnum

from harvestd.catalogue.entries import Decision, ReleaseOutcome
from harvestd.convention.structs import Immutable, value
from harvestd.harvest.verdict.latest import Judged
from harvestd.inventory.host import Host
from harvestd.inventory.lambda_cloud.instances import Instance
from harvestd.inventory.lambda_cloud.provider import is_rented
from harvestd.safety.check import company_of
from harvestd.safety.circumstances import Circumstances
from harvestd.safety.verdict import Verdict
from harvestd.settings.sections import Release

HOUR = 3600.0
_ACTIVE = "active"
_MAY_HAVE_ENDED_ONE = frozenset({ReleaseOutcome.ASKED, ReleaseOutcome.RELEASED, ReleaseOutcome.UNCLEAR})


class Turn(StrEnum):
    """Where a host stands on its way to being released."""

    NOT_MEANT = "not_meant"
    """The operator did not give it to the daemon, or it is no box of the cloud."""
    NOT_YET = "not_yet"
    """Its verdict is not safe, or has not been for long enough."""
    HELD_BACK = "held_back"
    """It might go, but as many as may in an hour have gone."""
    DUE = "due"
    """It may go after a last full check."""


@value
class Who:
    """What a box calls itself."""

    machine: str
    hostname: str
    company: str = field(default="", compare=False)
    """Who works there at that moment, in words; empty where it says that nobody does."""

    @classmethod
    def of(cls, circumstances: Circumstances) -> "Who":
        """Take it from what a box says."""
        company = next((reason.detail for reason in company_of(circumstances)), "")
        return cls(circumstances.machine, circumstances.hostname, company)


class Safe(Immutable):
    """A verdict of safe that stood until it was heard last; times in seconds, `since` and `heard` monotonic."""

    since: float
    heard: float
    idle_since: float | None
    """Since when nothing moved, as the verdict says, in Unix time."""
    still_since: float | None
    """The same moment in monotonic seconds; another one means that something moved."""


def is_meant(host: Host, rules: Release) -> bool:
    """Return whether the operator lets the daemon release this host."""
    return rules.terminate != "never" and host.name in rules.only and is_rented(host) and not host.ending


def still_safe(before: Safe | None, judged: Judged, now: float, patience: float) -> Safe:
    """Return a verdict of safe that goes on, or begins anew: something moved, or no verdict came for `patience`.

    The moments of the last movement are compared, never differences to some now: how late a verdict is made and read
    says nothing of the host.
    """
    if before is None or now - before.heard > patience or before.still_since != judged.still_since:
        return Safe(now, now, judged.idle_since, judged.still_since)
    return Safe(before.since, now, before.idle_since, before.still_since)


def turn_of(host: Host, safe_since: float | None, rules: Release, gone: int, now: float) -> Turn:
    """Tell where a host stands; `gone`: how many may have been released within the last hour."""
    if not is_meant(host, rules):
        return Turn.NOT_MEANT
    if safe_since is None or now - safe_since < rules.grace.total_seconds():
        return Turn.NOT_YET
    return Turn.DUE if gone < rules.at_most_per_hour else Turn.HELD_BACK


def gone_within_hour(decisions: Iterable[Decision], now: float) -> int:
    """Count those that the daemon may have released within the last hour; `now` in Unix time.

    One that was decided on later than now counts as well: a clock was set back.
    """
    return sum(
        decision.outcome in _MAY_HAVE_ENDED_ONE and not decision.by_hand and decision.at > now - HOUR
        for decision in decisions
    )


def why_another(then: Who, now: Who) -> str:
    """Say why the box that is read now may not be the one whose verdict began, or is at work; "" where neither is."""
    if not then.machine or not now.machine:
        return "the box does not say which machine it is"
    if then != now:
        return "another machine answers than when the verdict began"
    if now.company:
        # A verdict asks for it before its whole look, which takes its time.
        return f"since the last full check: {now.company}"
    return ""


def why_not_named(host: Host, who: Who, instance: Instance | None) -> str:
    """Say why the instance that the cloud names now is not surely the box that was read; "" where it is.

    `instance` is what the cloud says now of the host's id, `host` what it was reached by.
    """
    if instance is None:
        return "the cloud names no such instance now"
    if instance.address != host.address:
        return f"the cloud names another address for it now, {instance.address or 'none'}"
    if instance.hostname is not None and _plain(instance.hostname) not in _names(who.hostname):
        return f"the cloud calls it {instance.hostname}, and it calls itself {who.hostname or 'nothing'}"
    if instance.status != _ACTIVE:
        return f"the cloud says that it is {instance.status or 'in no state'}, not {_ACTIVE}"
    if instance.can_end is False:
        return "the cloud says that it can't be terminated now"
    return ""


def _names(hostname: str) -> set[str]:
    """Return how the cloud may call a machine that calls itself so: with its domain or without."""
    return {_plain(hostname), _plain(hostname.partition(".")[0])} - {""}


def _plain(hostname: str) -> str:
    # The cloud writes 198.51.100.2 in places for what the box calls 198-51-100-2.
    return hostname.lower().replace(".", "-")


def why_not_safe(verdict: Verdict) -> tuple[str, str]:
    """Say why a last full check does not let a box go, and by what to tell that from other reasons."""
    if verdict.reasons:
        first = verdict.reasons[0]
        return f"a last full check found that {first.detail}", f"verdict:{first.kind}"
    kinds = sorted({str(loss.kind) for loss in verdict.losses if not verdict.accepts(loss.kind)})
    return f"it would lose {', '.join(kinds)}", f"losses:{kinds}"


def reason_for(verdict: Verdict, stood: timedelta) -> str:
    """Say why a box is released."""
    minutes, seconds = divmod(int(stood.total_seconds()), 60)
    long = f"{minutes} min" if minutes else f"{seconds} s"
    said = "all that is wanted is here" + (f", and was for {long} without a break" if stood else "")
    lost = sorted({str(loss.kind) for loss in verdict.losses})
    return f"{said}; lost as accepted: {', '.join(lost)}" if lost else said
