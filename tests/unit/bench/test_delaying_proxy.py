"""The benchmarks' line to boxes far away, before real sockets, and the table that they end in."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import pytest

from bench.delaying import MIB
from bench.distance import Distance
from bench.table import Row, Series, as_markdown, figure, speed, times

DEADLINE = 20.0
ROUND_TRIP = 0.08
FAR = ROUND_TRIP * 1000


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Provide the port of a server that answers each connection in a thread, and closes it."""

    def serve(client: socket.socket) -> None:
        with client:
            answer(client)

    def accept() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            client.settimeout(DEADLINE)
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept)
        accepting.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join(DEADLINE)


def echo(client: socket.socket) -> None:
    """Send everything back, and a farewell once the client has no more to say."""
    while data := client.recv(65_536):
        client.sendall(data)
    client.sendall(b"farewell")


def flood(size: int) -> Callable[[socket.socket], None]:
    """Make a server that sends `size` bytes as soon as it was asked."""

    def send(client: socket.socket) -> None:
        client.recv(1)
        client.sendall(bytes(size))

    return send


def connected(port: int) -> socket.socket:
    """Connect to a port of this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)


def everything(client: socket.socket) -> bytes:
    """Read until the other side ends."""
    found = bytearray()
    while data := client.recv(65_536):
        found += data
    return bytes(found)


def asked(port: int) -> float:
    """Ask for a flood; gives how many seconds it took from the question to its end."""
    with connected(port) as client:
        started = time.monotonic()
        client.sendall(b"?")
        everything(client)
        return time.monotonic() - started


def test_every_exchange_takes_a_round_trip_and_connecting_one_more() -> None:
    """An answer is a round trip away; the first one two, because the connection had to be made."""
    with serving(echo) as port, Distance([port], rtt=FAR) as line, connected(line.port(port)) as client:
        took = []
        for _ in range(3):
            started = time.monotonic()
            client.sendall(b"x")
            assert client.recv(10) == b"x"
            took.append(time.monotonic() - started)
        assert took[0] >= 2 * ROUND_TRIP * 0.95
        assert min(took[1:]) >= ROUND_TRIP * 0.98
        assert min(took[1:]) < 2 * ROUND_TRIP


def test_each_way_takes_half_a_round_trip() -> None:
    """What is sent is there after half of it, and the answer here after the other half."""

    def tell_time(client: socket.socket) -> None:
        while client.recv(1):
            client.sendall(struct.pack("d", time.monotonic()))

    with serving(tell_time) as port, Distance([port], rtt=FAR) as line, connected(line.port(port)) as client:
        there, back = [], []
        for _ in range(4):
            sent = time.monotonic()
            client.sendall(b"?")
            (arrived,) = struct.unpack("d", client.recv(8))
            there.append(arrived - sent)
            back.append(time.monotonic() - arrived)
    # The first one waited for the connection.
    for ways in (there[1:], back[1:]):
        assert 0.49 * ROUND_TRIP <= min(ways) < 0.75 * ROUND_TRIP


def test_distance_delays_and_does_not_hold_up() -> None:
    """What is sent one after the other without waiting arrives one after the other, all within one round trip."""
    with serving(echo) as port, Distance([port], rtt=FAR) as line, connected(line.port(port)) as client:
        client.sendall(b"0")
        client.recv(1)
        sent = [b"%05d" % number for number in range(2000)]
        started = time.monotonic()
        for piece in sent:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == b"".join(sent) + b"farewell"
        assert ROUND_TRIP * 0.98 <= time.monotonic() - started < len(sent) * ROUND_TRIP / 10


def test_bytes_on_the_way_are_limited_until_they_are_acknowledged() -> None:
    """Three times the 4 MiB of a stock buffer take two round trips more than the first bytes do."""
    with serving(flood(12 * MIB)) as port, Distance([port], rtt=FAR) as line:
        assert asked(line.port(port)) >= (2 + 2) * ROUND_TRIP * 0.95


def test_rate_is_shared_by_all_connections_in_turns() -> None:
    """Two that ask at once get half of the rate each, and the whole together."""
    size = 2_000_000
    with serving(flood(size)) as port, Distance([port], rate=80) as line, ThreadPoolExecutor() as pool:
        took = sorted(pool.map(asked, [line.port(port)] * 2))
    assert took[1] >= 2 * size / 10e6 * 0.95
    assert took[0] >= 0.7 * took[1]


def test_each_target_has_its_port_and_its_counters() -> None:
    """Bytes are counted each way, as are connections, for each target apart."""
    with serving(echo) as one, serving(echo) as other, Distance([one, other]) as line:
        for _ in range(2):
            with connected(line.port(other)) as client:
                client.sendall(b"12345")
                client.shutdown(socket.SHUT_WR)
                assert everything(client) == b"12345farewell"
        carried = line.carried()
    assert (carried[one].connections, carried[one].to_box, carried[one].from_box) == (0, 0, 0)
    assert (carried[other].connections, carried[other].to_box, carried[other].from_box) == (2, 10, 26)


def test_reset_comes_after_what_was_sent_before() -> None:
    """A box that resets its connection does so here as well, once its last bytes have arrived."""

    def slam(client: socket.socket) -> None:
        client.recv(1)
        client.sendall(b"last words")
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serving(slam) as port, Distance([port], rtt=FAR) as line, connected(line.port(port)) as client:
        client.sendall(b"?")
        assert client.recv(100) == b"last words"
        started = time.monotonic()
        client.sendall(b"?")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        assert time.monotonic() - started >= ROUND_TRIP * 0.95


def test_closed_port_resets_whoever_knocks() -> None:
    """Where nobody listens behind the line, the connection ends instead of hanging."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with (
        Distance([port], rtt=FAR) as line,
        connected(line.port(port)) as client,
        pytest.raises(ConnectionResetError),
    ):
        client.recv(1)


