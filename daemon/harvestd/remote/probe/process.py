"""One running probe on a host: its start, its heartbeat, its stream of frames, its end.

Memory is bounded, whatever a host does: it may send what it was granted, and is granted more only as frames are
processed. (Pausing the channel would not bound it: asyncssh opens the whole window again whenever a paused channel is
resumed, whatever it still buffers.) Every wait has a deadline. A process whose protocol was violated can't be used any
more; its owner closes it.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Self

import anyio
import asyncssh

from harvestd.errors import HarvestError, HostQuarantined, Retry
from harvestd.remote.api import Limits
from harvestd.remote.probe import decode, protocol
from harvestd.remote.probe.decode_records import BrokenAnswer
from harvestd.remote.probe.protocol import MARKER_BYTES, BrokenStream, Frame, FrameDecoder, Letter, Pulse
from harvestd.remote.ssh.asyncssh_patches import EarlyWords
from harvestd.remote.ssh.connection import Connection
from harvestd.remote.ssh.errors import LinkLost, Stuck, quoted
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


class NoProbe(Exception):
    """The program did not start on this host: no Python 3, or commands are not allowed.

    The text describes the failure.
    """

    def __init__(self, message: str, said: str = "") -> None:
        """Store the reason. `said`: the host's standard output in place of the program's answers, made safe."""
        super().__init__(message)
        self.said = said


def broken(connection: Connection, error: BrokenStream | BrokenAnswer) -> HostQuarantined:
    """Return the error for a host that violates the protocol."""
    return HostQuarantined(
        f"{connection.target}: the box answered with {error}",
        hint="this is no honest box, or something garbles its answers; look at it before it is tried again",
    )


class Mailbox:
    """The frames of one channel, as they arrive; waiting tasks are woken by a frame, or when none can come any more."""

    def __init__(self, name: str, share: int, *, expecting: bool) -> None:
        self.name = name
        """Its name in the protocol."""
        self.share = share
        """Bytes that may be in flight or buffered here."""
        self.frames: deque[Frame] = deque()
        self.news = asyncio.Event()
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
        self.news.set()

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


def _shares(window: int) -> dict[str, int]:
    """Return the credit of each channel: the busiest channel gets most of the window."""
    return {"s": window // 4, "r": window - window // 4, "f": _FACTS}


class _Session(asyncssh.SSHClientSession[bytes]):
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
        self._early: EarlyWords | None = None
        self.opened_at = 0.0
        shares = _shares(connection.window)
        self.greeting = Mailbox("h", _FACTS, expecting=True)
        # The first requests are sent with the program.
        self.looks = Mailbox("s", shares["s"], expecting="scan" in asked)
        self.readings = Mailbox("r", shares["r"], expecting="read" in asked)
        self.facts = Mailbox("f", shares["f"], expecting="facts" in asked)
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
        self.channel = chan
        self._early = EarlyWords(chan)
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
            box.news.set()

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
        self.ended = True
        self.error = exc
        self._stop()
        self._wake_all()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        self._stop()
        if self.channel is not None and not self.ended:
            # Data in flight to a channel that this end closes is not held against the host.
            self._connection.meter.forgive(self._connection.window)
            self.channel.abort()


class ProbeProcess:
    """A probe after its greeting: three channels, each with a mailbox of its own."""

    def __init__(self, connection: Connection, limits: Limits, session: _Session) -> None:
        self._connection = connection
        self._limits = limits
        self._session = session
        self.looks, self.readings, self.facts = session.looks, session.readings, session.facts
        self.python = ""
        self.round_trip = 0.0
        """Seconds until sshd had opened the channel, for which it neither starts a program nor reads a file system."""

    @classmethod
    async def start(
        cls, connection: Connection, limits: Limits, pulse: Pulse, questions: Sequence[dict[str, object]] = ()
    ) -> Self:
        """Send the program, with the first requests behind it, and wait for its greeting; the caller closes it.

        Raise `NoProbe` where the host does not run it, `Retry` when the link fails.
        """
        marker = secrets.token_hex(MARKER_BYTES)
        opening = protocol.opening(marker, pulse, _shares(connection.window)) + b"".join(
            map(protocol.message, questions)
        )
        asked = {question["do"] for question in questions}
        session = _Session(connection, FrameDecoder(marker.encode(), limits.frame_bytes), pulse, opening, asked)
        process = cls(connection, limits, session)
        try:
            await process._open()
            await process._greeting()
        except BaseException:
            session.close()
            raise
        return process

    async def _open(self) -> None:
        asked = time.monotonic()
        try:
            with anyio.fail_after(self._limits.answer_time.total_seconds()):
                await self._connection.ssh.create_session(
                    lambda: self._session, protocol.command(), encoding=None, window=self._connection.window
                )
        except asyncssh.ChannelOpenError as e:
            if e.code == asyncssh.OPEN_REQUEST_SESSION_FAILED:
                raise NoProbe("commands are refused") from e
            raise await self._connection.failed(e) from e
        except TimeoutError as e:
            raise self._silent(self._connection.meter.total) from e
        except (asyncssh.Error, OSError) as e:
            raise self._connection.lost(e) from e
        self.round_trip = self._session.opened_at - asked

    async def _greeting(self) -> None:
        try:
            frame = await self.frame(self._session.greeting)
        except (LinkLost, HostQuarantined) as e:
            session = self._session
            no_answer = (session.broken is not None or session.ended) and not session.decoder.started
            if no_answer and session.error is None and not self._connection.ssh.is_closed():
                raise NoProbe(self._end(), quoted(session.before)) from e
            raise
        try:
            self.python = decode.python(frame.payload)
        except BrokenAnswer as e:
            raise broken(self._connection, e) from e

    def _end(self) -> str:
        """Return a text on how the program ended."""
        channel = self._session.channel
        status = channel.get_exit_status() if channel is not None else None
        session = self._session
        words = [session.complaint] if session.decoder.started else [session.before, session.complaint]
        said = "".join(f", saying {quoted(each)}" for each in words if each.strip())
        return f"the probe ended{'' if status is None else f' with status {status}'}{said}"

    def _silent(self, heard: int) -> Retry:
        """Return the error for a missing answer; `heard`: the connection's bytes before the wait."""
        seconds = self._limits.answer_time.total_seconds()
        what = f"{self._connection.target}: no byte of an answer within {seconds:g} s{self.whereabouts}"
        if self._connection.meter.total > heard:
            return Stuck(
                f"{what}, though the link is alive",
                hint="its file system hangs; limits.answer_time says how long it may",
            )
        return LinkLost(what, hint="the host's file system hangs, or the link is dead; see limits.answer_time")

    @property
    def whereabouts(self) -> str:
        """A text on the place of the program's last long work; empty where there was none."""
        return f", after it was busy with {quoted(self._session.place)}" if self._session.place else ""

    @property
    def alive(self) -> bool:
        """Whether the program runs, even one that broke the protocol: the wait for its answer reports that."""
        return not self._session.ended

    def ask(self, request: dict[str, object], box: Mailbox) -> None:
        """Send a request that is answered into `box`; raise `Retry` where the link is gone."""
        box.expecting = True
        channel = self._session.channel
        if channel is None or not self.alive:
            raise self._lost()
        try:
            channel.write(protocol.message(request))
        except OSError as e:
            raise self._connection.lost(e) from e

    def _lost(self) -> HarvestError:
        if self._connection.meter.exceeded or self._connection.ssh.is_closed() or self._session.error is not None:
            return self._connection.lost(self._session.error)
        return LinkLost(f"{self._connection.target}: {self._end()}")

    async def frame(self, box: Mailbox) -> Frame:
        """Return the next frame of a channel, without keep-alive frames.

        Raise `Retry` where the link is lost or no byte arrives for `Limits.answer_time` (`Stuck` where the link is
        alive meanwhile), `HostQuarantined` where the stream is invalid.
        """
        while True:
            while not box.frames:
                heard = self._connection.meter.total
                with anyio.move_on_after(self._limits.answer_time.total_seconds()) as scope:
                    await self.arrival(box)
                if scope.cancelled_caught:
                    raise self._silent(heard)
            frame = self._session.take(box)
            if frame.letter is not Letter.WAIT:
                return frame

    def take(self, box: Mailbox) -> Frame:
        """Return the next frame of a channel, which has arrived; it may be a keep-alive frame."""
        return self._session.take(box)

    async def arrival(self, box: Mailbox) -> None:
        """Wait without a deadline until a frame of a channel has arrived; raise as `frame` does."""
        while not box.frames:
            if self._session.broken is not None:
                raise broken(self._connection, self._session.broken) from self._session.broken
            if self._session.ended:
                raise self._lost() from self._session.error
            box.news.clear()
            await box.news.wait()

    def close(self) -> None:
        """End the program by ending its input."""
        self._session.close()
