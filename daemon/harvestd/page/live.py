"""Live views: a stream says that something changed, and each view is rendered once for all clients.

A browser keeps one stream for all of its tabs. It gets the number of each change, and without changes a message every
`BEAT` seconds. It then requests the views that it shows: a view that is as it was is answered with 304, and one that
was rendered since the last change is sent as it was rendered.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from harvestd.api.connection import abort
from harvestd.api.state import Source
from harvestd.convention.structs import Immutable
from harvestd.page import words
from harvestd.telemetry.event_buffer import RECENT

BEAT: Final = 4.0
"""Seconds between two messages of a stream, at most: a browser that gets none for ten says so."""
_CHECK_EVERY: Final = 0.5
"""Seconds between two looks of a stream at the number of the last change."""
_PAUSE: Final = 2.0
"""Seconds between two changes, at least, while files grow and transfers move."""
_SLOWEST: Final = 20.0
"""Seconds for a reader to accept what was sent."""
_LASTS: Final = 10.0
"""Seconds for which a rendered view is sent again if nothing changed: the spans of time in it grow."""
_MOST_KEPT: Final = 32


class Changes:
    """Numbers the changes of what the page shows; it compares only when it is asked."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._number = 0
        self._numbered = 0.0
        """When the last change got its number, in monotonic seconds."""
        self._urgent: Hashable = None
        self._frequent: Hashable = None

    def number(self) -> int:
        """Return the number of the last change: of a host's state at once, of growing files after `_PAUSE`."""
        urgent, frequent, now = self._states(), self._progress(), time.monotonic()
        is_due = frequent != self._frequent and now - self._numbered >= _PAUSE
        if urgent != self._urgent or is_due:
            self._urgent, self._frequent = urgent, frequent
            self._number, self._numbered = self._number + 1, now
        return self._number

    def _states(self) -> Hashable:
        source = self._source
        context = source.context
        hosts = tuple((name, host.state, host.error) for name, host in source.tally.hosts.items())
        verdicts = (each.verdict.verdict for each in context.states.all() if each.verdict is not None)
        answers = tuple((each.answer, len(each.reasons), len(each.losses)) for each in verdicts)
        return context.fleet.is_paused, source.ready.is_set(), id(context.settings), hosts, answers

    def _progress(self) -> Hashable:
        transfers = tuple((each.place, each.moved) for each in self._source.context.transfers.all())
        return RECENT.newest, self._source.tally.files, transfers


class Rendered(Immutable):
    """A view as it is sent."""

    body: bytes
    etag: str
    at: float
    """In monotonic seconds."""
    change: int
    """The number of the last change before it was rendered."""


class Renderings:
    """The views that were rendered last, by what identifies them."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._kept: OrderedDict[Hashable, Rendered] = OrderedDict()
        self._locks: dict[Hashable, anyio.Lock] = {}

    async def get(self, key: Hashable, render: Callable[[], Awaitable[str]]) -> Rendered:
        """Return a view: the one that was rendered since the last change, else what `render` returns now."""
        lock = self._locks.setdefault(key, anyio.Lock())
        try:
            async with lock:
                now, change = time.monotonic(), self._changes.number()
                kept = self._kept.get(key)
                if kept is not None and kept.change == change and now - kept.at < _LASTS:
                    return kept
                body = (await render()).encode("utf-8", "backslashreplace")
                etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
                made = self._kept[key] = Rendered(body, etag, now, change)
                self._kept.move_to_end(key)
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
                return made
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._locks.pop(key, None)


class ChangeStream(Response):
    """Server-sent events: `id` is the number of the last change, and `data` the time of day of the message."""

    def __init__(self, source: Source, changes: Changes) -> None:
        super().__init__()
        self._source = source
        self._changes = changes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until either side ends it."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]

        async def write(text: str, *, more: bool = True) -> None:
            with anyio.fail_after(_SLOWEST):
                await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        async def watch(condition: Callable[[], Awaitable[object]]) -> None:
            await condition()
            tasks.cancel_scope.cancel()

        async def leave() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch, self._source.stopping.wait)
                tasks.start_soon(watch, leave)
                await self._send_numbers(write)
            await write("", more=False)
        except* TimeoutError:
            await abort(scope, receive)

    async def _send_numbers(self, write: Callable[[str], Awaitable[None]]) -> None:
        while True:
            number, sent = self._changes.number(), time.monotonic()
            await write(f"id: {number}\ndata: {words.seconds_clock(time.time())}\n\n")
            while self._changes.number() == number and time.monotonic() - sent < BEAT:  # noqa: ASYNC110  (it compares)
                await anyio.sleep(_CHECK_EVERY)
