"""SSH packets that nobody asked for and no channel's window governs: each kind is cut off soon, by bytes or by time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncssh
import pytest
from asyncssh.constants import (
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_DEBUG,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_UNIMPLEMENTED,
)
from asyncssh.packet import Boolean, String, UInt32

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.remote.metering import Meter
from support.faults import fired
from support.house import Workstation
from support.lying import Asked, Liar, add_port, frame, listening, play_probe, settled
from support.surroundings import untouched
from support.waiting import events, until

pytestmark = pytest.mark.anyio

RUN = RunSpec()
MIB = 1024 * 1024
ON_CONNECTION: dict[str, tuple[int, bytes]] = {
    "ignore": (MSG_IGNORE, String(b"")),
    "large ignore": (MSG_IGNORE, String(bytes(30_000))),
    "debug": (MSG_DEBUG, Boolean(value=False) + String(b"x") + String(b"")),
    "unimplemented": (MSG_UNIMPLEMENTED, UInt32(1)),
    "unknown packet": (191, b""),
    "global request": (MSG_GLOBAL_REQUEST, String(b"x") + Boolean(value=True)),
    "global request without a reply": (MSG_GLOBAL_REQUEST, String(b"x") + Boolean(value=False)),
    "channel open": (MSG_CHANNEL_OPEN, String(b"session") + UInt32(7) + UInt32(1) + UInt32(1)),
    "forwarded": (MSG_CHANNEL_OPEN, String(b"forwarded-tcpip") + UInt32(7) + UInt32(1) + UInt32(1) + bytes(16)),
    "agent": (MSG_CHANNEL_OPEN, String(b"auth-agent@openssh.com") + UInt32(7) + UInt32(1) + UInt32(1)),
}
IN_CHANNEL: dict[str, tuple[int, bytes]] = {
    "window adjust": (MSG_CHANNEL_WINDOW_ADJUST, UInt32(0)),
    "extended data": (MSG_CHANNEL_EXTENDED_DATA, UInt32(1) + String(b"x")),
    "channel request": (MSG_CHANNEL_REQUEST, String(b"x") + Boolean(value=True)),
    "channel request without a reply": (MSG_CHANNEL_REQUEST, String(b"x") + Boolean(value=False)),
}
Flood = Callable[[asyncssh.SSHServerProcess[bytes]], None]


def flood_of(kind: str) -> Flood:
    """Give what sends one packet."""
    if kind in ON_CONNECTION:
        number, payload = ON_CONNECTION[kind]
        return lambda process: process.get_extra_info("connection").send_packet(number, payload)
    if kind in IN_CHANNEL:
        number, payload = IN_CHANNEL[kind]
        return lambda process: process.channel.send_packet(number, payload)
    return lambda process: process.stdout.write(frame(b"K", b"s"))


@asynccontextmanager
async def flooding(flood: Flood) -> AsyncIterator[int]:
    """Listen as a box that greets honestly, and then sends one kind of packet without end; gives the port."""

    async def talk(process: asyncssh.SSHServerProcess[bytes], asked: anyio.Event) -> None:
        await asked.wait()
        # Deaf from now on: an honest server would break off at the first answer that it did not ask for.
        process.get_extra_info("connection").data_received = lambda *_: None
        while not process.is_closing():
            for _ in range(100):
                flood(process)
            # Whoever is asked to take all of that is in this process, too.
            await asyncio.sleep(0)

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        asked = anyio.Event()

        def silence(_: Asked) -> bytes:
            # Nothing is answered, so that a visit does not end before the flood is noticed.
            asked.set()
            return b""

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk, process, asked)
            await play_probe(process, silence)

    async def process(channel: asyncssh.SSHServerProcess[bytes]) -> None:
        try:
            await serve(channel)
        except* (asyncssh.Error, asyncio.IncompleteReadError, OSError):
            channel.close()

    async with listening(None, process_factory=process) as port:
        yield port


@pytest.fixture
def meters(monkeypatch: pytest.MonkeyPatch) -> list[Meter]:
    """Give the meters of all connections, in their order."""
    made: list[Meter] = []
    real = Meter.__init__

    def noted(self: Meter, cut: Callable[[], None]) -> None:
        real(self, cut)
        made.append(self)

    monkeypatch.setattr(Meter, "__init__", noted)
    return made


@pytest.mark.parametrize("kind", [*ON_CONNECTION, *IN_CHANNEL, "sign of life"])
async def test_flood_is_cut_off(workstation: Workstation, tmp_path: Path, meters: list[Meter], kind: str) -> None:
    """The host is quarantined within five seconds, and another one beside it comes home."""
    honest = Liar(tmp_path / "honest")
    RunWriter(honest.root, RUN).start()
    settled(honest.root)
    async with flooding(flood_of(kind)) as port, listening(honest.script) as other:
        add_port(workstation, "hostile", port, tmp_path / "nowhere")
        add_port(workstation, "honest", other, honest.root)
        with untouched(workstation):
            began = anyio.current_time()
            async with workstation.running() as said:
                await until(lambda: events(said, "host.quarantined", host="hostile"))
                took = anyio.current_time() - began
                await until(workstation.stands(RUN.name, "config.yaml"))
    (event,) = events(said, "host.quarantined")
    assert "far more than it was asked for" in str(event["error"])
    fired(58)
    assert took < 5
    (flooded,) = (meter for meter in meters if meter.exceeded)
    # What no window governs is cut off by its time long before its bytes would be noticed.
    assert flooded.total < (8 * MIB if kind == "large ignore" else 3 * MIB)
    workstation.audit()


class _BeforeLogIn(asyncssh.SSHServer):
    """Floods who has not logged in yet."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    async def begin_auth(self, username: str) -> bool:  # noqa: ARG002  (asyncssh's signature)
        while not self._connection.is_closed():
            for _ in range(100):
                self._connection.send_debug("x")
            await asyncio.sleep(0)
        return True


async def test_flood_before_the_log_in(workstation: Workstation, tmp_path: Path) -> None:
    """It is no lost connection that is tried again at once: the host is quarantined."""
    async with listening(None, server_factory=_BeforeLogIn) as port:
        add_port(workstation, "hostile", port, tmp_path / "nowhere")
        with untouched(workstation):
            (outcome,) = (await workstation.outcomes()).values()
    assert "far more than it was asked for" in str(outcome.error)
    fired(58)
    workstation.audit()
