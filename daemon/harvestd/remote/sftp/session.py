"""One SFTP session: raw requests with deadlines, and the translation of their errors.

Only requests that read: asyncssh's `get`, `mget` and `glob` hide short reads and trust names. Every path is bytes.
"""

import stat
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Self, TypeVar, cast

import anyio
import asyncssh

from harvestd.convention.scan.snapshot import Version
from harvestd.errors import HarvestError, HostQuarantined
from harvestd.remote.api import Limits
from harvestd.remote.ssh.connection import Connection
from harvestd.remote.ssh.errors import LinkLost, quoted

Result = TypeVar("Result")

_SECOND = 1_000_000_000
_LATEST = 2**33
"""Seconds; a later time would not fit into nanoseconds."""
_NAME_COST = 512
"""Bytes that a listed name costs on the wire beside itself, at most."""
_GOODBYE = 2.0
"""Seconds for the server to close a handle."""

VANISHED = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)
"""Answers for a path that does not exist."""
_ENDING = (asyncssh.SFTPBadMessage, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)
"""Errors that end a session; every other SFTPError is an answer about one path."""


class NoSftp(Exception):
    """The host offers no SFTP. The text describes what was observed."""


class BadAnswer(ValueError):
    """An answer that no honest server gives."""


def version_of(attributes: asyncssh.SFTPAttrs) -> Version:
    """Return the version that SFTP reports; raise `BadAnswer` for numbers that no file has."""
    size, mtime = attributes.size or 0, attributes.mtime or 0
    if not 0 <= size < 2**63 or not 0 <= mtime <= _LATEST:
        raise BadAnswer("a size or time out of range")
    return Version(size, mtime * _SECOND)


def mode_of(attributes: asyncssh.SFTPAttrs) -> int:
    """Return the file type's bits; 0, which is no type, where the server does not send them."""
    return stat.S_IFMT(attributes.permissions or 0)


class SftpSession:
    """An open session; after an error that is not about one path it can't be used any more."""

    def __init__(self, connection: Connection, client: asyncssh.SFTPClient, limits: Limits) -> None:
        self.connection = connection
        self.client = client
        self._wait = limits.answer_time.total_seconds()
        self.alive = True
        # asyncssh reads ahead by no more than the channel's window.
        connection.meter.expect(connection.window)

    @classmethod
    async def start(cls, connection: Connection, limits: Limits) -> Self:
        """Open a session; raise `NoSftp` where the host has none, `Retry` when the link fails."""
        seconds = limits.answer_time.total_seconds()
        try:
            with anyio.fail_after(seconds):
                client = await connection.ssh.start_sftp_client(path_encoding=None)
        except asyncssh.ChannelOpenError as e:
            if e.code == asyncssh.OPEN_REQUEST_SESSION_FAILED:
                raise NoSftp("the subsystem is refused") from e
            raise await connection.failed(e) from e
        except TimeoutError as e:
            raise LinkLost(
                f"{connection.target}: SFTP did not start within {seconds:g} s",
                hint="the host hangs, or the link is dead; see limits.answer_time",
            ) from e
        except (asyncssh.Error, OSError, EOFError, ValueError) as e:
            if connection.ssh.is_closed():
                raise connection.lost(e) from e
            raise NoSftp(f"SFTP does not answer as it should: {quoted(str(e)) or type(e).__name__}") from e
        return cls(connection, client, limits)

    async def call(self, request: Awaitable[Result]) -> Result:
        """Return a request's answer; raise SFTPError for an error about one path, else `Retry` or `HostQuarantined`."""
        try:
            with anyio.fail_after(self._wait):
                return await request
        except asyncssh.SFTPError as e:
            if isinstance(e, _ENDING):
                raise self.failed(e) from e
            raise
        except (asyncssh.Error, OSError, EOFError, ValueError) as e:
            raise self.failed(e) from e

    def failed(self, error: Exception) -> HarvestError:
        """Return harvestd's error for one that ends the session."""
        self.alive = False
        target = self.connection.target
        if isinstance(error, TimeoutError):
            return LinkLost(
                f"{target}: no answer from SFTP within {self._wait:g} s",
                hint="the host's file system hangs, or the link is dead; see limits.answer_time",
            )
        lost = isinstance(error, asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection | OSError | EOFError)
        if lost or self.connection.meter.exceeded or not isinstance(error, asyncssh.SFTPError | ValueError):
            return self.connection.lost(error)
        return HostQuarantined(
            f"{target}: SFTP answered with nonsense ({quoted(str(error))})",
            hint="this is no honest box, or something garbles its answers; look at it before it is tried again",
        )

    async def names(self, directory: bytes) -> AsyncGenerator[tuple[bytes, asyncssh.SFTPAttrs], None]:
        """Yield the entries of a directory one by one, without "." and ".."; the caller stops at its limit."""
        try:
            listing = cast("AsyncGenerator[asyncssh.SFTPName, None]", self.client.scandir(directory))
            async with aclosing(listing) as entries:
                while (entry := await self._next(entries)) is not None:
                    name = entry.filename
                    if not isinstance(name, bytes):
                        raise BadAnswer("a name that is none")
                    self.connection.meter.credit(2 * len(name) + _NAME_COST)
                    if name not in {b".", b".."}:
                        yield name, entry.attrs
        except asyncssh.SFTPError as e:
            if isinstance(e, _ENDING):
                raise self.failed(e) from e
            raise
        except (asyncssh.Error, OSError, EOFError, ValueError) as e:
            raise self.failed(e) from e

    async def _next(self, entries: AsyncGenerator[asyncssh.SFTPName, None]) -> asyncssh.SFTPName | None:
        # A whole scan may take long, but one answer may not.
        with anyio.fail_after(self._wait):
            return await anext(entries, None)

    async def read(self, file: asyncssh.SFTPClientFile, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`; fewer only where the file ends. Raise as `call` does."""
        data = b""
        while len(data) < size:
            more = await self.call(cast("Awaitable[bytes]", file.read(size - len(data), offset + len(data))))
            self.connection.meter.credit(len(more))
            if not more:
                break
            if len(more) > size - len(data):
                raise self.failed(BadAnswer("more bytes than were asked for"))
            data = data + more if data else more
        return data

    async def put_back(self, file: asyncssh.SFTPClientFile) -> None:
        """Close a handle within a bounded time, even when cancelled."""
        with anyio.move_on_after(_GOODBYE, shield=True):
            try:
                await file.close()
            except (asyncssh.Error, OSError, EOFError, ValueError):
                # The handle ends with its session; the next read fails with that.
                self.alive = False

    def close(self) -> None:
        """End the session."""
        self.alive = False
        self.connection.meter.expect(-self.connection.window)
        self.connection.meter.forgive(self.connection.window)
        self.client.exit()
