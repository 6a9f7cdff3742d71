"""Networks and hosts that say nothing, or hardly anything: noticed in bounded time, and no other host waits for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.faults import fired
from support.house import Workstation
from support.lying import add_port
from support.relay import relayed
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
OTHER = RunSpec(timestamp="2025-08-21_03-31-43")
KILOBYTE = 1024


async def test_black_hole_is_noticed_by_keepalives(workstation: Workstation) -> None:
    """Where everything is swallowed the link is given up after a few keepalives, and another one brings the rest."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        async with workstation.running(ssh={"keepalive": "1s"}) as sent:
            await until(workstation.follows(writer))
            relay.silence()
            writer.log_step(3)
            began = anyio.current_time()
            await until(lambda: events(sent, "host.lost"))
            took = anyio.current_time() - began
            assert relay.swallowed
            fired(2)
            assert 2 < took < 30
            await until(workstation.follows(writer))
            assert relay.connections == 2
            assert len(events(sent, "host.lost")) == 1
    workstation.audit()


class Dawdling:
    """A port that accepts connections, and then says a byte from time to time, or nothing."""

    def __init__(self, pause: float | None) -> None:
        """`pause` in seconds; None: says nothing at all."""
        self.pause = pause
        self.accepted = self.open = self.sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Dawdle until the other side has enough."""
        self.accepted += 1
        self.open += 1
        talking = asyncio.ensure_future(self._talk(writer))
        try:
            while await reader.read(KILOBYTE):
                pass
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            talking.cancel()
            writer.close()

    async def _talk(self, writer: asyncio.StreamWriter) -> None:
        banner = b"SSH-2.0-OpenSSH_9.2" + bytes(KILOBYTE)
        for byte in banner if self.pause is not None else b"":
            await asyncio.sleep(self.pause or 0)
            writer.write(bytes([byte]))
            self.sent += 1


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Listen on loopback for the body; gives the port."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(("case", "pause", "bytes_sent"), [(3, None, 0), (4, 0.2, 3)], ids=["no banner", "trickle"])
async def test_dawdling_host_holds_its_place_no_longer_than_the_deadline(
    workstation: Workstation, tmp_path: Path, case: int, pause: float | None, bytes_sent: int
) -> None:
    """With one log-in at a time a host that dawdles costs the next one the deadline, whatever trickles in, no more."""
    dawdling = Dawdling(pause)
    async with listening(dawdling.serve) as port:
        add_port(workstation, "dawdling", port, tmp_path / "nowhere")
        box = workstation.add_box("gpu-a")
        writer = RunWriter(box.root, RUN)
        writer.start()
        began = anyio.current_time()
        async with workstation.running(ssh={"connect_timeout": "1s"}, limits={"connecting": 1}) as sent:
            await until(lambda: dawdling.accepted)
            assert not events(sent, "host.connected")
            await until(lambda: events(sent, "host.lost", host="dawdling"))
            took = anyio.current_time() - began
            await until(workstation.stands(RUN.name, "config.yaml"))
            await until(lambda: dawdling.open == 0 or dawdling.accepted > 1)
    (lost,) = events(sent, "host.lost")
    assert "nothing there speaks SSH within 1 s" in str(lost["error"])
    assert dawdling.sent >= bytes_sent
    fired(case)
    assert took < 15
    workstation.audit()


async def test_slow_link_slows_nobody_else(workstation: Workstation) -> None:
    """While a file crawls over a link of a kilobyte a second, another host's lines come home as they are written."""
    slow, fast = workstation.add_box("gpu-a"), workstation.add_box("gpu-b")
    crawling, writer = RunWriter(slow.root, RUN), RunWriter(fast.root, OTHER)
    for each in (crawling, writer):
        each.start()
        each.log_until(1)
    async with relayed(slow.port) as relay:
        workstation.reach("gpu-a", relay.port)
        async with workstation.running() as sent:
            await until(workstation.follows(crawling))
            await until(workstation.follows(writer))
            relay.rate = KILOBYTE
            crawling.log_until(200)
            behind = workstation.follows(crawling)
            began, before = anyio.current_time(), relay.received
            await until(lambda: relay.received > before)
            for step in range(2, 12):
                writer.log_step(step)
                await until(workstation.follows(writer), seconds=2)
            took = anyio.current_time() - began
            assert not behind()
            # What the relay holds back it has received already: a piece at most.
            assert relay.received - before <= KILOBYTE * took + 32 * KILOBYTE
            fired(5)
            relay.rate = None
            await until(behind)
            assert not events(sent, "host.lost")
    workstation.audit()