def test_server_hears_that_its_client_is_gone() -> None:
    """A server that goes on sending to a client that left is told so."""
    told = threading.Event()

    def babble(client: socket.socket) -> None:
        try:
            while True:
                client.sendall(bytes(65_536))
        except OSError:
            told.set()

    with serving(babble) as port, Distance([port], rtt=FAR) as line:
        with connected(line.port(port)) as client:
            client.recv(1)
        assert told.wait(DEADLINE)


def test_client_that_left_after_its_last_word_costs_nothing() -> None:
    """A connection whose client ended both ways is given up, though its server never ends it."""
    left, over = threading.Event(), threading.Event()

    def linger(client: socket.socket) -> None:
        while client.recv(65_536):
            pass
        left.wait(DEADLINE)
        with suppress(OSError):
            while not over.wait(0.01):
                client.sendall(b"still here")

    with serving(linger) as port, Distance([port]) as line:
        with connected(line.port(port)) as client:
            client.sendall(b"last word")
            client.shutdown(socket.SHUT_WR)
        left.set()
        give_up = time.monotonic() + DEADLINE
        carried = line.carried()[port]
        # At first it may not even have been accepted.
        while (carried.connections, carried.open) != (1, 0) and time.monotonic() < give_up:
            over.wait(0.01)
            carried = line.carried()[port]
        assert (carried.connections, carried.open) == (1, 0)
        over.set()


def table_of(*rows: Row) -> list[list[str]]:
    """Return the cells of the table's lines, without its head."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in as_markdown(list(rows)).splitlines()[2:]]


def test_table_judges_medians_against_the_bar() -> None:
    """A ratio is one of medians; it is ok, missed, or only reported where there is no bar."""
    ours, peer = Series("harvestd", (1.0, 9.0, 2.0)), Series("rsync", (4.0, 4.0, 4.0))
    lines = table_of(
        times("cold", ours, peer, at_most=1.0),
        times("cold", ours, peer, at_most=0.4),
        times("cold", ours, peer),
        speed("unchanged", ours, peer, at_least=2.0),
        figure("help", ours, at_most=1.9),
    )
    assert [line[-1] for line in lines] == ["ok", "missed", "reported", "ok", "missed"]
    assert [line[-3] for line in lines] == ["0.50 x", "0.50 x", "0.50 x", "2.0 x as fast", "2.00 s"]
    assert lines[0][0] == "cold"


def test_table_says_where_a_peer_was_cut_off() -> None:
    """The time of a peer that was given no more time is a lower bound, and so is what follows from it."""
    line = table_of(times("cold", Series("harvestd", (1.0,)), Series("lftp", (10.0,), cut_off=True)))[0]
    assert "> 10.0 s" in line[2]
    assert line[3] == "< 0.10 x"
