"""How durations, sizes and rates are read."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvestd.settings.types import at_least, duration_from, rate_from, size_from, within


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10s", timedelta(seconds=10)),
        ("15m", timedelta(minutes=15)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1h 30m", timedelta(hours=1, minutes=30)),
        ("2d", timedelta(days=2)),
        ("1w", timedelta(weeks=1)),
        ("250ms", timedelta(milliseconds=250)),
        ("1.5s", timedelta(seconds=1.5)),
        ("0s", timedelta(0)),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, expected: timedelta) -> None:
    """Every unit is known, alone and in a row."""
    assert duration_from(text) == expected


@pytest.mark.parametrize(
    "value", ["", "10", "s", "10 parsecs", "-5s", "5s1h", "5s5s", "1e9s", "٣s", 10, 1.5, True, None, "9999999w"]
)
def test_a_duration_that_could_mean_several_things_is_refused(value: object) -> None:
    """No unit, an unknown one, a wrong order or another type is never guessed at."""
    with pytest.raises(ValueError, match=r"duration|ten years"):
        duration_from(value)


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int) -> None:
    """Parts add up exactly."""
    read = duration_from(f"{hours}h{minutes}m{seconds}s")
    assert read == timedelta(hours=hours, minutes=minutes, seconds=seconds)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5GiB", 5 * 1024**3),
        ("50MiB", 50 * 1024**2),
        ("1.5GB", 1_500_000_000),
        ("1 kB", 1_000),
        ("1TiB", 1024**4),
        ("12B", 12),
        ("12", 12),
        (4096, 4096),
        ("0.1kB", 100),
    ],
)
def test_sizes_are_read_as_people_write_them(value: object, expected: int) -> None:
    """Binary and decimal units are told apart, and the answer is exact."""
    assert size_from(value) == expected


@pytest.mark.parametrize("value", ["", "GiB", "5 gib", "5G", "-1", -1, True, 1.5, None, "1e3", 2**63, "9999999PiB"])
def test_what_is_no_size_is_refused(value: object) -> None:
    """An unknown unit, a negative number or one that no file system knows is refused."""
    with pytest.raises(ValueError, match="size"):
        size_from(value)


@pytest.mark.parametrize(
    ("value", "expected"), [("unlimited", None), (None, None), ("50MiB/s", 50 * 1024**2), ("1kB", 1000), (8, 8)]
)
def test_rates_are_read_as_people_write_them(value: object, expected: int | None) -> None:
    """A rate is a size a second, or unlimited."""
    assert rate_from(value) == expected


@pytest.mark.parametrize("value", ["0", "0MiB/s", 0, -1, "fast", "5MiB/h", True, [1]])
def test_what_is_no_rate_is_refused(value: object) -> None:
    """Zero would mean to fetch nothing, which is never meant."""
    with pytest.raises(ValueError, match="rate"):
        rate_from(value)


def test_bounds_belong_to_what_they_allow() -> None:
    """Both ends are allowed, and the sentence names them as they were written."""
    check = within("1s", "1h")
    assert check(timedelta(seconds=1)) == timedelta(seconds=1)
    assert check(timedelta(hours=1)) == timedelta(hours=1)
    with pytest.raises(ValueError, match="between 1s and 1h"):
        check(timedelta(0))
    assert at_least("1kB")(1_000) == 1_000
    with pytest.raises(ValueError, match="at least 1kB"):
        at_least("1kB")(999)
