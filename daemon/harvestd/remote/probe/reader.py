"""Read files from a host through a probe of its own, so that a read that is stuck does not delay a scan."""

from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager

import anyio

from harvestd.convention.scan.snapshot import Tree
from harvestd.errors import HarvestError
from harvestd.remote.api import Chunk, Closed, Failed, Opened, ReadEvent, ReadRequest, Whole
from harvestd.remote.probe import decode
from harvestd.remote.probe.decode_records import BrokenAnswer
from harvestd.remote.probe.process import ProbeProcess, Running, broken
from harvestd.remote.probe.protocol import Frame, Letter
from harvestd.remote.ssh.connection import Connection

_AT_ONCE = 256
"""Files in one request."""


class ProbeReader:
    """Implements `Reader`; one reading at a time, a second one waits for the first."""

    hashes_there = True

    def __init__(self, running: Running, drifting: AbstractSet[Tree]) -> None:
        """Store the parameters.

        `drifting`: trees whose versions have neither inodes nor change times, by the last scan.
        """
        self._running = running
        self._drifting = drifting
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def reading(self, requests: Sequence[ReadRequest]) -> AsyncIterator[AsyncIterator[ReadEvent]]:
        """See `Reader.reading`."""
        async with self._lock:
            questions = list(_questions(requests, self._drifting))
            process, started = await self._running.start_or_send(questions)
            answer = Answer(self._running.connection, process, requests)
            try:
                for question in questions if not started else ():
                    process.send(question, process.readings)
                # A list for each file: they need not live as long as the answer.
                questions.clear()
                yield answer
                await answer.conclude()
            finally:
                if not answer.finished:
                    # The rest is in flight and not wanted: it ends with its channel, and the next reading gets a new
                    # one.
                    self._running.give_up()

    def close(self) -> None:
        """End the program; the next reading starts another."""
        self._running.give_up()


class Answer:
    """The answers to one list of requests, checked against the requests."""

    def __init__(self, connection: Connection, process: ProbeProcess, requests: Sequence[ReadRequest]) -> None:
        self._connection = connection
        self._process = process
        self._requests = requests
        self._number = 0
        self._wanted: int | None = None
        """The most bytes of the open file that are still to come; None: no file is open."""
        self._rest: deque[ReadEvent] = deque()
        """Further events of the frame that was read last."""
        self.finished = not requests

    def __aiter__(self) -> AsyncIterator[ReadEvent]:
        return self

    async def __anext__(self) -> ReadEvent:
        if self._rest:
            return self._rest.popleft()
        if self.finished:
            raise StopAsyncIteration
        frame = await self._process.frame(self._process.readings)
        try:
            event = self._event(frame)
        except BrokenAnswer as e:
            raise self._broken(e) from e
        if event is None:
            self.finished = True
            self._process.readings.expecting = False
            raise StopAsyncIteration
        return event

    async def conclude(self) -> None:
        """Read the end frame when no file is left: the caller need not iterate beyond the last file."""
        if not self.finished and not self._rest and self._number == len(self._requests):
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
            case Letter.WHOLE if self._wanted is None:
                return self._whole(decode.whole(frame.payload, self._number, request))
            case Letter.VERIFIED if self._wanted is None:
                opened, closed = decode.verified(frame.payload, self._number, request)
                self._number += 1
                self._rest.append(closed)
                return opened
            case Letter.OPENED if self._wanted is None:
                return self._opened(decode.opened(frame.payload, self._number, request))
            case Letter.DATA if self._wanted is not None:
                self._wanted -= len(frame.payload)
                if self._wanted < 0 or not frame.payload:
                    raise BrokenAnswer("more bytes than were asked for")
                return Chunk(frame.payload)
            case Letter.CLOSED if self._wanted is not None:
                return self._done(decode.closed(frame.payload, self._number, request))
            case Letter.FAILED:
                return self._done(decode.failed(frame.payload, self._number, request))
            case _:
                raise BrokenAnswer("frames in an order that makes no sense")

    def _whole(self, event: Whole) -> ReadEvent:
        self._number += 1
        request = event.request
        if request.in_one:
            return event
        if event.data:
            self._rest.append(Chunk(event.data))
        self._rest.append(Closed(request, event.version, event.sha256.hex()))
        return Opened(request, event.version)

    def _opened(self, event: Opened) -> Opened:
        rest = max(0, event.version.size - event.request.offset)
        self._wanted = rest if event.request.length is None else min(rest, event.request.length)
        return event

    def _done(self, event: Closed | Failed) -> Closed | Failed:
        self._wanted = None
        self._number += 1
        return event


def _questions(requests: Sequence[ReadRequest], drifting: AbstractSet[Tree]) -> Iterator[dict[str, object]]:
    """Yield the requests as messages of `_AT_ONCE` files: the host begins with the first while others are in flight."""
    trees = list(dict.fromkeys(request.tree for request in requests))
    numbers = {tree: number for number, tree in enumerate(trees)}
    for start in range(0, len(requests), _AT_ONCE):
        yield {
            "do": "read",
            "id": 0,
            "trees": [[tree.root, tree.name, tree in drifting] for tree in trees],
            "files": [
                _wanted(n, numbers[each.tree], each) for n, each in enumerate(requests[start : start + _AT_ONCE], start)
            ],
            "more": start + _AT_ONCE < len(requests),
        }


def _wanted(number: int, tree: int, request: ReadRequest) -> list[object]:
    return [number, tree, str(request.path), request.offset, request.length, request.verify_from]
