"""Tracks what failed on one host and when it may be tried again, so that retries are spaced out."""

import time
from collections.abc import Iterable

from harvestd.bulkhead import backoff
from harvestd.convention.structs import Immutable
from harvestd.harvest.metrics import NullListener, ProgressListener
from harvestd.planning.plan import Waiting
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0
_LONGEST_DELAY = 30.0
STUCK_PAUSE = 60.0
_TOLD_AT = 3
"""Failures in a row after which a warning is logged: one or two are normal while a host writes."""


class Failure(Immutable):
    """One failing remote path."""

    reason: str
    attempts: int
    not_before: float
    """In monotonic seconds."""


class FailureTracker:
    """Counts failures by remote path; the pause doubles after each."""

    def __init__(self, host: str, monitor: ProgressListener | None = None) -> None:
        self._host = host
        self._monitor = monitor or NullListener()
        self._found: dict[str, Failure] = {}

    def failed(self, place: str, reason: str) -> None:
        """Note that `place` could not be fetched."""
        attempts = self.attempts(place) + 1
        self._note(place, reason, backoff(FIRST_PAUSE, attempts, _LONGEST_PAUSE), attempts)

    def stuck(self, place: str, reason: str) -> None:
        """Note that reading `place` hangs: it delayed all other files of the host, which come first now."""
        attempts = max(self.attempts(place) + 1, _TOLD_AT)
        self._note(place, reason, backoff(STUCK_PAUSE, attempts - _TOLD_AT + 1, _LONGEST_PAUSE), attempts)

    def delayed(self, place: str, reason: str) -> None:
        """Note that `place` brought nothing this time; it may grow again soon, so the pauses stay short."""
        attempts = self.attempts(place) + 1
        self._note(place, reason, backoff(FIRST_PAUSE, attempts, _LONGEST_DELAY), attempts)

    def _note(self, place: str, reason: str, pause: float, attempts: int) -> None:
        self._monitor.failed(self._host)
        self._found[place] = Failure(reason, attempts, time.monotonic() + pause)
        if attempts == _TOLD_AT:
            get_logger().warning(Event.FILE_REJECTED, host=self._host, path=place, error=reason, attempt=attempts)

    def cleared(self, place: str) -> None:
        """Note that `place` works again."""
        self._found.pop(place, None)

    def attempts(self, place: str) -> int:
        """Return how often `place` failed in a row."""
        return self._found[place].attempts if place in self._found else 0

    def may_try(self, place: str) -> bool:
        """Return whether the pause after the last failure is over."""
        found = self._found.get(place)
        return found is None or found.not_before <= time.monotonic()

    def pause(self, places: Iterable[str]) -> float:
        """Return the seconds until the first of `places` may be tried; 0 if one may be now, or there is none."""
        now = time.monotonic()
        waits = [self._found[place].not_before - now if place in self._found else 0.0 for place in places]
        return max(0.0, min(waits, default=0.0))

    def next_try(self, places: Iterable[str], since: float) -> float | None:
        """Return the seconds until the first pause of one of `places` ends; None if none ends after `since`.

        `since`: when the last attempts began, in monotonic seconds. A pause that ended since then gives 0.
        """
        if not self._found:
            return None
        ends = (self._found[place].not_before for place in places if place in self._found)
        first = min((end for end in ends if end > since), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def lasting(self) -> frozenset[str]:
        """Return the remote paths that failed so often that a warning was logged."""
        return frozenset(place for place, found in self._found.items() if found.attempts >= _TOLD_AT)

    def all(self) -> dict[str, Failure]:
        """Return all present failures by remote path."""
        return dict(self._found)


class PassResult(Immutable):
    """The result of one whole pass over a host."""

    files: int
    bytes: int
    failed: dict[str, Failure]
    """By remote path."""
    conflicts: dict[str, str]
    """By local path."""
    waiting: tuple[Waiting, ...]
    disk_full: bool
    missing_roots: frozenset[str]
