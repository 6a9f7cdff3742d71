"""How much a host may send that nobody asked for.

SSH has messages that no channel's window governs (MSG_IGNORE, MSG_DEBUG, replies without a question), and asyncssh
keeps what arrives for a paused channel even beyond its window. So each connection's bytes are counted where they
arrive, what was asked for is credited where it is used, and a host that is ahead by more than an allowance is cut off:
it can neither fill our memory nor keep the event loop from the other hosts.

One loop serves all hosts, so time counts as bytes do: a packet of five bytes costs as much of it as one of a thousand.
What our thread computes on a connection's packets is counted, what an honest host's bytes and answers cost is allowed
for, and so is a small share of all time. What a host makes us send and does not read is bounded, too.
"""

import asyncio
import asyncio.trsock
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, cast

_ALLOWANCE = 4 * 1024 * 1024
"""Bytes that may always be on their way: handshakes, banners, what a closed channel still held."""
_OVERHEAD_PER_BYTE = 0.25
"""Headers, padding and checksums of credited bytes."""
_OVERHEAD_PER_CREDIT = 512
"""And of each message, however small."""
_MOST_FORGIVEN = 64 * 1024 * 1024
"""Bytes: what never came of closed channels is no allowance that grows without end."""
_BYTES_PER_SECOND = 1024
"""For keepalives and key exchanges over a connection's life."""

_SECONDS = 0.15
"""Of our thread's time that may be spent on one connection beyond what its answers are worth."""
_SHARE = 0.05
"""Of all time, for keepalives, key exchanges and whatever else goes to and fro."""
_SECONDS_PER_BYTE = 50e-9
"""Ten times what an honest host's bytes cost."""
_SECONDS_PER_ANSWER = 20e-6
_SECONDS_AT_ONCE = 0.05
"""The most that one piece of what arrives can count: a collection of garbage in between is not the host's doing."""
_SUSPECT = 0.02
"""Seconds from which on we look again after each small piece: a packet that is tiny makes the rest be copied."""
_PIECE = 8 * 1024
_UNREAD = 16 * 1024 * 1024
"""Bytes that wait for a host to read them: a window's worth of requests is far less."""

_READ = 128 * 1024
"""Bytes taken from a socket at once."""
_HEAD = 1024
"""Bytes from the beginning of a connection that are kept for an error's text."""
_HANDSHAKE = 32 * 1024
"""Bytes in which a connection is surely past its log-in and the start of its first program."""
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


@dataclass(slots=True)
class Meter:
    """The account of one connection."""

    cut: Callable[[], None]
    """Called once, when the host has gone beyond its allowance."""
    allowance: int = _ALLOWANCE
    clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    exceeded: bool = field(default=False, init=False)
    total: int = field(default=0, init=False)
    """All bytes that came so far."""
    _ahead: float = field(default=0.0, init=False)
    _windows: int = field(default=0, init=False)
    _at: float | None = field(default=None, init=False)
    _busy: float = field(default=0.0, init=False)
    """Seconds that were spent and are not accounted for."""
    _earned: float = field(default=0.0, init=False)
    """Seconds that what came since was worth."""

    def received(self, count: int) -> None:
        """Count bytes as they arrive from the network."""
        now = self.clock()
        if self._at is not None:
            self._settle((now - self._at) * _BYTES_PER_SECOND)
            self._busy = max(0.0, self._busy - (now - self._at) * _SHARE)
        self._at = now
        self.total += count
        self._ahead += count
        if self._ahead > self.allowance + self._windows:
            self.exceed()

    def worked(self, seconds: float) -> None:
        """Count our thread's time for what arrived last."""
        self._busy = max(0.0, self._busy + min(seconds, _SECONDS_AT_ONCE) - self._earned)
        self._earned = 0.0
        if self._busy > _SECONDS:
            self.exceed()

    @property
    def is_suspicious(self) -> bool:
        """Whether this host cost more of our time than its answers are worth, though not yet too much."""
        return self._busy > _SUSPECT

    def unread(self, count: int) -> None:
        """Note how many bytes wait for the host to read them."""
        if count > _UNREAD:
            self.exceed()

    def exceed(self) -> None:
        """Cut the host off, once."""
        if not self.exceeded:
            self.exceeded = True
            self.cut()

    def credit(self, count: int) -> None:
        """Account for one message of `count` bytes that was asked for and has arrived."""
        self._settle(count * (1 + _OVERHEAD_PER_BYTE) + _OVERHEAD_PER_CREDIT)
        self._earned += count * _SECONDS_PER_BYTE

    def answered(self, answers: int, count: int) -> None:
        """Account for the time of so many answers that were asked for, `count` bytes once they are unpacked."""
        self._earned += answers * _SECONDS_PER_ANSWER + count * _SECONDS_PER_BYTE

    def passed_on(self, count: int, seconds: float) -> None:
        """Account for bytes of a connection within this one, which has a meter of its own, and for their time."""
        self.credit(count)
        self._earned += seconds

    def _settle(self, count: float) -> None:
        # Only what has come is settled: credit can't be saved up for a flood.
        if self._ahead > 0:
            self._ahead = max(0.0, self._ahead - count)

    def forgive(self, window: int) -> None:
        """Account for at most `window` bytes that may still come for a channel that we closed early."""
        self._ahead = max(self._ahead - window, min(self._ahead, -_MOST_FORGIVEN))

    def expect(self, window: int) -> None:
        """Allow for `window` bytes (less where negative) that may lie in a channel that we hold back."""
        self._windows += window


