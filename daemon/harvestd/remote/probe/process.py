"""One running probe on a box: its start, its heartbeat, its stream of frames, its end.

Whatever a box does here, memory is bounded: it may send what it was granted, and is granted more only as frames are
taken. (Pausing the channel would not do: asyncssh opens the whole window again whenever a paused channel is resumed,
whatever it still holds.) No wait is endless. A process whose conversation went wrong is of no further use; its owner
closes it.
"""

import asyncio
import secrets
from collections import deque
from contextlib import suppress
from typing import Self

import anyio
import asyncssh

from harvestd.errors import HarvestError, HostQuarantined
from harvestd.remote.box import Limits
from harvestd.remote.connecting import Connection
from harvestd.remote.failures import LinkLost, quoted
from harvestd.remote.probe import answers, bootstrap
from harvestd.remote.probe.bootstrap import HEARTBEAT, Pulse
from harvestd.remote.probe.frames import MARKER_BYTES, BrokenStream, Frame, FrameDecoder, Letter

_GRANTS = 4
"""A new grant is sent when this part of the credit was used up: few messages, and the box never runs dry."""
_COMPLAINT = 2048
"""Bytes of the program's standard error that are kept for an error's text."""


class NoProbe(Exception):
    """The program did not start on this box: no Python 3, or commands are not allowed. The text says what was seen."""


def broken(connection: Connection, error: BrokenStream | answers.BrokenAnswer) -> HostQuarantined:
    """Give the error for a box that does not keep to the protocol."""
    return HostQuarantined(
        f"{connection.target}: the box answered with {error}",
        hint="this is no honest box, or something garbles its answers; look at it before it is tried again",
    )


class _Session(asyncssh.SSHClientSession[bytes]):
    """Asyncssh's side of the process; calls nobody, keeps what comes and says that something came."""

    def __init__(self, connection: Connection, decoder: FrameDecoder, pulse: Pulse) -> None:
        self._connection = connection
        self._pulse = pulse
        self._timer: asyncio.TimerHandle | None = None
        self._held = 0
        self._granted_again = 0
        self.decoder = decoder
        self.channel: asyncssh.SSHClientChannel[bytes] | None = None
        self.frames: deque[Frame] = deque()
        self.news = asyncio.Event()
        self.broken: BrokenStream | None = None
        self.ended = False
        self.error: Exception | None = None
        self.complaint = b""

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self.channel = chan

    def session_started(self) -> None:
        self._beat_later()

    def _beat_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._pulse.interval.total_seconds(), self._beat)

    def _beat(self) -> None:
        if self.channel is not None and not self.ended and not self.channel.is_closing():
            self.channel.write(HEARTBEAT)
            self._beat_later()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is not None:
            # Not credited to the meter: a box that complains without end is cut off.
            self.complaint += data[: max(0, _COMPLAINT - len(self.complaint))]
            return
        self.news.set()
        if self.broken is not None:
            return
        self._connection.meter.credit(len(data))
        try:
            for frame in self.decoder.feed(data):
                self.frames.append(frame)
                self._held += len(frame.payload)
        except BrokenStream as e:
            self.broken = e
        if self.decoder.received - self._granted_again > self._connection.window:
            self.broken = BrokenStream("more bytes than it was granted")
        self._grant()

    def _grant(self) -> None:
        """Allow as many bytes as were taken off our hands, once it is worth a message."""
        taken = self.decoder.received - self._held - self._granted_again
        if taken >= self._connection.window // _GRANTS and self.channel is not None and not self.ended:
            self._granted_again += taken
            with suppress(BrokenPipeError):
                # A channel that is closing says so to whoever waits for its next frame.
                self.channel.write(bootstrap.grant(taken))

    def take(self) -> Frame:
        frame = self.frames.popleft()
        self._held -= len(frame.payload)
        self._grant()
        return frame

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.error = exc
        self._stop()
        self.news.set()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        self._stop()
        if self.channel is not None and not self.ended:
            # What is on its way to a channel that we close is not the box's fault.
            self._connection.meter.forgive(self._connection.window)
            self.channel.abort()


