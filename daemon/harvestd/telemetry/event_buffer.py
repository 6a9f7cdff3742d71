"""The newest events of this process, for whoever follows them while it runs: bounded, and no reader holds one back.

Readers share what is remembered and each has a place in it; one that falls behind what is still there is told so. An
event is remembered as the text that a log line has: plain, escaped, without secrets.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from structlog.typing import EventDict, WrappedLogger

from harvestd.convention.structs import Immutable
from harvestd.json_text import json_text

_MOST: Final = 1_000
_MOST_BYTES: Final = 4 * 1024 * 1024
_LONGEST: Final = 32 * 1024
"""Characters of one event; of a longer one only the first fields are kept."""
_FIRST: Final = ("timestamp", "level", "event", "host", "run_id")
_A_SECOND: Final = 1_000_000
"""Numbers begin with the time: those of a later process are greater."""


class Remembered(Immutable):
    """One event."""

    number: int
    fields: Mapping[str, Any]
    text: str
    """All of it as JSON."""


class Recent:
    """Remembers events once somebody asked for that; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: deque[Remembered] = deque()
        self._bytes = 0
        self._next = int(time.time()) * _A_SECOND
        self._readers: set[Reader] = set()
        self.remembers = False
        """Whether anybody may ever ask."""

    def take(self, event: Mapping[str, Any]) -> None:
        """Remember an event, whose fields are JSON's own."""
        text = json_text(event)
        if len(text) > _LONGEST:
            event = {key: event[key] for key in _FIRST if key in event} | {"cut": True}
            text = json_text(event)
        with self._lock:
            self._events.append(Remembered(self._next, event, text))
            self._next += 1
            self._bytes += len(text)
            while len(self._events) > _MOST or self._bytes > _MOST_BYTES:
                self._bytes -= len(self._events.popleft().text)
            readers = tuple(self._readers)
        for reader in readers:
            reader.wake()

    @contextmanager
    def reader(self, since: int | None) -> Iterator["Reader"]:
        """Read for the body on the running event loop: what came after the number `since`; None: all that is known."""
        reader = Reader(self, since)
        with self._lock:
            self._readers.add(reader)
        try:
            yield reader
        finally:
            with self._lock:
                self._readers.discard(reader)

    def after(self, number: int | None) -> tuple[list[Remembered], bool]:
        """Return what came after an event, and whether anything between was forgotten."""
        with self._lock:
            oldest = self._events[0].number if self._events else self._next
            found = [each for each in self._events if number is None or each.number > number]
        return found, number is not None and number + 1 < oldest


class Reader:
    """One who follows the events."""

    def __init__(self, recent: Recent, since: int | None) -> None:
        self._recent = recent
        self._last = since
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Have `news` return, from whatever thread."""
        with suppress(RuntimeError):  # the loop was closed: nobody waits there
            self._loop.call_soon_threadsafe(self._news.set)

    async def news(self) -> None:
        """Return once there may be more."""
        await self._news.wait()

    def take(self) -> tuple[list[Remembered], bool]:
        """Return what is new, and whether anything before it was forgotten unread."""
        self._news.clear()
        found, lost = self._recent.after(self._last)
        if found:
            self._last = found[-1].number
        return found, lost


RECENT: Final = Recent()
"""Of this process: its log is one as well."""


def remembered(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Remember an event that was made plain, where somebody may ask for it."""
    if RECENT.remembers:
        RECENT.take(dict(event))
    return event
