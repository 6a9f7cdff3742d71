"""Numbers, spans of time and host texts in words."""

import math

import pytest

from harvestd.page import words

SPACE = "\u00a0"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1,023 B"), (41 * 1024, "41.0 KiB"), (433 << 20, "433 MiB"), (int(5.2 * 2**30), "5.2 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    """Sizes have a unit after a space that does not break."""
    assert words.size(count) == text.replace(" ", SPACE)


def test_a_part_has_the_unit_of_the_whole() -> None:
    """Both ends of a bar can be compared."""
    assert words.size_of(411 << 20, 844 << 20) == f"411 of 844{SPACE}MiB"
    assert words.size_of(0, 2000) == f"0.0 of 2.0{SPACE}KiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.4, "9 s"), (460, "7 min 40 s"), (1_560, "26 min"), (8_580, "2 h 23 min"), (97_200, "1 d 3 h"), (7_200, "2 h")],
)
def test_spans_have_two_units_at_most(seconds: float, text: str) -> None:
    """Seconds go from ten minutes on."""
    assert words.duration(seconds).replace(SPACE, " ") == text


def test_a_span_that_grows_changes_by_the_minute() -> None:
    """So a view that shows it is the same for a minute."""
    assert words.span(59) == f"under 1{SPACE}min"
    assert words.span(125) == f"2{SPACE}min"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0021, "0.0021"), (-0.0004, "\u22120.0004"), (530.4, "530.4"), (1.5e-5, "1.50e\u221205"), (math.nan, "NaN")],
)
def test_figures(value: float, text: str) -> None:
    """Measured values have a true minus and the digits that matter."""
    assert words.figure(value) == text


def test_a_hosts_text_is_one_line_and_bounded() -> None:
    """Controls and marks of direction are written out, secrets are hidden, and the length of the rest is named."""
    assert words.told("a\x1b[31m\u202eb\n") == r"a\x1b[31m\u202eb\n"
    assert words.told("x" * 4_096).endswith("\u2026 (4,096 characters)")
    assert "s3cretvalue" not in words.told("token=s3cretvalue9")
