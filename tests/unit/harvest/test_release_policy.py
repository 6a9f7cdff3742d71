"""Who may be released, situation by situation."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from msgspec.structs import replace

from harvestd.catalogue.entries import Decision, ReleaseOutcome
from harvestd.convention.kinds import LossKind
from harvestd.harvest.context import Context
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.release.policy import (
    MachineIdentity,
    ReleaseStage,
    SafeStreak,
    gone_within_hour,
    reason_for,
    stage_of,
    still_safe,
    why_another,
    why_not_named,
    why_not_safe,
)
from harvestd.harvest.state import Judged
from harvestd.harvest.verdict import service
from harvestd.inventory.host import Host
from harvestd.inventory.lambda_api import Instance
from harvestd.safety.verdict import Loss, Reason, ReasonKind, Verdict, VerdictAnswer
from harvestd.settings import Settings
from harvestd.settings.sections import Release

NOW = 10_000.0
DRAINED = Host("lambda_cloud:" + "a" * 32, "gpu-a", "198.51.100.2", "lambda_cloud")
RULES = Release(terminate="when-drained", only=("gpu-a", "gpu-b"), grace=timedelta(minutes=10), at_most_per_hour=2)
IDENTITY = MachineIdentity("0123456789abcdef", "198-51-100-2")
NAMED = Instance("a" * 32, "gpu-a", "198.51.100.2", "active")


@dataclass(frozen=True)
class Case:
    """How a situation differs from that of a box that may go."""

    what: str
    expected: ReleaseStage
    host: Host = DRAINED
    rules: Release = RULES
    safe_for: float | None = 600.0
    gone: int = 0


def _rules(**changed: object) -> Release:
    return Release.model_validate(RULES.model_dump() | changed)


@pytest.mark.parametrize(
    "case",
    [
        Case("drained for the grace period", ReleaseStage.DUE),
        Case("one of two went already", ReleaseStage.DUE, gone=1),
        Case("dry-run is decided as if it were meant", ReleaseStage.DUE, rules=_rules(terminate="dry-run")),
        Case("no grace", ReleaseStage.DUE, rules=_rules(grace=timedelta(0)), safe_for=0.0),
        Case("never", ReleaseStage.NOT_MEANT, rules=_rules(terminate="never")),
        Case("not on the list", ReleaseStage.NOT_MEANT, host=replace(DRAINED, name="gpu-c")),
        Case("an empty list", ReleaseStage.NOT_MEANT, rules=_rules(only=())),
        Case("a name on the list is no pattern", ReleaseStage.NOT_MEANT, rules=_rules(only=("gpu-*",))),
        Case("nor the beginning of one", ReleaseStage.NOT_MEANT, host=replace(DRAINED, name="gpu-a-2")),
        Case("written down, not rented", ReleaseStage.NOT_MEANT, host=replace(DRAINED, source="static")),
        Case("ending by itself", ReleaseStage.NOT_MEANT, host=replace(DRAINED, ending=True)),
        Case("not safe", ReleaseStage.NOT_YET, safe_for=None),
        Case("safe just now", ReleaseStage.NOT_YET, safe_for=0.0),
        Case("a moment too early", ReleaseStage.NOT_YET, safe_for=599.9),
        Case("two of two went", ReleaseStage.HELD_BACK, gone=2),
        Case("more than may be went: the rule was changed", ReleaseStage.HELD_BACK, gone=5),
        Case("too early and too many", ReleaseStage.NOT_YET, gone=2, safe_for=1.0),
    ],
    ids=lambda case: case.what,
)
def test_whose_turn_it_is(case: Case) -> None:
    """Only who is meant, was safe for long enough and is within the rate may go."""
    since = None if case.safe_for is None else NOW - case.safe_for
    assert stage_of(case.host, since, case.rules, case.gone, NOW) is case.expected


@dataclass(frozen=True)
class Hearing:
    """One hearing of a verdict after a first one at 100, after a last movement at 40; all of the clock nobody sets."""

    what: str
    at: float
    still_since: float | None
    since: float
    """When the streak began by then."""
    idle_since: float | None = 1_000.0
    """The last movement in Unix time."""
    before: SafeStreak | None = field(default=SafeStreak(50.0, 100.0, 1_000.0, 40.0))


@pytest.mark.parametrize(
    "case",
    [
        Hearing("goes on", 110.0, 40.0, 50.0),
        Hearing("something moved and it became safe again between two hearings", 110.0, 40.001, 110.0),
        Hearing("our clock was set back", 110.0, 40.0, 50.0, idle_since=900.0),
        Hearing("nobody heard of it for long", 170.0, 40.0, 170.0),
        Hearing("nobody knows since when any more", 110.0, None, 110.0),
        Hearing("the first", 110.0, 40.0, 110.0, before=None),
    ],
    ids=lambda case: case.what,
)
def test_a_verdict_of_safe_must_stand_without_a_break(case: Hearing) -> None:
    """Whatever interrupts it lets the grace period begin anew."""
    judged = Judged(Verdict(VerdictAnswer.SAFE), case.at, case.idle_since, case.still_since)
    assert still_safe(case.before, judged, case.at, timeout=60.0).since == case.since


def test_verdicts_that_are_recorded_late_are_one_streak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that lags between the scan and the record does not let the grace period begin anew."""
    context, clock = Context.of(Settings(), NullListener()), 100.0
    monkeypatch.setattr("harvestd.harvest.verdict.service.time.monotonic", lambda: clock)
    safe: SafeStreak | None = None
    for lag in (0.0, 1.4, 30.0, 0.2):
        clock += 10.0 + lag
        service.record(DRAINED, context, Verdict(VerdictAnswer.SAFE), still_since=40.0)
        judged = context.states.of(DRAINED.identity).verdict
        assert judged is not None
        safe = still_safe(safe, judged, clock, timeout=60.0)
    assert safe is not None
    assert safe.since == 110.0


