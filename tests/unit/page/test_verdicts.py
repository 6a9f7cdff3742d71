"""A verdict and what is at risk, in words."""

import time
from datetime import UTC, datetime

from harvestd.convention.kinds import LossKind
from harvestd.harvest.metrics import HostTally
from harvestd.harvest.state import Judged
from harvestd.page.verdicts import at_risk, shown
from harvestd.safety.verdict import FRESH_FOR, Loss, Reason, ReasonKind, Verdict, VerdictAnswer

SAFE = Verdict(VerdictAnswer.SAFE)
LOST = Loss(LossKind.CHECKPOINTS, "/roots/run_1: step_10", 5 << 30, 6)
CODE = Loss(LossKind.UNCOMMITTED_WORK, "/home/ubuntu/grpo: 2 changed files", None, 2)
RUNNING = Reason(ReasonKind.RUNNING, "/roots/run_1 is not known to have ended")
MISSING = Reason(ReasonKind.OUTSTANDING, "/roots/run_1/training_state/step_final is not here yet", 433 << 20)
QUIET = Reason(ReasonKind.NOT_QUIET, "nothing has changed for 3 s only", seconds=900.0)
DUE = Reason(ReasonKind.NOT_LOOKED_AT, "no full scan was made for this verdict", seconds=0.0)


def tally(state: str = "connected", pending: int = 0, *, read: bool = True) -> HostTally:
    """Return the metrics of a host that was read just now, unless it never was."""
    return HostTally(state=state, pending=pending, last_success=datetime.now(UTC) if read else None)


def judged(verdict: Verdict, age: float = 0.0) -> Judged:
    """Return a verdict of this age in seconds."""
    return Judged(verdict, time.time() - age)


def test_only_a_present_verdict_is_an_answer() -> None:
    """Without a verdict, with an old one and without a connection it is not known, whatever it was."""
    assert shown(None, tally()).word == "Not known"
    assert shown(judged(SAFE), tally()).word == "Safe"
    assert shown(judged(SAFE, FRESH_FOR + 60), tally()).word == "Not known"
    for state in ("lost", "quarantined", "failed", "connecting"):
        assert shown(judged(SAFE), tally(state)).word == "Not known"


def test_reasons_are_short_in_the_fleet_and_whole_on_the_host() -> None:
    """Paths give up their folders, and what follows from another reason is left out; a host has all of it."""
    verdict = judged(Verdict(VerdictAnswer.NOT_SAFE, (MISSING, RUNNING, QUIET, DUE)))
    short, whole = shown(verdict, tally()), shown(verdict, tally(), whole=True)
    assert [each.text for each in short.because] == ["step_final is not here yet", "a run is being written"]
    assert short.because[0].size == "433\u00a0MiB"
    assert [each.text for each in whole.because] == [each.detail for each in (MISSING, RUNNING, QUIET, DUE)]
    only = shown(judged(Verdict(VerdictAnswer.NOT_SAFE, (DUE,))), tally())
    assert [each.text for each in only.because] == ["a full scan is due"]


def test_losses_are_summed_by_kind_and_accepted_ones_do_not_count() -> None:
    """An unknown size is never nothing; what the operator accepts makes a host safe."""
    found = shown(judged(Verdict(VerdictAnswer.SAFE_EXCEPT, losses=(LOST, LOST, CODE))), tally())
    assert (found.kind, [each.size for each in found.because]) == ("except", ["10.0\u00a0GiB", "size not known"])
    accepted = frozenset({LossKind.CHECKPOINTS, LossKind.UNCOMMITTED_WORK})
    verdict = judged(Verdict(VerdictAnswer.SAFE_EXCEPT, losses=(LOST, CODE), accepted=accepted))
    assert shown(verdict, tally()).word == "Safe"
    assert at_risk(verdict, tally(), is_training=False, is_ending=False).amount == "nothing"


def test_what_is_at_risk_is_named_with_its_size_or_time() -> None:
    """Nothing is claimed of a host that was never read; danger is only where the host is going or gone."""
    assert at_risk(None, tally(read=False), is_training=False, is_ending=False).amount == "not known"
    lost = at_risk(judged(SAFE), tally("lost", 100), is_training=True, is_ending=False)
    assert (lost.danger, lost.what) == (True, "of its log, at least")
    coming = judged(Verdict(VerdictAnswer.NOT_SAFE, (MISSING,)))
    risk = at_risk(coming, tally(pending=433 << 20), is_training=False, is_ending=False)
    assert (risk.amount, risk.what, risk.danger) == ("433\u00a0MiB", "of step_final", False)
    assert at_risk(coming, tally(pending=1), is_training=False, is_ending=True).danger
