"""Computes the reconnect delays of one host, and suppresses repeated state-change events.

Every pause is shortened at random, so that hosts that were lost together do not reconnect together. A host that stays
down is logged once. One that goes up and down is logged a few times, and after that only once it is stable again.
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
"""Seconds before a host that broke a rule, or keeps refusing us, is tried again: a person has to act first."""
_FIRST_REFUSAL = 30.0
_MOST_LOSSES = 16
_LEAST_SHARE = 0.5
"""The least part of a pause that remains after the random shortening."""
_FLAPPING = 3
"""A host that lost this many established links within `_REMEMBERED` seconds is flapping."""
_REMEMBERED = 600.0


class ReconnectPolicy:
    """Computes reconnect delays and suppresses repeated state-change events."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns monotonic seconds."""
        self._clock = clock
        self.attempt = 1
        """The number of this attempt, counted from the last successful scan."""
        self._refusals = 0
        self._stood = False
        self._losses: deque[float] = deque(maxlen=_MOST_LOSSES)
        """When established links were lost recently."""
        self._told = ""

    def connected(self) -> None:
        """Note that the link is established."""
        self._stood = True

    def passed(self) -> None:
        """Note that a scan of the host succeeded."""
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
            # A booting host may answer before our key is installed, whatever it did before.
            self._refusals += 1
            return backoff(_FIRST_REFUSAL, self._refusals, _QUARANTINE)
        if isinstance(error, HostQuarantined):
            return _QUARANTINE
        return backoff(_FIRST_PAUSE, max(self.attempt, self._lost_of_late), _LONGEST_PAUSE)

    def woke(self) -> None:
        """Note that the workstation was suspended: earlier failures predict nothing."""
        self.attempt, self._stood = 1, False

    @property
    def settled(self) -> bool:
        """Whether the present link is expected to last."""
        return self._lost_of_late < _FLAPPING

    @property
    def _lost_of_late(self) -> int:
        while self._losses and self._clock() - self._losses[0] >= _REMEMBERED:
            self._losses.popleft()
        return len(self._losses)

    def is_news(self, state: str) -> bool:
        """Return whether `state` differs from the last logged one, and store it as that."""
        before, self._told = self._told, state
        return state != before