def _decision(outcome: ReleaseOutcome, ago: float, *, by_hand: bool = False) -> Decision:
    return Decision("gpu-a", DRAINED.identity, "", outcome, by_hand=by_hand, at=NOW - ago)


def test_what_counts_against_the_rate() -> None:
    """Whatever may have ended a box within the hour counts, one that a process died over and a clock set back too."""
    counting = [
        _decision(ReleaseOutcome.RELEASED, 3_599),
        _decision(ReleaseOutcome.UNCLEAR, 10),
        _decision(ReleaseOutcome.ASKED, 10),
        _decision(ReleaseOutcome.RELEASED, -500),
    ]
    others = [
        _decision(ReleaseOutcome.RELEASED, 3_601),
        _decision(ReleaseOutcome.REFUSED, 10),
        _decision(ReleaseOutcome.PLANNED, 10),
        _decision(ReleaseOutcome.RELEASED, 10, by_hand=True),
    ]
    assert gone_within_hour([*counting, *others], NOW) == len(counting)


@pytest.mark.parametrize(
    ("then", "now", "why"),
    [
        (IDENTITY, IDENTITY, ""),
        (IDENTITY, MachineIdentity("ff", IDENTITY.hostname), "another machine"),
        (IDENTITY, MachineIdentity(IDENTITY.machine, "other"), "another machine"),
        (MachineIdentity("", IDENTITY.hostname), MachineIdentity("", IDENTITY.hostname), "does not say"),
        (IDENTITY, MachineIdentity("", IDENTITY.hostname), "does not say"),
    ],
)
def test_the_machine_is_the_one_whose_verdict_began(then: MachineIdentity, now: MachineIdentity, why: str) -> None:
    """Machine id and hostname are both the same as then, and both are known."""
    assert (why in why_another(then, now)) if why else why_another(then, now) == ""


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"hostname": "198-51-100-2"}, ""),
        ({"hostname": "198.51.100.2"}, ""),
        ({"hostname": "198-51-100-3"}, "calls it 198-51-100-3"),
        ({"can_end": True}, ""),
        ({"can_end": False}, "can't be terminated"),
        ({"address": "198.51.100.3"}, "another address"),
        ({"address": None}, "another address"),
        ({"status": "booting"}, "booting"),
        ({"status": "unhealthy"}, "unhealthy"),
        ({"status": "terminating"}, "terminating"),
        ({"status": "a-new-one"}, "a-new-one"),
        ({"status": None}, "no state"),
    ],
)
def test_the_box_is_the_instance_that_is_named(changed: dict[str, object], why: str) -> None:
    """Address, hostname where given, state and the possibility to end it speak for it, or it stays."""
    found = why_not_named(DRAINED, IDENTITY, replace(NAMED, **changed))
    assert (why in found) if why else found == ""


def test_an_instance_that_is_not_named_stays() -> None:
    """Without a word of the cloud there is nothing to compare."""
    assert "no such instance" in why_not_named(DRAINED, IDENTITY, None)


def test_a_hostname_with_its_domain_is_the_same() -> None:
    """A box may call itself by its whole name where the cloud uses the first part."""
    identity = MachineIdentity(IDENTITY.machine, "198-51-100-2.cloud.example")
    assert why_not_named(DRAINED, identity, replace(NAMED, hostname="198-51-100-2")) == ""
    assert why_not_named(DRAINED, MachineIdentity(IDENTITY.machine, ""), replace(NAMED, hostname="198-51-100-2"))


def test_reasons_are_told_apart_by_their_kind() -> None:
    """The same kind of reason with another number is no news; other losses are."""
    first, second = (
        Verdict(VerdictAnswer.NOT_SAFE, (Reason(ReasonKind.OUTSTANDING, f"{number} files are to come"),))
        for number in (3, 4)
    )
    assert why_not_safe(first)[1] == why_not_safe(second)[1]
    assert "3 files" in why_not_safe(first)[0]
    loss = Loss(LossKind.RECORDS, "records", 10)
    lost = Verdict(VerdictAnswer.SAFE_EXCEPT, losses=(loss,))
    assert why_not_safe(lost)[0] == "it would lose records"
    accepted = replace(lost, accepted=frozenset({LossKind.RECORDS}))
    assert "lost as accepted: records" in reason_for(accepted, timedelta(minutes=10))
