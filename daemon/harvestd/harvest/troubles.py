"""What did not work on one host, and when it may be tried again: no file is asked for in a storm."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that failed."""

    reason: str
    attempts: int
    not_before: float
    """Monotonic seconds."""


class Troubles:
    """Counts failures by place, doubling the pause after each."""

    def __init__(self) -> None:
        self._found: dict[str, Trouble] = {}

    def failed(self, place: str, reason: str) -> None:
        """Note that `place` could not be brought home."""
        attempts = self.attempts(place) + 1
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempts - 1))
        self._found[place] = Trouble(reason, attempts, time.monotonic() + pause)

    def cleared(self, place: str) -> None:
        """Note that `place` is well."""
        self._found.pop(place, None)

    def attempts(self, place: str) -> int:
        """Give how often `place` failed in a row."""
        return self._found[place].attempts if place in self._found else 0

    def may_try(self, place: str) -> bool:
        """Tell whether the pause after the last failure is over."""
        found = self._found.get(place)
        return found is None or found.not_before <= time.monotonic()

    def pause(self, places: Iterable[str]) -> float:
        """Give the seconds until the first of `places` may be tried; 0 if one may be now, or there is none."""
        now = time.monotonic()
        waits = [self._found[place].not_before - now if place in self._found else 0.0 for place in places]
        return max(0.0, min(waits, default=0.0))

    def all(self) -> dict[str, Trouble]:
        """Give what is in trouble now."""
        return dict(self._found)
