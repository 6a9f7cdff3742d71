"""A TCP relay before a server: it counts what comes from there, can slow it down, and can cut or stall it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_PIECE = 16 * 1024
_STEP = 0.005
"""Seconds between two looks at the rate."""


class Relay:
    """One relay; made by `relayed`."""

    def __init__(self, port: int) -> None:
        self.port = 0
        """Where it listens."""
        self.received = 0
        """Bytes that came from the server, over all connections."""
        self.connections = 0
        """How many were ever made."""
        self.open = 0
        """How many stand now."""
        self.rate: float | None = None
        """Bytes a second from the server, for each connection; None: as fast as it goes, 0: nothing any more."""
        self.swallowed = 0
        """Bytes from both sides that went nowhere."""
        self.cut_at: int | None = None
        """As soon as one connection has carried so many bytes from the server, all are cut, once."""
        self.cuts = 0
        """How often that happened."""
        self.keep_back: int | None = None
        """Once a connection carried so many bytes from the server, its last byte waits here for the next one."""
        self._kept_at: float | None = None
        self._server_port = port
        self._silenced: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End all connections at once."""
        for writer in self._writers:
            writer.transport.abort()

    def keeps_last(self, seconds: float) -> bool:
        """Return whether a byte was kept back for so long that it is an answer's last."""
        return self._kept_at is not None and asyncio.get_running_loop().time() - self._kept_at >= seconds

    def silence(self) -> None:
        """Let the connections that stand now carry nothing any more, and say nothing of it; new ones do."""
        self._silenced |= self._writers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways until either side ends it."""
        try:
            above, up = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        self.connections += 1
        self.open += 1
        self._writers |= {writer, up}
        try:
            await asyncio.gather(self._carry(reader, up), self._carry_slowly(above, writer))
        finally:
            self.open -= 1
            self._writers -= {writer, up}
            for each in (writer, up):
                each.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_PIECE):
                await self._pass_on(data, writer)
        writer.transport.abort()

    async def _carry_slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried, kept = 0, b""
        with suppress(OSError):
            while data := await reader.read(_PIECE):
                self.received += len(data)
                if self.cut_at is not None and carried + len(data) >= self.cut_at:
                    await self._cut_off(data[: self.cut_at - carried], writer)
                    break
                carried += len(data)
                await self._hold(len(data), writer)
                waits = self.keep_back is not None and carried >= self.keep_back
                whole = kept + data
                kept = whole[-1:] if waits else b""
                if waits:
                    self._kept_at = asyncio.get_running_loop().time()
                await self._pass_on(whole[: len(whole) - len(kept)], writer)
        writer.transport.abort()

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if writer in self._silenced:
            self.swallowed += len(data)
            return
        writer.write(data)
        await writer.drain()

    async def _cut_off(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Pass on the last bytes, and cut everything once they are out."""
        self.cut_at = None
        self.cuts += 1
        writer.transport.set_write_buffer_limits(0)
        writer.write(data)
        await writer.drain()
        self.cut()

    async def _hold(self, size: int, writer: asyncio.StreamWriter) -> None:
        """Wait for as long as `size` bytes take at a rate that may change meanwhile; a cut ends it."""
        owed = float(size)
        while self.rate is not None and owed > 0 and not writer.is_closing():
            await asyncio.sleep(_STEP)
            owed -= (self.rate or 0) * _STEP


@asynccontextmanager
async def relayed(port: int) -> AsyncIterator[Relay]:
    """Relay to `port` of this machine for the body."""
    relay = Relay(port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        relay.cut()
        while relay.open:  # noqa: ASYNC110  (connections end by themselves once they are cut)
            await asyncio.sleep(0.01)
