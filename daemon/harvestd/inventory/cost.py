"""The cost of a host. Pure arithmetic in hundredths of the cloud's currency; None is an unknown price."""

from fractions import Fraction

_HOUR = 3_600
_HUNDRED = 100


def cents_for(cents_per_hour: int | None, seconds: float | None) -> int | None:
    """Return the cost of a host for a number of seconds, rounded to whole cents, half a cent up.

    None where price or time is unknown; a negative time costs nothing.
    """
    if cents_per_hour is None or seconds is None:
        return None
    exact = Fraction(cents_per_hour) * Fraction(max(0.0, seconds)) / _HOUR
    return int(exact + Fraction(1, 2))


def cents_since(cents_per_hour: int | None, since: float | None, now: float) -> int | None:
    """Return the cost since a moment; both moments in Unix time, None where there is no such moment."""
    return cents_for(cents_per_hour, None if since is None else now - since)


def money(cents: int) -> str:
    """Return an amount as text, such as "$2.49"."""
    return f"${cents // _HUNDRED:,}.{cents % _HUNDRED:02}"


def rate(cents_per_hour: int) -> str:
    """Return a price as text, such as "$2.49/h"."""
    return f"{money(cents_per_hour)}/h"
