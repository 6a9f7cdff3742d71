"""The heartbeat: requests a URL each minute while hosts are being scanned, in the manner of healthchecks.io.

`URL/start` is requested when the daemon begins, `URL` after progress, and `URL/fail` when there is none: no host was
scanned and nothing arrived for some minutes, or a task is past its deadline. A process that is alive proves nothing. A
monitoring service that gets no request raises the alarm by itself, which also covers a workstation that is gone.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import anyio
from pydantic import SecretStr

from harvestd.convention.structs import Immutable
from harvestd.harvest.context import Context
from harvestd.harvest.metrics import FleetMetrics
from harvestd.notify.receivers import Answer, requested
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

EVERY: Final = 60.0
"""Seconds between two requests."""
PATIENCE: Final = 300.0
"""Seconds without progress after which the daemon counts as failed, unless the scans are further apart."""
_SCANS: Final = 3
"""Scans that may be missed."""
_LOOK_EVERY: Final = 1.0
"""Seconds between two looks whether there is progress, and whether another URL is configured."""
_DEADLINE: Final = 10.0
_ATTEMPTS: Final = 3
_PAUSE: Final = 2.0
"""Seconds between two attempts."""
_NAME: Final = "heartbeat"


class Signal(StrEnum):
    """What is requested: the end of the URL's path."""

    START = "/start"
    SUCCESS = ""
    FAIL = "/fail"


class Progress(Immutable):
    """What is known of the daemon's progress. Times in seconds."""

    hosts: int
    is_complete: bool
    """Whether every provider has listed its hosts."""
    has_begun: bool
    """Whether a host was scanned, or something arrived, since the start."""
    quiet: float
    """Since that happened last, or since the start."""
    interval: float
    """Between two scans."""
    stuck: str = ""
    """What is past its deadline."""


def signal_of(progress: Progress) -> tuple[Signal | None, str]:
    """Return what to request, and why; None: it is too early to tell."""
    if progress.stuck:
        return Signal.FAIL, "a task is past its deadline"
    if progress.is_complete and not progress.hosts:
        return Signal.SUCCESS, "there are no hosts"
    patience = max(PATIENCE, _SCANS * progress.interval)
    if progress.quiet > patience:
        return Signal.FAIL, f"none of {progress.hosts} hosts was scanned for {progress.quiet:.0f} s"
    if not progress.has_begun or progress.quiet > max(EVERY, _SCANS * progress.interval):
        return None, ""
    return Signal.SUCCESS, f"{progress.hosts} hosts; the last scan ended {progress.quiet:.0f} s ago"


def url_of(url: str, signal: Signal) -> str:
    """Return the URL to request; its query stays at the end."""
    if signal is Signal.SUCCESS:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + signal.value))


class Heartbeat:
    """The service of one daemon."""

    def __init__(self, context: Context, tally: FleetMetrics, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds; it stops while the workstation is suspended."""
        self._context = context
        self._tally = tally
        self._clock = clock
        self._seen: tuple[object, int] = (None, 0)
        """What showed progress last."""
        self._changed_at: float | None = None
        """When there was progress last; None: not since the start."""
        self._began = clock()
        self._url: SecretStr | None = None
        self._next = 0.0
        self._is_failing = False

    async def run(self) -> None:
        """Request the configured URL until cancelled."""
        while True:
            self._look()
            url = self._context.settings.notify.heartbeat_url
            if url != self._url:
                self._url, self._next = url, 0.0
                if url is not None:
                    await self._send(url, Signal.START, "harvestd watches its hosts")
            if url is not None and self._clock() >= self._next:
                signal, why = signal_of(self._progress())
                if signal is not None:
                    self._next = self._clock() + EVERY
                    await self._send(url, signal, why)
            await anyio.sleep(_LOOK_EVERY)

    def _look(self) -> None:
        """Note whether a host was scanned or something arrived."""
        seen = (self._tally.last_success, sum(each.moved for each in self._tally.hosts.values()))
        if seen != self._seen:
            self._seen, self._changed_at = seen, self._clock()

    def _progress(self) -> Progress:
        fleet = self._context.fleet
        began = self._began if self._changed_at is None else self._changed_at
        interval: timedelta = self._context.settings.poll.interval
        return Progress(
            hosts=len(fleet.present),
            is_complete=fleet.hosts is not None,
            has_begun=self._changed_at is not None,
            quiet=self._clock() - began,
            interval=interval.total_seconds(),
            stuck=self._context.deadlines.overdue(),
        )

    async def _send(self, url: SecretStr, signal: Signal, why: str) -> None:
        """Request the URL, a few times if need be; log when it begins and ceases to fail."""
        address = SecretStr(url_of(url.get_secret_value(), signal))
        answer = Answer(ok=False, said=f"no answer within {_DEADLINE:g} s")
        for number in range(_ATTEMPTS):
            if number:
                await anyio.sleep(_PAUSE)
            with anyio.move_on_after(_DEADLINE):
                answer = await requested(address, {"content-type": "text/plain"}, why.encode())
            if answer.ok:
                break
        if answer.ok == self._is_failing:
            log = get_logger().bind(receiver=_NAME)
            if answer.ok:
                log.info(Event.NOTIFY_RECOVERED)
            else:
                log.warning(Event.NOTIFY_FAILED, error=answer.said, hint="check notify.heartbeat_url")
        self._is_failing = not answer.ok
