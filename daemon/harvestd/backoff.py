"""Exponential backoff: the one formula for everything that is retried."""

from datetime import timedelta
from typing import Final

_MOST_DOUBLINGS: Final = 16
"""The limit of the exponent: larger powers exceed every `longest`, and above 1,023 a float overflows."""


def backoff(first: float, failures: int, longest: float) -> float:
    """Return the seconds to wait after `failures` failures in a row, counted from 1.

    `first` seconds after the first one, twice as long after each further one, never more than `longest`.
    """
    return min(longest, first * 2.0 ** min(max(failures - 1, 0), _MOST_DOUBLINGS))


def backoff_span(first: timedelta, failures: int, longest: timedelta) -> timedelta:
    """Return the same as `backoff`, as a timedelta."""
    return timedelta(seconds=backoff(first.total_seconds(), failures, longest.total_seconds()))
