"""The newest events of this process in memory, for streams that follow them: bounded, and never delayed by a reader.

Readers share the buffer and each has a position in it; one that falls behind the oldest event is notified. An event is
stored as the text of its log line: plain, escaped, without secrets.
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


class BufferedEvent(Immutable):
    """One event."""

    number: int
    fields: Mapping[str, Any]
    text: str
    """All of it as JSON."""


class Recent:
    """Stores events once that is enabled; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: deque[BufferedEvent] = deque()
        self._bytes = 0
        self._next = int(time.time()) * _A_SECOND
        self._readers: set[Reader] = set()
        self.remembers = False
        """Whether there may ever be a reader."""

    def take(self, event: Mapping[str, Any]) -> None:
        """Store an event, whose fields are JSON values."""
        text = json_text(event)
        if len(text) > _LONGEST:
            event = {key: event[key] for key in _FIRST if key in event} | {"cut": True}
            text = json_text(event)
        with self._lock:
            self._events.append(BufferedEvent(self._next, event, text))
            self._next += 1
            self._bytes += len(text)
            while len(self._events) > _MOST or self._bytes > _MOST_BYTES:
                self._bytes -= len(self._events.popleft().text)
            readers = tuple(self._readers)
        for reader in readers:
            reader.wake()

    @property
    def newest(self) -> int:
        """The number of the newest event; events that come later have greater ones."""
        return self._next - 1

    @contextmanager
    def reader(self, since: int | None) -> Iterator["Reader"]:
        """Yield a reader on the running event loop of the events after the number `since`.

        None: all that are stored.
        """
        reader = Reader(self, since)
        with self._lock:
            self._readers.add(reader)
        try:
            yield reader
        finally:
            with self._lock:
                self._readers.discard(reader)

    def after(self, number: int | None) -> tuple[list[BufferedEvent], bool]:
        """Return the events after `number`, and whether any of them were dropped."""
        with self._lock:
            oldest = self._events[0].number if self._events else self._next
            found = [each for each in self._events if number is None or each.number > number]
        return found, number is not None and number + 1 < oldest


class Reader:
    """One reader of the events."""

    def __init__(self, recent: Recent, since: int | None) -> None:
        self._recent = recent
        self._last = since
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Make `wait` return; callable from any thread."""
        with suppress(RuntimeError):  # the loop was closed: no task waits there
            self._loop.call_soon_threadsafe(self._changed.set)

    async def wait(self) -> None:
        """Wait until there may be more events."""
        await self._changed.wait()

    def take(self) -> tuple[list[BufferedEvent], bool]:
        """Return the new events, and whether any before them were dropped unread."""
        self._changed.clear()
        found, lost = self._recent.after(self._last)
        if found:
            self._last = found[-1].number
        return found, lost


RECENT: Final = Recent()
"""The buffer of this process, which has one log as well."""


def buffer_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Store an event after `made_plain`, where that is enabled."""
    if RECENT.remembers:
        RECENT.take(dict(event))
    return event
