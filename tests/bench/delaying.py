"""A line between here and a box, as far away as you like: a TCP proxy with a round trip, a rate and full buffers.

By hand: `python tests/bench/delaying.py 2222 --rtt 50` prints the port that stands for 2222; ended by SIGTERM or ^C.
With several targets it prints as many ports, in their order. SIGUSR1 makes it print one line of JSON: what every target
has carried so far.

Modelled: half the round trip each way, with the order kept; connecting costs a round trip before a byte is sent; a rate
that all connections share on their way here, in turns; as many bytes on the way a connection and direction as stock TCP
buffers hold, each until its acknowledgement could be back; half-closed connections, and resets after what came before.
Not modelled: slow start, loss, jitter and TCP's own bytes. A connection is as fast at once as a real one is after some
round trips, which flatters whoever opens many, ssh's own included: compare figures of one and the same line only.

It never listens on anything but 127.0.0.1 and never connects to anything else. Standard library alone, one thread.
"""

import argparse
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from itertools import count

MIB = 1024 * 1024
IN_FLIGHT = 4 * MIB
"""Bytes: the largest that Linux lets a socket's send buffer grow to by itself (net.ipv4.tcp_wmem)."""
_PIECE = 128 * 1024
_AHEAD = 0.002
"""Seconds of its rate that a line takes in at once: short, so that all have their turn."""
_LOOPBACK = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection."""
_clock = time.monotonic


@dataclass(slots=True)
class Carried:
    """What one target's connections have carried so far."""

    target: int
    connections: int = 0
    open: int = 0
    to_box: int = 0
    """Bytes, as they came in here; the same for `from_box`."""
    from_box: int = 0

    def count_to_box(self, size: int) -> None:
        """Add bytes to those that go there."""
        self.to_box += size

    def count_from_box(self, size: int) -> None:
        """Add bytes to those that come here."""
        self.from_box += size


