"""The frames of one running probe as they arrive, by channel, and its heartbeat: asyncssh's side of the process.

Memory is bounded, whatever a host does: it may send what it was granted, and is granted more only as frames are
processed. (Pausing the channel would not bound it: asyncssh opens the whole window again whenever a paused channel is
resumed, whatever it still buffers.)
"""

import asyncio
import time
from collections import deque
from collections.abc import Collection
from contextlib import suppress

import asyncssh

from harvestd.remote.probe import protocol
from harvestd.remote.probe.protocol import BrokenStream, Frame, FrameDecoder, Letter, Pulse
from harvestd.remote.ssh.asyncssh_patches import EarlyInput
from harvestd.remote.ssh.connection import Connection
from harvestd.remote.ssh.flood_guard import MessageRate

_GRANTS = 4
"""A new grant is sent when this part of the credit was used up: few messages, and the host never has to wait."""
_OVERRUN = 1024 * 1024
"""How far one send of the program may exceed its credit: a full buffer and its last frame."""
_FACTS = 64 * 1024
_HEAD_BYTES = 5
_COMPLAINT = 2048
"""Bytes of the program's standard error that are kept for an error's text."""


_NO_ANSWERS = frozenset({Letter.WAIT, Letter.UNCHANGED, Letter.DATA})
_WAITING = {b"s": "looks", b"r": "readings", b"f": "facts"}
"""The channel of a keep-alive frame, by its first byte; the rest is the place of the work."""
_LONGEST_PLACE = 1025


class Mailbox:
    """The frames of one channel, as they arrive; waiting tasks are woken by a frame, or when none can come any more."""

    def __init__(self, name: str, share: int, *, expecting: bool) -> None:
        self.name = name
        """Its name in the protocol."""
        self.share = share
        """Bytes that may be in flight or buffered here."""
        self.frames: deque[Frame] = deque()
        self.arrived = asyncio.Event()
        self.expecting = expecting
        """Whether an answer is due: an unrequested one breaks the stream."""
        self._here = 0
        self._untaken = 0

    def put(self, frame: Frame) -> None:
        """Add a frame; raise `BrokenStream` for one that was not requested, or not granted."""
        if not self.expecting:
            raise BrokenStream("an unrequested answer")
        self._untaken += _cost(frame)
        if self._untaken > self.share + _OVERRUN:
            raise BrokenStream("more bytes than it was granted")
        self.frames.append(frame)
        self.arrived.set()

    def take(self) -> Frame:
        """Remove and return the next frame."""
        frame = self.frames.popleft()
        self._here += _cost(frame)
        return frame

    def granted(self) -> int:
        """Return how many bytes to grant again, for those that were processed; 0 while it is not worth a message."""
        if self._here < self.share // _GRANTS:
            return 0
        count, self._here = self._here, 0
        self._untaken -= count
        return count


def stamp_of(moment: float) -> int:
    """Return the stamp for a time in monotonic seconds, as the host sends it back."""
    return int(moment * 1000)


def _cost(frame: Frame) -> int:
    """Return the credit that a frame costs, as the program computes it."""
    return len(frame.payload) if frame.letter is Letter.DATA else len(frame.payload) + _HEAD_BYTES


