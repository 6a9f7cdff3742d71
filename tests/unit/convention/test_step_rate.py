"""How a run goes: its pace by the times at which lines were seen, and a loss that is no number any more."""

import math

import pytest

from harvestd.convention.metadata.progress import Reading, StepRate, advanced, readings


def steps(*times: float, first: int = 1) -> StepRate:
    """Return how a run goes of which one step was heard at each of these times."""
    rate: StepRate | None = None
    for number, at in enumerate(times):
        rate = advanced(rate, [Reading(first + number, 1.0)], at, live=number > 0)
    assert rate is not None
    return rate


def losses(*heard: float | None) -> StepRate:
    """Return how a run goes of which these losses were heard, a step each."""
    return advanced(None, [Reading(number, loss) for number, loss in enumerate(heard)], 0.0, live=False)


def test_silence_is_measured_by_what_is_usual() -> None:
    """Ten times the usual gap is too long; a pause that saving or an eval takes is not."""
    slow = steps(0, 200, 400, 600, 800)
    assert slow.usual == 200
    assert not slow.is_stalled(1999)
    assert slow.is_stalled(2001)


def test_a_quick_run_may_be_silent_for_minutes() -> None:
    """Ten times a second is no time."""
    quick = steps(0, 1, 2, 3, 4)
    assert [quick.is_stalled(silent) for silent in (299, 301)] == [False, True]


def test_of_a_run_whose_pace_is_not_known_nothing_is_said() -> None:
    """Two gaps are too few, and a log that came at once shows none."""
    assert not steps(0, 1, 2).is_stalled(1e9)
    whole = advanced(None, [Reading(step, 1.0) for step in range(60)], 0.0, live=False)
    assert whole.gaps == ()
    assert advanced(whole, [Reading(60, 1.0)], 5000.0, live=False).gaps == ()


def test_several_steps_at_once_share_the_time() -> None:
    """A look may bring more than one line; a second line of a step is no step."""
    rate = advanced(steps(0, 10), [Reading(3, 1.0), Reading(4, 1.0), Reading(4, None)], 40.0, live=True)
    assert list(rate.gaps) == [10.0, 15.0]
    assert advanced(rate, [Reading(4, None)], 90.0, live=True).at == 40.0


def test_one_long_pause_changes_nothing() -> None:
    """What is usual is the middle of what was seen."""
    assert steps(0, 10, 20, 5000, 5010, 5020).usual == 10


def test_a_step_back_is_a_run_that_was_resumed() -> None:
    """It starts anew: its pace and its losses are learned again."""
    resumed = advanced(steps(0, 1, 2, 3, 4), [Reading(2, math.nan)], 100.0, live=True)
    assert resumed == StepRate(began=100.0, step=2, at=100.0)


def test_a_loss_that_is_no_number_any_more_is_told_until_it_is_one() -> None:
    """The first of them counts."""
    diverged = losses(1.0, 0.5, math.nan, math.inf)
    assert diverged.diverged is not None
    assert diverged.diverged.step == 2
    assert losses(1.0, math.nan, 0.5).diverged is None
    assert losses(1.0, -math.inf).diverged is not None


@pytest.mark.parametrize("heard", [(math.nan, math.nan), (None, math.nan), (1.0, None), (1.0, 2.0), ()])
def test_what_was_never_finite_did_not_diverge(heard: tuple[float | None, ...]) -> None:
    """A log without a loss, or with one that never was a number, says nothing."""
    assert losses(*heard).diverged is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"step": 3, "loss": 0.5, "kl": NaN, "gns_mu": Infinity}', [Reading(3, 0.5)]),
        (b'{"step": 3, "kl": NaN}', [Reading(3, None)]),
        (b'{"step": 3, "loss": 2}', [Reading(3, 0.0)]),
        (b'{"step": 3, "loss": ' + b"9" * 400 + b"}", [Reading(3, 0.0)]),
        (b'{"step": 3, "loss": 1e999}', [Reading(3, math.inf)]),
        (b'{"step": 3, "loss": "nan"}', [Reading(3, None)]),
        (b'{"step": 3, "loss": true}', [Reading(3, None)]),
        (b'{"loss": 1.0}', []),
        (b'{"step": 3, "lo', []),
        (b"[" * 100_000, []),
        (b"[3]", []),
        (b"\xff", []),
    ],
)
def test_a_line_is_read_for_its_step_and_its_loss(line: bytes, expected: list[Reading]) -> None:
    """NaN in other columns is healthy; what is torn or nonsensical says nothing."""
    assert readings([line]) == expected