class Loop:
    """Calls back when sockets are ready and when moments come, to a fraction of a millisecond."""

    def __init__(self) -> None:
        # epoll_wait counts in milliseconds, select in microseconds: one waits for the other.
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._moments: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """Call once `moment` has come; those of one moment in the order in which they were asked for."""
        heappush(self._moments, (moment, next(self._order), call))

    def watch(self, which: socket.socket, mask: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with the events of a socket from now on."""
        self._handlers[which.fileno()] = handler
        self._epoll.register(which, mask)

    def change(self, which: socket.socket, mask: int) -> None:
        """Ask for other events of a socket that is watched."""
        self._epoll.modify(which, mask)

    def forget(self, which: socket.socket) -> None:
        """Watch a socket no longer; nothing where it is not watched."""
        if self._handlers.pop(which.fileno(), None) is not None:
            self._epoll.unregister(which)

    def run(self) -> None:
        """Run for good."""
        while True:
            ready = self._epoll.poll(0)
            if not ready:
                left = max(0.0, self._moments[0][0] - _clock()) if self._moments else None
                select.select([self._epoll], [], [], left)
                ready = self._epoll.poll(0)
            for number, events in ready:
                handler = self._handlers.get(number)
                if handler is not None:
                    handler(events)
            while self._moments and self._moments[0][0] <= _clock():
                heappop(self._moments)[2]()


class Way:
    """What all connections share in one direction: how long it takes, and how many bytes a second go there."""

    def __init__(self, loop: Loop, delay: float, rate: float | None) -> None:
        # Seconds one way; bytes a second, None: as many as come.
        self.delay = delay
        self._loop = loop
        self._rate = rate
        self._free_at = 0.0
        self._queue: deque[Line] = deque()
        self._timed = False

    def taken(self, size: int) -> float:
        """Take in `size` bytes; gives the moment when they arrive."""
        now = _clock()
        if self._rate is None:
            return now + self.delay
        self._free_at = max(self._free_at, now) + size / self._rate
        return self._free_at + self.delay

    def queue(self, line: "Line") -> bool:
        """Return whether `line` has to wait; it is called in its turn."""
        if self._rate is None or self._free_at - _clock() <= _AHEAD:
            return False
        self._queue.append(line)
        self._ask_for_next()
        return True

    def _ask_for_next(self) -> None:
        if self._queue and not self._timed:
            self._timed = True
            self._loop.at(self._free_at - _AHEAD, self._next)

    def _next(self) -> None:
        self._timed = False
        while self._queue and self._free_at - _clock() <= _AHEAD:
            # It reads one piece; if it has more, the loop brings it to the end of the queue.
            self._queue.popleft().resume()
        self._ask_for_next()


class Line:
    """One direction of one connection."""

    def __init__(
        self, loop: Loop, way: Way, source: socket.socket, sink: socket.socket, counter: Callable[[int], None]
    ) -> None:
        self.ended = False
        """Whether nothing more comes from the sender."""
        self.finished = False
        """Whether nothing more goes to the receiver."""
        self.reset = False
        """Whether the sender ended with a reset."""
        self.blocked = False
        """Whether the receiver takes no more for now."""
        self.changed: Callable[[], None] = lambda: None
        """Called when what this line waits for is another thing than before."""
        self.broken: Callable[[], None] = lambda: None
        """Called when a reset has arrived."""
        self._loop = loop
        self._way = way
        self._source = source
        self._sink = sink
        self._count = counter
        self._room = IN_FLIGHT
        self._queued = False
        self._on_the_way: deque[tuple[float, memoryview]] = deque()

    @property
    def reading(self) -> bool:
        """Whether this line wants to know that its source has something."""
        return not (self.ended or self._queued) and self._room > 0

    def read(self) -> None:
        """Take what the source has, once, and send it on its way."""
        if self.ended or self._queued:
            return
        if self._way.queue(self):
            self._queued = True
            self.changed()
            return
        try:
            # Without room it is only called when the sender is gone: the rest is taken at once.
            data = self._source.recv(min(_PIECE, self._room) if self._room > 0 else _PIECE)
        except BlockingIOError:
            return
        except OSError:
            self.ended = self.reset = True
            self._loop.at(self._way.taken(0), self.broken)
            self.changed()
            return
        self.ended = not data
        self._room -= len(data)
        self._count(len(data))
        arrival = self._way.taken(len(data))
        self._on_the_way.append((arrival, memoryview(data)))
        self._loop.at(arrival, self.deliver)
        if not self.reading:
            self.changed()

    def resume(self) -> None:
        """Read again: the turn has come."""
        self._queued = False
        self.read()
        self.changed()

    def deliver(self) -> None:
        """Return the sink what has arrived."""
        if self.finished:
            return
        now, delivered = _clock(), 0
        self.blocked = False
        try:
            while self._on_the_way and self._on_the_way[0][0] <= now and not self.blocked:
                arrival, data = self._on_the_way[0]
                sent = self._pass_on(data)
                delivered += sent
                self.blocked = sent < len(data)
                if self.blocked:
                    self._on_the_way[0] = arrival, data[sent:]
                else:
                    self._on_the_way.popleft()
        except OSError:
            self.abandon()
        if delivered:
            # The sender's buffer keeps a byte until it is acknowledged, half a round trip after its arrival.
            self._loop.at(now + self._way.delay, lambda: self._acknowledged(delivered))
        self.changed()

    def abandon(self) -> None:
        """Drop what is on its way, and what may come: the receiver is gone, and the way back tells the sender."""
        self.ended = self.finished = True
        self.blocked = False
        self._on_the_way.clear()

    def _pass_on(self, data: memoryview) -> int:
        """Send what the kernel takes of `data`, none of it meaning the end; gives how many bytes it took."""
        if not data:
            self.finished = True
            self._sink.shutdown(socket.SHUT_WR)
            return 0
        with suppress(BlockingIOError):
            return self._sink.send(data)
        return 0

    def _acknowledged(self, size: int) -> None:
        was_reading = self.reading
        self._room += size
        if not was_reading:
            self.changed()


class Connection:
    """A client's connection and the one to the box behind it."""

    def __init__(self, loop: Loop, client: socket.socket, carried: Carried, there: Way, back: Way) -> None:
        self._loop = loop
        self._client = client
        self._box = socket.socket()
        for each in (client, self._box):
            each.settimeout(0)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._carried = carried
        self._up = Line(loop, there, client, self._box, carried.count_to_box)
        self._down = Line(loop, back, self._box, client, carried.count_from_box)
        self._masks: dict[socket.socket, int] = {}
        self._closed = False
        carried.connections, carried.open = carried.connections + 1, carried.open + 1
        for line in (self._up, self._down):
            line.changed = self._look
            line.broken = self._close

    def begin(self) -> None:
        """Take the client's first bytes: its handshake is back."""
        self._look()

    def reach(self) -> None:
        """Knock at the box."""
        if self._closed:
            return
        # Where nobody listens, the first look at the socket says so.
        self._box.connect_ex((_LOOPBACK, self._carried.target))
        self._masks[self._box] = 0
        self._loop.watch(self._box, 0, self._box_ready)
        self._look()

    def _client_ready(self, events: int) -> None:
        self._ready(events, self._up, self._down)

    def _box_ready(self, events: int) -> None:
        self._ready(events, self._down, self._up)

    def _ready(self, events: int, reading: Line, writing: Line) -> None:
        if reading.ended and events & (select.EPOLLHUP | select.EPOLLERR):
            # Its sender had nothing more to say, and now takes nothing more either.
            writing.abandon()
            self._look()
        elif events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            reading.read()
        if events & select.EPOLLOUT and not self._closed:
            writing.deliver()

    def _look(self) -> None:
        """Ask the kernel for what the lines wait for now."""
        if self._closed:
            return
        if self._up.finished and self._down.finished:
            self._close()
            return
        self._ask(self._client, self._up, self._down, self._client_ready)
        if self._box in self._masks:
            self._ask(self._box, self._down, self._up, self._box_ready)

    def _ask(self, which: socket.socket, out: Line, into: Line, handler: Callable[[int], None]) -> None:
        mask = (select.EPOLLIN if out.reading else 0) | (select.EPOLLOUT if into.blocked else 0)
        before = self._masks.get(which)
        if out.reset or (out.ended and into.finished):
            # Both ways are over: the kernel would say so for ever.
            self._loop.forget(which)
        elif before is None:
            self._masks[which] = mask
            self._loop.watch(which, mask, handler)
        elif mask != before:
            self._masks[which] = mask
            self._loop.change(which, mask)

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._carried.open -= 1
        for each in (self._client, self._box):
            self._loop.forget(each)
            if not (self._up.finished and self._down.finished):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            each.close()


class Gate:
    """A port here that stands for a target's."""

    def __init__(self, loop: Loop, target: int, there: Way, back: Way) -> None:
        self.carried = Carried(target)
        self._loop = loop
        self._there = there
        self._back = back
        self._listening = socket.create_server((_LOOPBACK, 0), backlog=512)
        self._listening.settimeout(0)
        loop.watch(self._listening, select.EPOLLIN, self._ready)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listening.getsockname()[1]
        return port

    def _ready(self, _: int) -> None:
        with suppress(BlockingIOError):
            while True:
                client, _address = self._listening.accept()
                self._admit(client)

    def _admit(self, client: socket.socket) -> None:
        connection = Connection(self._loop, client, self.carried, self._there, self._back)
        # The kernel's own handshake took no time: what the client sends, and when the box hears of it, is put off.
        begins = _clock() + self._there.delay + self._back.delay
        self._loop.at(begins, connection.begin)
        self._loop.at(begins + self._there.delay, connection.reach)


def _say(*words: object) -> None:
    # Not through a buffer: a signal may ask while the line before is still being written.
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a line until a signal ends it."""
    parser = argparse.ArgumentParser(description="A TCP proxy on loopback that is as far away as you like.")
    parser.add_argument("targets", type=int, nargs="+", metavar="PORT", help="ports of this machine to stand before")
    parser.add_argument("--rtt", type=float, default=0.0, metavar="MS", help="round trip in milliseconds (0)")
    parser.add_argument("--rate", type=float, metavar="MBIT", help="megabits a second on the way here (no limit)")
    options = parser.parse_args(arguments)
    loop = Loop()
    there = Way(loop, options.rtt / 2000, None)
    back = Way(loop, options.rtt / 2000, options.rate * 1e6 / 8 if options.rate else None)
    gates = [Gate(loop, target, there, back) for target in options.targets]

    def tell(*_: object) -> None:
        _say(json.dumps([asdict(gate.carried) for gate in gates]))

    signal.signal(signal.SIGUSR1, tell)
    _say(*(gate.port for gate in gates))
    with suppress(KeyboardInterrupt):
        loop.run()


if __name__ == "__main__":
    main()