class ProbeProcess:
    """A probe that has greeted us."""

    def __init__(self, connection: Connection, limits: Limits, session: _Session) -> None:
        self._connection = connection
        self._limits = limits
        self._session = session
        self.python = ""

    @classmethod
    async def start(cls, connection: Connection, limits: Limits, pulse: Pulse) -> Self:
        """Send the program and wait for its greeting; the caller closes what is given.

        Raises `NoProbe` where the box does not run it, `Retry` when the link fails.
        """
        marker = secrets.token_hex(MARKER_BYTES)
        session = _Session(connection, FrameDecoder(marker.encode(), limits.frame_bytes), pulse)
        process = cls(connection, limits, session)
        try:
            await process._open(bootstrap.opening(marker, pulse, connection.window))
            await process._greeting()
        except BaseException:
            session.close()
            raise
        return process

    async def _open(self, opening: bytes) -> None:
        try:
            with anyio.fail_after(self._limits.answer_time.total_seconds()):
                channel, _ = await self._connection.ssh.create_session(
                    lambda: self._session, bootstrap.command(), encoding=None, window=self._connection.window
                )
            with suppress(BrokenPipeError):
                # Where the program has ended already, how it did is told while we wait for its greeting.
                channel.write(opening)
        except asyncssh.ChannelOpenError as e:
            if e.code == asyncssh.OPEN_REQUEST_SESSION_FAILED:
                raise NoProbe("commands are refused") from e
            raise self._connection.lost(e) from e
        except TimeoutError as e:
            raise self._silent() from e
        except (asyncssh.Error, OSError) as e:
            raise self._connection.lost(e) from e

    async def _greeting(self) -> None:
        try:
            frame = await self.frame()
        except (LinkLost, HostQuarantined) as e:
            session = self._session
            no_answer = (session.broken is not None or session.ended) and not session.decoder.started
            if no_answer and session.error is None and not self._connection.ssh.is_closed():
                raise NoProbe(self._end()) from e
            raise
        if frame.letter is not Letter.HELLO:
            raise broken(self._connection, BrokenStream("something else than a greeting"))
        try:
            self.python = answers.python(frame.payload)
        except answers.BrokenAnswer as e:
            raise broken(self._connection, e) from e

    def _end(self) -> str:
        """Say in words how the program ended."""
        channel = self._session.channel
        status = channel.get_exit_status() if channel is not None else None
        said = f", saying {quoted(self._session.complaint)}" if self._session.complaint.strip() else ""
        return f"the probe ended{'' if status is None else f' with status {status}'}{said}"

    def _silent(self) -> LinkLost:
        seconds = self._limits.answer_time.total_seconds()
        return LinkLost(
            f"{self._connection.target}: no byte of an answer within {seconds:g} s",
            hint="the box's file system hangs, or the link is dead",
        )

    @property
    def alive(self) -> bool:
        """Whether the program can still be asked."""
        return not self._session.ended and self._session.broken is None

    def ask(self, request: dict[str, object]) -> None:
        """Send a request; raises `Retry` where the link is gone."""
        channel = self._session.channel
        if channel is None or not self.alive:
            raise self._lost()
        try:
            channel.write(bootstrap.message(request))
        except OSError as e:
            raise self._connection.lost(e) from e

    def _lost(self) -> HarvestError:
        if self._connection.meter.exceeded or self._connection.ssh.is_closed() or self._session.error is not None:
            return self._connection.lost(self._session.error)
        return LinkLost(f"{self._connection.target}: {self._end()}")

    async def frame(self) -> Frame:
        """Give the next frame that says something.

        Raises `Retry` where the link is lost or nothing at all arrives for `Limits.answer_time`, `HostQuarantined`
        where the stream is garbage.
        """
        while True:
            while not self._session.frames:
                await self._arrival()
            frame = self._session.take()
            if frame.letter is not Letter.WAIT:
                return frame

    async def _arrival(self) -> None:
        session = self._session
        if session.broken is not None:
            raise broken(self._connection, session.broken) from session.broken
        if session.ended:
            raise self._lost() from session.error
        session.news.clear()
        with anyio.move_on_after(self._limits.answer_time.total_seconds()) as scope:
            await session.news.wait()
        if scope.cancelled_caught:
            raise self._silent()

    def close(self) -> None:
        """End the program: its input ends, and with that the program does."""
        self._session.close()
