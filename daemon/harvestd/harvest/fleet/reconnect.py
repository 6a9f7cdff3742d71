"""How long a host that failed is left alone, and what of its ups and downs is told: one for each host.

Every pause is cut by chance, so that hosts that were lost together don't come back together. A host that stays down is
told once; one that comes and goes is told a few times, and then that it is back only when it has settled.
"""

import random
import time
from collections import deque
from collections.abc import Callable

from harvestd.backoff import backoff
from harvestd.errors import HostQuarantined
from harvestd.remote.ssh.errors import AuthenticationRefused

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0
_QUARANTINE = 900.0
"""Seconds before a host that broke a rule, or goes on refusing us, is tried again: a person has to act first."""
_FIRST_REFUSAL = 30.0
_MOST_LOSSES = 16
_LEAST_SHARE = 0.5
"""Of a pause, that chance leaves in any case."""
_FLAPPING = 3
"""A host that lost so many links that had stood, within `_REMEMBERED` seconds, comes and goes."""
_REMEMBERED = 600.0


class Breaker:
    """Hears of everything that becomes of one host; says how long to wait, and what is news."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds; it only grows."""
        self._clock = clock
        self.attempt = 1
        """Which attempt this is since the last one that brought anything."""
        self._refusals = 0
        self._stood = False
        self._losses: deque[float] = deque(maxlen=_MOST_LOSSES)
        """When links that had stood were lost; only of late."""
        self._told = ""

    def connected(self) -> None:
        """Note that the link stands."""
        self._stood = True

    def passed(self) -> None:
        """Note that the host was looked at and all was well."""
        self.attempt, self._refusals = 1, 0

    def failed(self, error: Exception) -> float:
        """Note that the attempt ended with `error`, whatever its class; return the seconds until the next one."""
        if self._stood:
            self._losses.append(self._clock())
            self._stood = False
        pause = self._pause(error)
        self.attempt += 1
        return pause * random.uniform(_LEAST_SHARE, 1.0)  # noqa: S311  (spreads load, keeps no secret)

    def _pause(self, error: Exception) -> float:
        if isinstance(error, AuthenticationRefused):
            # A booting box may answer before our key is in place, whatever it did before it answered.
            self._refusals += 1
            return backoff(_FIRST_REFUSAL, self._refusals, _QUARANTINE)
        if isinstance(error, HostQuarantined):
            return _QUARANTINE
        return backoff(_FIRST_PAUSE, max(self.attempt, self._lost_of_late), _LONGEST_PAUSE)

    def woke(self) -> None:
        """Note that the workstation slept: what came before says nothing of what is to come."""
        self.attempt, self._stood = 1, False

    @property
    def settled(self) -> bool:
        """Whether a link that stands now is expected to last."""
        return self._lost_of_late < _FLAPPING

    @property
    def _lost_of_late(self) -> int:
        while self._losses and self._clock() - self._losses[0] >= _REMEMBERED:
            self._losses.popleft()
        return len(self._losses)

    def is_news(self, state: str) -> bool:
        """Return whether `state` is another one than was told last; from now on it is the one."""
        before, self._told = self._told, state
        return state != before
