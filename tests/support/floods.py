"""SSH packets that nobody asked for and no channel's window governs, sent without end by a box that greets honestly."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import asyncssh
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

from support.lying import Asked, frame, json_frame, play_probe

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


KINDS: Final = [*ON_CONNECTION, *IN_CHANNEL, "sign of life", "report of a scan"]


def flood_of(kind: str) -> Flood:
    """Return what sends one packet."""
    if kind in ON_CONNECTION:
        number, payload = ON_CONNECTION[kind]
        return lambda process: process.get_extra_info("connection").send_packet(number, payload)
    if kind in IN_CHANNEL:
        number, payload = IN_CHANNEL[kind]
        return lambda process: process.channel.send_packet(number, payload)
    if kind == "report of a scan":
        report = json_frame(b"U", {"id": 0, "now": 1, "trees": [], "at": 1, "took": 1})
        return lambda process: process.stdout.write(report)
    return lambda process: process.stdout.write(frame(b"K", b"s"))


def flooding(flood: Flood) -> Callable[[asyncssh.SSHServerProcess[bytes]], Awaitable[None]]:
    """Return the handler of a box's processes that sends one kind of packet without end, once a scan was asked for."""

    async def talk(process: asyncssh.SSHServerProcess[bytes], asked: anyio.Event) -> None:
        await asked.wait()
        # Deaf from now on: an honest server would break off at the first answer that it did not ask for.
        connection = process.get_extra_info("connection")
        connection.data_received = lambda *_: None
        while not (process.is_closing() or connection.is_closed()):
            for _ in range(100):
                flood(process)
            # Whoever is asked to take all of that may be in this process, too.
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

    async def handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
        try:
            await serve(process)
        except* (asyncssh.Error, asyncio.IncompleteReadError, OSError):
            process.close()

    return handle