class Session(Protocol):
    """What asyncssh's connection is to its transport, TCP or a channel of another connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Take what arrived."""

    def eof_received(self) -> bool | None:
        """Take it that nothing more arrives."""

    def session_started(self) -> None:
        """Take it that a channel is open."""

    def pause_writing(self) -> None:
        """Write no more for now."""

    def resume_writing(self) -> None:
        """Write again."""


class Metered:
    """Passes everything on to asyncssh's connection and counts what arrives."""

    def __init__(self, session: Session, meter: Meter) -> None:
        self._session = session
        self._meter = meter
        self._transport: asyncio.WriteTransport | None = None
        self._head = b""

    @property
    def said_before(self) -> bytes:
        """Return what the other side sent before its version line: sshd says there why it refuses a connection."""
        before, version, _ = (b"\n" + self._head).partition(b"\nSSH-")
        return before.strip() if version or self._head else b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # A channel of another connection has what is asked of it here as well.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._session.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._session.connection_lost(exc)

    def session_started(self) -> None:
        """Take it that a channel is open."""
        self._session.session_started()

    def eof_received(self) -> bool | None:
        """Take it that nothing more arrives."""
        return self._session.eof_received()

    def pause_writing(self) -> None:
        """Write no more for now."""
        self._session.pause_writing()

    def resume_writing(self) -> None:
        """Write again."""
        self._session.resume_writing()

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Count what arrived, and pass it on in pieces."""
        meter = self._meter
        if meter.total < _HEAD:
            self._head += data[: _HEAD - len(self._head)]
        meter.received(len(data))
        step = _PIECE if meter.is_suspicious else max(1, len(data))
        for start in range(0, len(data), step):
            if meter.exceeded:
                return
            began = time.thread_time()
            self._session.data_received(data[start : start + step], datatype)
            meter.worked(time.thread_time() - began)
            if self._transport is not None:
                meter.unread(self._transport.get_write_buffer_size())


class MeteredChannel(Metered):
    """A connection within another: what is counted here is accounted for there."""

    def __init__(self, session: Session, meter: Meter, outer: Meter) -> None:
        super().__init__(session, meter)
        self._outer = outer

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Take what arrived, and account for it in the outer connection."""
        began = time.thread_time()
        super().data_received(data, datatype)
        self._outer.passed_on(len(data), time.thread_time() - began)


class _Memory(threading.local):
    """What an event loop's sockets read into, one after the other: each takes out what came before the next reads."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_READ))


_memory = _Memory()


class MeteredSocket(Metered, asyncio.BufferedProtocol):
    """Reads into memory that is there: asyncio's fresh 256 KiB for each read cost a checkpoint a third of its time."""

    def __init__(self, session: Session, meter: Meter) -> None:
        super().__init__(session, meter)
        self._socket: asyncio.trsock.TransportSocket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._socket = transport.get_extra_info("socket")
        super().connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (asyncio's signature)
        """Return what the socket reads into."""
        return _memory.view

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the socket read."""
        if self._socket is not None and self._meter.total < _HANDSHAKE and _QUICKACK is not None:
            # sshd's next small message waits (Nagle) until we acknowledge this one, and our kernel for 40 ms with that.
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        self.data_received(bytes(_memory.view[:nbytes]))
