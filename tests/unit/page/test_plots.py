"""Plots as SVG: round ticks, gaps that stay gaps, and the strips of a run."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvestd.page import plots
from harvestd.page.run import strips

finite = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-6)


def curve(steps: list[int], values: list[float | None], **more: Any) -> dict[str, Any]:  # noqa: ANN401  (JSON)
    """Return a curve as the API has it."""
    return {"width": 1, "step": steps, "last": values, **more}


def series(steps: int, **curves: dict[str, Any]) -> dict[str, Any]:
    """Return a series as the API has it."""
    return {"step": steps, "curves": curves, "complete": True}


@given(st.lists(finite, min_size=1, max_size=50))
def test_a_scale_has_two_to_six_round_ticks_inside(values: list[float]) -> None:
    """Values that are not far from all others are inside, and labels differ."""
    scale = plots.scale_of([values])
    assert 2 <= len(scale.ticks) <= 6
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)
    assert len({scale.label(tick) for tick in scale.ticks}) == len(scale.ticks)


def test_a_spike_does_not_flatten_a_curve() -> None:
    """It leaves the plot instead."""
    assert plots.scale_of([[math.sin(step) for step in range(1000)], [1e6]]).high < 10


@pytest.mark.parametrize(
    ("last", "expected"), [(1, [0, 1]), (20, [0, 5, 10, 15, 20]), (64, [0, 10, 20, 30, 40, 50, 60])]
)
def test_steps_are_whole(last: int, expected: list[int]) -> None:
    """The axis of steps has no half of one."""
    assert list(plots.steps_scale(last).ticks) == expected


def test_a_gap_is_never_bridged() -> None:
    """Each part begins anew, and a part of one point is a dot."""
    assert plots.line([0, 0.25, 0.5, 0.75], [0.0, None, 0.5, 1.0], 100) == "M0 100h0M500 50L750 0"
    assert plots.area([0, 0.5, 1], [0.0, 0.0, None], [1.0, 1.0, None], 100) == "M0 0L500 0L500 100L0 100Z"


def test_smoothing_keeps_gaps_and_constants() -> None:
    """The average of equal values is the value, from the first one on."""
    assert plots.smoothed([2.0, None, 2.0], 0.9) == [pytest.approx(2.0), None, pytest.approx(2.0)]


def test_the_strips_of_a_run() -> None:
    """Known keys come first with their names; what was NaN in several keys at once is one line and one mark."""
    gap = {"nonfinite": [[2, 1], [3, 1]]}
    shown = strips.curves(
        series(
            4,
            odd=curve([1, 2], [1.0, 2.0]),
            kl=curve([1, 2, 3, 4], [0.1, None, None, 0.2], **gap),
            loss=curve([1, 2, 3, 4], [1.0, None, None, 2.0], **gap),
        ),
        series(8, loss=curve([1, 8], [3.0, 4.0])),
        8,
    )
    assert [(strip.name, strip.value, strip.before) for strip in shown.strips] == [
        ("Loss", "2.000", "4.000"),
        ("KL", "0.2000", ""),
    ]
    assert [strip.key for strip in shown.more] == ["odd"]
    assert shown.gaps == (("Loss and KL were", 2, 3, 2),)
    assert [(mark.step, mark.text) for mark in shown.marks] == [(2, "NaN in 2 rows")]
    assert (shown.last, shown.done, shown.strips[0].line.count("M")) == (8, "50%", 2)


def test_a_silence_is_a_step_that_took_much_longer() -> None:
    """A pause of the daemon, in which many steps passed at the usual pace, is none."""
    steps = [1, 2, 3, 4, 5, 105, 106]
    times = [0.0, 10.0, 20.0, 700.0, 710.0, 1710.0, 1720.0]
    found = strips.curves(series(106, loss=curve(steps, [1.0] * 7, time=times)), None, None)
    assert found.silences == ((3, 20.0, 680.0),)


def test_a_series_without_values_has_no_strips() -> None:
    """The page says so in words."""
    assert strips.curves({"step": None, "curves": {}, "complete": True}, None, None).strips == ()
