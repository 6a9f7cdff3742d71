"""Reads files from a box through a probe of its own, so that a read that is stuck holds up no scan."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from harvestd.errors import HarvestError
from harvestd.remote.box import Chunk, Closed, Failed, Limits, Opened, ReadEvent, ReadRequest
from harvestd.remote.connecting import Connection
from harvestd.remote.failures import LinkLost
from harvestd.remote.probe import answers
from harvestd.remote.probe.answers import BrokenAnswer
from harvestd.remote.probe.bootstrap import Pulse
from harvestd.remote.probe.frames import Frame, Letter
from harvestd.remote.probe.process import NoProbe, ProbeProcess, broken


class ProbeReader:
    """Implements `Reader`; one reading at a time, a second one waits for the first."""

    def __init__(self, connection: Connection, limits: Limits, pulse: Pulse) -> None:
        self._connection = connection
        self._limits = limits
        self._pulse = pulse
        self._process: ProbeProcess | None = None
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def reading(self, requests: Sequence[ReadRequest]) -> AsyncIterator[AsyncIterator[ReadEvent]]:
        """See `Reader.reading`."""
        async with self._lock:
            process = await self._started()
            answer = _Answer(self._connection, process, requests)
            try:
                if requests:
                    process.ask(answer.request())
                yield answer
                await answer.conclude()
            finally:
                if not answer.finished:
                    # The rest is on its way and unwanted: it goes with its channel, the next reading gets a new one.
                    self.close()

    async def _started(self) -> ProbeProcess:
        if self._process is None or not self._process.alive:
            try:
                self._process = await ProbeProcess.start(self._connection, self._limits, self._pulse)
            except NoProbe as e:
                raise LinkLost(f"{self._connection.target}: the probe does not start ({e})") from e
        return self._process

    def close(self) -> None:
        """End the process; the next reading starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.close()


class _Answer:
    """The answers to one list of requests, checked against what was asked."""

    def __init__(self, connection: Connection, process: ProbeProcess, requests: Sequence[ReadRequest]) -> None:
        self._connection = connection
        self._process = process
        self._requests = requests
        self._number = 0
        self._wanted: int | None = None
        """Bytes of the file that is open that are still to come at most; None: no file is open."""
        self.finished = not requests

    def request(self) -> dict[str, object]:
        return {"do": "read", "id": 0, "files": [_wanted(n, request) for n, request in enumerate(self._requests)]}

    def __aiter__(self) -> AsyncIterator[ReadEvent]:
        return self

    async def __anext__(self) -> ReadEvent:
        if self.finished:
            raise StopAsyncIteration
        frame = await self._process.frame()
        try:
            event = self._event(frame)
        except BrokenAnswer as e:
            raise self._broken(e) from e
        if event is None:
            self.finished = True
            raise StopAsyncIteration
        return event

    async def conclude(self) -> None:
        """Take the end where nothing else is left to come: whoever had the last file need not ask for more."""
        if not self.finished and self._number == len(self._requests):
            await anext(self, None)

    def _broken(self, error: BrokenAnswer) -> HarvestError:
        return broken(self._connection, error)

    def _event(self, frame: Frame) -> ReadEvent | None:
        if self._number == len(self._requests):
            if frame.letter is Letter.READ_END:
                return None
            raise BrokenAnswer("more files than were asked for")
        request = self._requests[self._number]
        match frame.letter:
            case Letter.OPENED if self._wanted is None:
                return self._opened(answers.opened(frame.payload, self._number, request))
            case Letter.DATA if self._wanted is not None:
                self._wanted -= len(frame.payload)
                if self._wanted < 0 or not frame.payload:
                    raise BrokenAnswer("more bytes than were asked for")
                return Chunk(frame.payload)
            case Letter.CLOSED if self._wanted is not None:
                return self._done(answers.closed(frame.payload, self._number, request))
            case Letter.FAILED:
                return self._done(answers.failed(frame.payload, self._number, request))
            case _:
                raise BrokenAnswer("frames in an order that makes no sense")

    def _opened(self, event: Opened) -> Opened:
        rest = max(0, event.version.size - event.request.offset)
        self._wanted = rest if event.request.length is None else min(rest, event.request.length)
        return event

    def _done(self, event: Closed | Failed) -> Closed | Failed:
        self._wanted = None
        self._number += 1
        return event


def _wanted(number: int, request: ReadRequest) -> dict[str, object]:
    return {
        "id": number,
        "root": request.tree.root,
        "tree": request.tree.name,
        "path": str(request.path),
        "offset": request.offset,
        "length": request.length,
        "verify_from": request.verify_from,
    }
