"""What a box costs: whole cents for any time, and nothing where a price or a moment is not known."""

import pytest

from harvestd.inventory.host import cents_for, cents_since, money, rate


@pytest.mark.parametrize(
    ("cents_per_hour", "seconds", "cents"),
    [
        (249, 3_600.0, 249),
        (249, 900.0, 62),  # 62.25
        (250, 18.0, 1),  # 1.25
        (100, 18.0, 1),  # half a cent goes up
        (100, 17.9, 0),
        (0, 1e9, 0),
        (249, -5.0, 0),
        (2_500_000, 86_400.0 * 365, 21_900_000_000),
        (None, 3_600.0, None),
        (249, None, None),
    ],
)
def test_cost_of_a_time(cents_per_hour: int | None, seconds: float | None, cents: int | None) -> None:
    """A time costs its share of an hour's price, in whole cents; a clock that goes back earns nothing."""
    assert cents_for(cents_per_hour, seconds) == cents


def test_cost_since_a_moment() -> None:
    """What it has cost since it went idle is unknown while it is at work."""
    assert cents_since(249, 1_000.0, 1_000.0 + 7_200) == 498
    assert cents_since(249, None, 5_000.0) is None
    assert cents_since(None, 1_000.0, 5_000.0) is None


def test_money_as_people_read_it() -> None:
    """Cents have two digits, and thousands are parted."""
    assert (money(5), money(249), money(1_234_567)) == ("$0.05", "$2.49", "$12,345.67")
    assert rate(249) == "$2.49/h"
