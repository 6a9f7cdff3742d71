"""Sizes, spans of time and moments as people read them."""

import time

import pytest

from harvestd.cli.output import units
from harvestd.json_text import timestamp


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**3 + 1024**3 // 2, "5.5 GiB"),
        (2**63, "8192.0 PiB"),
    ],
)
def test_size_takes_the_largest_unit(count: int | None, expected: str) -> None:
    """A size stands in the largest unit of which there is one, and never as 1024.0 of a smaller one."""
    assert units.size(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "-"), (0.04, "0.0s"), (9.9, "9.9s"), (59.6, "1m00s"), (61, "1m01s"), (3_661, "1h01m"), (90_000, "1d01h")],
)
def test_duration_takes_two_units(seconds: float | None, expected: str) -> None:
    """A span of time stands in its two largest units."""
    assert units.duration(seconds) == expected


@pytest.mark.parametrize(
    ("passed", "expected"), [(0.5, "just now"), (-5, "just now"), (42.5, "42s ago"), (7_260, "2h01m ago")]
)
def test_age_counts_from_now(passed: float, expected: str) -> None:
    """An age counts from now, and a clock that was set back makes no negative one."""
    assert units.age(time.time() - passed) == expected


def test_age_of_what_never_was() -> None:
    """What never happened has no age."""
    assert units.age(None) == "never"


def test_timestamp_is_utc() -> None:
    """A moment in a document is RFC 3339 in UTC, whatever the zone of this machine."""
    assert timestamp(1_755_660_703.9) == "2025-08-20T03:31:43Z"
    assert timestamp(None) is None


def test_count_takes_an_s() -> None:
    """One thing has no s."""
    assert [units.count(number, "host") for number in (0, 1, 2)] == ["0 hosts", "1 host", "2 hosts"]
