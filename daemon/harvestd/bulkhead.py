"""Contain unexpected exceptions, so that one failing part does not end the others; and compute backoffs.

Bulkheads: contain unexpected exceptions, so that one failing part does not end the others. An exception that is none
of `errors` is a defect of harvestd, or of a library. It concerns the host or the service in whose task it was raised.
A bulkhead reports it with its traceback, counts it, and leaves the rest running. Cancellation and the errors that
concern all hosts (`Fatal`, `HaltedForSafety`) pass through.
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import anyio

from harvestd.errors import DiskFull, HarvestError, concerns_all, leaves, unwrapped
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

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


FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 300.0
"""Seconds before a service that failed is run again."""
_REPORT_AGAIN: Final = 3600.0
"""Seconds after which a failure of a known kind is reported with its traceback once more."""
_MOST_KINDS: Final = 1024
_MOST_DESCRIBED: Final = 3

Count = Callable[[str], None]
"""Counts a failure of the subject with this name."""


def _uncounted(subject: str) -> None:
    """Count nothing."""


class Bulkhead:
    """Reports the unexpected failures of the hosts, or of the services, of one process."""

    def __init__(
        self,
        event: Event = Event.SERVICE_FAILED,
        counted: Count = _uncounted,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`event` is `HOST_FAILED` or `SERVICE_FAILED`; `clock` in seconds."""
        self._event = event
        self._field = "host" if event is Event.HOST_FAILED else "service"
        self._counted = counted
        self._clock = clock
        self.reported: dict[tuple[str, str], float] = {}
        """When each kind of failure of each subject was reported last, in that order."""

    def report(self, subject: str, error: Exception, **fields: object) -> None:
        """Report a failure of `subject` and count it.

        The first one of its kind, and one an hour after that, is an error with a traceback; the others are for debug.
        A full disk is reported where files are fetched.
        """
        log = get_logger().bind(**{self._field: subject}, **fields)
        if isinstance(error, DiskFull):
            log.debug(self._event, error=str(error))
            return
        self._counted(subject)
        if not self._is_new(subject, error):
            log.debug(self._event, error=described(error))
        elif isinstance(error, HarvestError):
            # The message is complete by itself; the traceback is of no interest.
            log.warning(self._event, error=str(error), hint=error.hint or None)
        else:
            log.error(self._event, error=described(error), exc_info=error)

    def _is_new(self, subject: str, error: Exception) -> bool:
        key, now = (subject, _kind(error)), self._clock()
        last = self.reported.get(key)
        if last is not None and now - last < _REPORT_AGAIN:
            return False
        self.reported.pop(key, None)
        self.reported[key] = now
        while len(self.reported) > _MOST_KINDS:
            del self.reported[next(iter(self.reported))]
        return True

    @contextmanager
    def containing(self, subject: str, **fields: object) -> Iterator[None]:
        """Suppress what the body raises, after reporting it; errors that concern all hosts pass through."""
        try:
            with unwrapped():
                yield
        except Exception as e:
            if concerns_all(e):
                raise
            self.report(subject, e, **fields)

    async def keep_running(self, service: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a service, and run it again after a failure, with a pause that doubles up to `LONGEST_PAUSE`.

        Return when `run` returns. Raise errors that concern all hosts.
        """
        failures = 0
        while True:
            began = self._clock()
            try:
                with unwrapped():
                    return await run()
            except Exception as e:
                if concerns_all(e):
                    raise
                self.report(service, e)
            # A service that ran well for long starts with the shortest pause again.
            failures = 1 if self._clock() - began > LONGEST_PAUSE else failures + 1
            await anyio.sleep(backoff(FIRST_PAUSE, failures, LONGEST_PAUSE))


def described(error: BaseException) -> str:
    """Return an error as one line: its class and text, or those of the first members of a group."""
    found = [_line(each) for each in leaves(error)]
    more = [f"and {len(found) - _MOST_DESCRIBED} more"] if len(found) > _MOST_DESCRIBED else []
    return "; ".join(found[:_MOST_DESCRIBED] + more)


def _line(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _kind(error: Exception) -> str:
    """Return what identifies a kind of failure: the classes, and the lines of code that raised."""
    return "; ".join(sorted({f"{type(each).__name__} {_place(each)}" for each in leaves(error)}))


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
