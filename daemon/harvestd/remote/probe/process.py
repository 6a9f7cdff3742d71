"""One running probe on a host: its start, its answers, its end, and its next start after it was given up.

Every wait has a deadline. A process whose protocol was violated can't be used any more; its owner closes it.
"""

import secrets
import time
from collections.abc import Sequence
from typing import Self

import anyio
import asyncssh

from harvestd.errors import HarvestError, HostQuarantined, Retry
from harvestd.remote.api import Limits
from harvestd.remote.probe import decode, protocol
from harvestd.remote.probe.decode_records import BrokenAnswer
from harvestd.remote.probe.protocol import MARKER_BYTES, BrokenStream, Frame, FrameDecoder, Letter, Pulse
from harvestd.remote.probe.session import Mailbox, Session, shares
from harvestd.remote.ssh.connection import Connection
from harvestd.remote.ssh.errors import LinkLost, Stuck, quoted


class NoProbe(Exception):
    """The program did not start on this host: no Python 3, or commands are not allowed.

    The text describes the failure.
    """

    def __init__(self, message: str, output: str = "") -> None:
        """Store the reason. `output`: the host's standard output in place of the program's answers, made safe."""
        super().__init__(message)
        self.output = output


def broken(connection: Connection, error: BrokenStream | BrokenAnswer) -> HostQuarantined:
    """Return the error for a host that violates the protocol."""
    return HostQuarantined(
        f"{connection.target}: the box answered with {error}",
        hint="this is no honest box, or something garbles its answers; look at it before it is tried again",
    )


class ProbeProcess:
    """A probe after its greeting: three channels, each with a mailbox of its own."""

    def __init__(self, connection: Connection, limits: Limits, session: Session) -> None:
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
        opening = protocol.opening(marker, pulse, shares(connection.window)) + b"".join(
            map(protocol.message, questions)
        )
        asked = {question["do"] for question in questions}
        session = Session(connection, FrameDecoder(marker.encode(), limits.frame_bytes), pulse, opening, asked)
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
            raise self._no_answer(self._connection.meter.total) from e
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

    def _no_answer(self, received: int) -> Retry:
        """Return the error for a missing answer; `received`: the connection's bytes before the wait."""
        seconds = self._limits.answer_time.total_seconds()
        what = f"{self._connection.target}: no byte of an answer within {seconds:g} s{self.whereabouts}"
        if self._connection.meter.total > received:
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

    def send(self, request: dict[str, object], box: Mailbox) -> None:
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
                received = self._connection.meter.total
                with anyio.move_on_after(self._limits.answer_time.total_seconds()) as scope:
                    await self.arrival(box)
                if scope.cancelled_caught:
                    raise self._no_answer(received)
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
            box.arrived.clear()
            await box.arrived.wait()

    def close(self) -> None:
        """End the program by ending its input."""
        self._session.close()


class Running:
    """Shares one process among all users of a connection; it is never started twice at the same time."""

    def __init__(self, connection: Connection, limits: Limits, pulse: Pulse) -> None:
        self.connection = connection
        self.limits = limits
        self._pulse = pulse
        self._process: ProbeProcess | None = None
        self._starting = anyio.Lock()

    async def start(self, questions: Sequence[dict[str, object]] = ()) -> None:
        """Start the program, and send these requests; raise `NoProbe` where the host can't run it, `Retry`."""
        self._process = await ProbeProcess.start(self.connection, self.limits, self._pulse, questions)

    async def get(self) -> ProbeProcess:
        """Return the process, started again if it has ended. Raise `Retry`."""
        process, _ = await self.start_or_send(())
        return process

    async def start_or_send(self, questions: Sequence[dict[str, object]]) -> tuple[ProbeProcess, bool]:
        """Return the process, and whether it was started by this call, with these requests. Raise `Retry`."""
        async with self._starting:
            begins = self._process is None or not self._process.alive
            if begins:
                try:
                    await self.start(questions)
                except NoProbe as e:
                    raise LinkLost(f"{self.connection.target}: the probe does not start ({e})") from e
            if self._process is None:
                raise AssertionError("it was just started")
            return self._process, begins

    def give_up(self) -> None:
        """End the process: its remaining answers are not wanted, or it violated the protocol."""
        process, self._process = self._process, None
        if process is not None:
            process.close()
