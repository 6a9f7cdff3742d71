"""The small curve of a run's loss."""

import math

from harvestd.page.curves import drawn


def test_a_curve_fills_its_box_and_has_gaps() -> None:
    """The lowest and the highest value touch the margins; what is no number is a gap, never a joined line."""
    found = drawn([1.0, 0.0, None, -1.0, math.nan, 0.5])
    assert found is not None
    assert found.path == "M0.0 3.0L19.4 14.0M58.2 25.0M97.0 8.5"
    assert (found.value, found.zero, found.end) == ("0.5000", 14.0, "M97.0 8.5h0")
    assert found.label == "Loss from 1.000 to 0.5000"


def test_equal_values_are_a_line_in_the_middle() -> None:
    """A loss that does not change divides by nothing; one without any number is no curve."""
    flat = drawn([0.25, 0.25])
    assert flat is not None
    assert flat.path == "M0.0 14.0L97.0 14.0"
    assert drawn([None, math.inf]) is None
    assert drawn([]) is None
