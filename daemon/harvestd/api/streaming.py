"""The stream of events, as server-sent events: remembered ones first, then new ones, until either side ends it.

A reader that does not read for some seconds is cut off; one that misses events that were dropped from memory is
notified.
"""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Final

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from harvestd.api.connection import abort
from harvestd.api.state import Source
from harvestd.convention.structs import Immutable
from harvestd.telemetry.event_buffer import RECENT, Reader, Remembered

BEAT: Final = 15.0
"""Seconds between two keep-alives."""
SLOWEST: Final = 20.0
"""Seconds for a reader to accept what was sent."""
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
]
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_AT_ONCE: Final = 100


class Filter(Immutable):
    """Which events to send; an empty text: all."""

    host: str = ""
    event: str = ""
    """A glob."""
    level: str = ""
    """This level and above."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for an unknown level."""
        if self.level and self.level not in _LEVELS:
            raise ValueError(f"level must be one of {', '.join(_LEVELS)}")

    def wants(self, event: Remembered) -> bool:
        """Return whether an event matches."""
        told = event.fields
        if self.level and _rank(str(told.get("level"))) < _rank(self.level):
            return False
        if self.host and told.get("host") != self.host:
            return False
        return not self.event or fnmatchcase(str(told.get("event")), self.event)


def _cut() -> str:
    """Return the message for missed events, as an event with the keys that every event has."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return f"event: cut\ndata: {json.dumps({'timestamp': now, 'level': 'warning', 'event': 'events.cut'})}\n\n"


def _rank(level: str) -> int:
    return _LEVELS.index(level) if level in _LEVELS else 1


class EventStream(Response):
    """A response that streams events."""

    def __init__(self, source: Source, wanted: Filter, since: int | None, *, follow: bool) -> None:
        super().__init__()
        self._source = source
        self._wanted = wanted
        self._since = since
        self._follow = follow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""

        async def tell(content: str, *, more: bool = True) -> None:
            with anyio.fail_after(SLOWEST):
                await send({"type": "http.response.body", "body": content.encode(), "more_body": more})

        async def watch(condition: Callable[[], Awaitable[object]]) -> None:
            await condition()
            tasks.cancel_scope.cancel()

        async def leave() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        try:
            with RECENT.reader(self._since) as reader:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(watch, self._source.stopping.wait)
                    tasks.start_soon(watch, leave)
                    await self._tell(reader, tell)
                    tasks.cancel_scope.cancel()
            await tell("", more=False)
        except* TimeoutError:
            await abort(scope, receive)

    async def _tell(self, reader: Reader, tell: Callable[[str], Awaitable[None]]) -> None:
        while True:
            found, lost = reader.take()
            if lost:
                await tell(_cut())
            texts = [f"id: {each.number}\ndata: {each.text}\n\n" for each in found if self._wanted.wants(each)]
            for start in range(0, len(texts), _AT_ONCE):
                await tell("".join(texts[start : start + _AT_ONCE]))
            if not self._follow:
                return
            with anyio.move_on_after(BEAT) as waiting:
                await reader.news()
            if waiting.cancelled_caught:
                await tell(": here\n\n")
