"""Limit the unrequested data that a host may send.

SSH has messages that no channel's window governs (MSG_IGNORE, MSG_DEBUG, unrequested replies), and asyncssh keeps what
arrives for a paused channel even beyond its window. So the bytes of each connection are counted when they arrive, and
requested data is credited when it is used. A host that is ahead by more than an allowance is cut off: it can neither
fill this process's memory nor occupy the event loop that serves the other hosts.

One event loop serves all hosts, so time is counted as well as bytes: a packet of five bytes costs as much time as one
of a thousand. The CPU time of the thread for a connection's packets is counted. Credit is given for the cost of an
honest host's bytes and answers, and for a small share of all time. Data that waits to be sent and that the host does
not read is bounded, too.
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
"""Bytes that may always be in flight: handshakes, banners, the rest of a closed channel."""
_OVERHEAD_PER_BYTE = 0.25
"""Headers, padding and checksums of credited bytes."""
_OVERHEAD_PER_CREDIT = 512
"""The same for each message, however small."""
_MOST_FORGIVEN = 64 * 1024 * 1024
"""Bytes: an upper bound for the allowance from closed channels whose data never arrived."""
_BYTES_PER_SECOND = 1024
"""For keepalives and key exchanges over a connection's life."""

_SECONDS = 0.15
"""Seconds of the thread's time that may be spent on one connection beyond the credit for its answers."""
_SHARE = 0.05
"""Share of all time for keepalives, key exchanges and other overhead."""
_SECONDS_PER_BYTE = 50e-9
"""Ten times the cost of an honest host's bytes."""
_SECONDS_PER_ANSWER = 20e-6
_SECONDS_AT_ONCE = 0.05
"""The most that one received piece can count: a garbage collection in between is not caused by the host."""
_SUSPECT = 0.02
"""Seconds from which on the meter is checked after each small piece: a tiny packet makes asyncssh copy the rest."""
_PIECE = 8 * 1024
_UNREAD = 16 * 1024 * 1024
"""Bytes that wait for a host to read them: a window's worth of requests is far less."""

_READ = 128 * 1024
"""Bytes read from a socket at once."""
_HEAD = 1024
"""Bytes from the beginning of a connection that are kept for an error's text."""
_HANDSHAKE = 32 * 1024
"""Bytes after which a connection is certainly past its log-in and the start of its first program."""
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


@dataclass(slots=True)
class Meter:
    """The account of bytes and time of one connection."""

    cut: Callable[[], None]
    """Called once, when the host has exceeded its allowance."""
    begun: Callable[[], None] = lambda: None
    """Called once, when the first bytes arrive."""
    allowance: int = _ALLOWANCE
    clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    exceeded: bool = field(default=False, init=False)
    total: int = field(default=0, init=False)
    """All bytes received so far."""
    _ahead: float = field(default=0.0, init=False)
    _windows: int = field(default=0, init=False)
    _at: float | None = field(default=None, init=False)
    _busy: float = field(default=0.0, init=False)
    """Seconds that were spent and are not credited yet."""
    _earned: float = field(default=0.0, init=False)
    """Seconds of credit for what arrived since."""

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
        """Count the thread's time for the data that arrived last."""
        self._busy = max(0.0, self._busy + min(seconds, _SECONDS_AT_ONCE) - self._earned)
        self._earned = 0.0
        if self._busy > _SECONDS:
            self.exceed()

    @property
    def is_suspicious(self) -> bool:
        """Whether this host has cost more time than its answers are worth, though not yet too much."""
        return self._busy > _SUSPECT

    def unread(self, count: int) -> None:
        """Check how many bytes wait for the host to read them."""
        if count > _UNREAD:
            self.exceed()

    def exceed(self) -> None:
        """Cut the host off; only the first call has an effect."""
        if not self.exceeded:
            self.exceeded = True
            self.cut()

    def credit(self, count: int) -> None:
        """Credit one requested message of `count` bytes that has arrived."""
        self._settle(count * (1 + _OVERHEAD_PER_BYTE) + _OVERHEAD_PER_CREDIT)
        self._earned += count * _SECONDS_PER_BYTE

    def answered(self, answers: int, count: int) -> None:
        """Credit the time of `answers` requested answers with `count` bytes after unpacking."""
        self._earned += answers * _SECONDS_PER_ANSWER + count * _SECONDS_PER_BYTE

    def passed_on(self, count: int, seconds: float) -> None:
        """Credit bytes, and their time, of a connection that this one carries and that has a meter of its own."""
        self.credit(count)
        self._earned += seconds

    def _settle(self, count: float) -> None:
        # Only received bytes are settled: credit can't be saved up for a flood.
        if self._ahead > 0:
            self._ahead = max(0.0, self._ahead - count)

    def forgive(self, window: int) -> None:
        """Allow at most `window` bytes that may still arrive for a channel that was closed early."""
        self._ahead = max(self._ahead - window, min(self._ahead, -_MOST_FORGIVEN))

    def expect(self, window: int) -> None:
        """Allow `window` bytes (fewer where negative) that may be buffered in a channel that is paused."""
        self._windows += window