def shares(window: int) -> dict[str, int]:
    """Return the credit of each channel: the busiest channel gets most of the window."""
    return {"s": window // 4, "r": window - window // 4, "f": _FACTS}


class Session(asyncssh.SSHClientSession[bytes]):
    """asyncssh's side of the process: sorts frames by channel and wakes their readers, but calls no other code."""

    def __init__(
        self, connection: Connection, decoder: FrameDecoder, pulse: Pulse, opening: bytes, asked: Collection[object]
    ) -> None:
        self._connection = connection
        self._pulse = pulse
        self._opening = opening
        self._timer: asyncio.TimerHandle | None = None
        self._waits = MessageRate(connection.meter)
        """Keep-alive frames that came lately."""
        self.decoder = decoder
        self.channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._early: EarlyInput | None = None
        self.opened_at = 0.0
        credit = shares(connection.window)
        self.greeting = Mailbox("h", _FACTS, expecting=True)
        # The first requests are sent with the program.
        self.looks = Mailbox("s", credit["s"], expecting="scan" in asked)
        self.readings = Mailbox("r", credit["r"], expecting="read" in asked)
        self.facts = Mailbox("f", credit["f"], expecting="facts" in asked)
        self._boxes = {
            Letter.HELLO: self.greeting,
            Letter.SCAN_PART: self.looks,
            Letter.SCAN_END: self.looks,
            Letter.UNCHANGED: self.looks,
            Letter.REFUSED: self.looks,
            Letter.FACTS: self.facts,
            Letter.WHOLE: self.readings,
            Letter.VERIFIED: self.readings,
            Letter.OPENED: self.readings,
            Letter.DATA: self.readings,
            Letter.CLOSED: self.readings,
            Letter.FAILED: self.readings,
            Letter.READ_END: self.readings,
        }
        self.broken: BrokenStream | None = None
        self.ended = False
        self.error: Exception | None = None
        self.complaint = b""
        self.place = b""
        """The place of the program's work in its last keep-alive frame."""
        self.before = b""
        """Standard output before the program's greeting: a host writes refusals there, too."""

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Send the program as soon as its execution is requested."""
        self.channel = chan
        self._early = EarlyInput(chan)
        self.opened_at = time.monotonic()
        # Behind the request to execute the command, which follows at once, but without waiting for its answer.
        asyncio.get_running_loop().call_soon(self._open)

    def _open(self) -> None:
        if self._early is not None and not self.ended:
            with suppress(BrokenPipeError):
                # Where the program has already ended, the wait for its greeting reports how.
                self._early.send(self._opening)
            self._opening = b""

    def session_started(self) -> None:
        """Begin the heartbeats."""
        if self._early is not None:
            self._early.settle()
        self._beat_later()

    def _beat_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._pulse.interval.total_seconds(), self._beat)

    def _beat(self) -> None:
        if self.channel is not None and not self.ended and not self.channel.is_closing():
            self.channel.write(protocol.heartbeat(stamp_of(time.monotonic())))
            self._beat_later()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Sort the frames in `data` into their mailboxes; standard error is kept for the text of an error."""
        if datatype is not None:
            # Not credited to the meter: a host that sends errors without end is cut off.
            self.complaint += data[: max(0, _COMPLAINT - len(self.complaint))]
            return
        if self.broken is not None:
            return
        meter = self._connection.meter
        meter.credit(len(data))
        if not self.decoder.started:
            self.before += data[: max(0, _COMPLAINT - len(self.before))]
        try:
            for frame in self.decoder.feed(data):
                self._sort(frame)
                # A keep-alive frame earns no time credit, and a piece of a file only that of its bytes.
                meter.answered(frame.letter not in _NO_ANSWERS, len(frame.payload))
        except BrokenStream as e:
            self.broken = e
            self._wake_all()

    def _sort(self, frame: Frame) -> None:
        if frame.letter is not Letter.WAIT:
            self._boxes[frame.letter].put(frame)
        elif frame.payload[:1] in _WAITING and len(frame.payload) <= _LONGEST_PLACE:
            self._waits.count(time.monotonic())
            getattr(self, _WAITING[frame.payload[:1]]).put(frame)
            self.place = frame.payload[1:]
        else:
            raise BrokenStream("an unexpected heartbeat")

    def _wake_all(self) -> None:
        for box in self._boxes.values():
            box.arrived.set()

    def take(self, box: Mailbox) -> Frame:
        """Return the next frame of a channel, and grant as many bytes again, once it is worth a message."""
        frame = box.take()
        count = box.granted()
        if count and self.channel is not None and not self.ended:
            with suppress(BrokenPipeError):
                # The wait for the next frame reports a channel that is closing.
                self.channel.write(protocol.grant(box.name, count))
        return frame

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake all readers: no frame can come any more."""
        self.ended = True
        self.error = exc
        self._stop()
        self._wake_all()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """End the program by closing its channel."""
        self._stop()
        if self.channel is not None and not self.ended:
            # Data in flight to a channel that this end closes is not held against the host.
            self._connection.meter.forgive(self._connection.window)
            self.channel.abort()