_MESSAGES_PER_SECOND = 50.0
_MESSAGES_AT_ONCE = 10_000
"""Those that may be counted together: more than the credit of a channel for scans holds. So many wait here where the
first files of a host take hours on a slow link, while it reports a scan in each interval."""


class MessageRate:
    """Limits one kind of message that a host may send unrequested, like reports of its scans.

    An honest host sends a few in a second, and gathers what happens for 30 ms at least. Their bytes are credited, and
    most of the work for them is done outside `Metered.data_received`, so neither of its limits applies.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._count = 0.0
        self._at = 0.0

    def count(self, now: float) -> None:
        """Count a message at `now`, in monotonic seconds; cut the host off if it sends far too many."""
        self._count = max(0.0, self._count - (now - self._at) * _MESSAGES_PER_SECOND) + 1
        self._at = now
        if self._count > _MESSAGES_AT_ONCE:
            self._meter.exceed()


class Session(Protocol):
    """The interface of asyncssh's connection to its transport (TCP or a channel of another connection)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection."""

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Process received data."""

    def eof_received(self) -> bool | None:
        """Handle the end of the incoming data."""

    def session_started(self) -> None:
        """Handle the opening of a channel."""

    def pause_writing(self) -> None:
        """Stop writing."""

    def resume_writing(self) -> None:
        """Resume writing."""


class Metered:
    """Counts received data and forwards every callback to asyncssh's connection."""

    def __init__(self, session: Session, meter: Meter) -> None:
        self._session = session
        self._meter = meter
        self._transport: asyncio.WriteTransport | None = None
        self._head = b""

    @property
    def banner_before_version(self) -> bytes:
        """Return the other side's text before its version line: sshd writes there why it refuses a connection."""
        before, version, _ = (b"\n" + self._head).partition(b"\nSSH-")
        return before.strip() if version or self._head else b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport and forward the call."""
        # A channel of another connection has the transport methods that are used here as well.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._session.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forward the call."""
        self._session.connection_lost(exc)

    def session_started(self) -> None:
        """Forward the call."""
        self._session.session_started()

    def eof_received(self) -> bool | None:
        """Forward the call."""
        return self._session.eof_received()

    def pause_writing(self) -> None:
        """Forward the call."""
        self._session.pause_writing()

    def resume_writing(self) -> None:
        """Forward the call."""
        self._session.resume_writing()

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Count the received data, and forward it in pieces."""
        meter = self._meter
        if meter.total < _HEAD:
            if not meter.total:
                meter.begun()
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
    """A connection that another one carries: its data is credited on the outer connection's meter."""

    def __init__(self, session: Session, meter: Meter, outer: Meter) -> None:
        super().__init__(session, meter)
        self._outer = outer

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Process received data, and credit it on the outer connection."""
        began = time.thread_time()
        super().data_received(data, datatype)
        self._outer.passed_on(len(data), time.thread_time() - began)


class _Memory(threading.local):
    """The read buffer that all sockets of an event loop share: each copies its data out before the next one reads."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_READ))


_memory = _Memory()


class MeteredSocket(Metered, asyncio.BufferedProtocol):
    """Reads into a shared buffer.

    asyncio would allocate 256 KiB for each read, which took a third of the time of a checkpoint transfer.
    """

    def __init__(self, session: Session, meter: Meter) -> None:
        super().__init__(session, meter)
        self._socket: asyncio.trsock.TransportSocket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the socket and forward the call."""
        self._socket = transport.get_extra_info("socket")
        super().connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (asyncio's signature)
        """Return the buffer that the socket reads into."""
        return _memory.view

    def buffer_updated(self, nbytes: int) -> None:
        """Process what the socket read."""
        if self._socket is not None and self._meter.total < _HANDSHAKE and _QUICKACK is not None:
            # sshd holds back its next small message (Nagle) until this one is acknowledged, and the local kernel delays
            # acknowledgements by 40 ms.
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        self.data_received(bytes(_memory.view[:nbytes]))
