"""A host that allows SFTP alone, behind the same interface as one that runs the probe."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Self

import anyio
import asyncssh
from msgspec.structs import replace

from harvestd.convention.paths import encoded
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.convention.scan.snapshot import Listing, Snapshot
from harvestd.remote.api import (
    MOST_LINKS,
    NEVER,
    BoxFacts,
    Limits,
    OnPartialScan,
    OwnScan,
    ReadEvent,
    ReadRequest,
    WatchList,
    WithoutProbe,
    ignore_partial,
)
from harvestd.remote.sftp.reading import SftpReader
from harvestd.remote.sftp.scanning import Counts, list_tree, resolved_links
from harvestd.remote.sftp.session import NoSftp, SftpSession
from harvestd.remote.ssh.connection import Connection
from harvestd.remote.ssh.errors import LinkLost
from harvestd.safety.inputs import Circumstances


class SftpBox:
    """Implements `Box`. One scan at a time; reads run beside it in a session of their own."""

    method = "sftp"
    hashes_there = False

    def __init__(
        self, connection: Connection, watch: WatchList, limits: Limits, without_probe: WithoutProbe | None = None
    ) -> None:
        self.without_probe = without_probe
        self._connection = connection
        self._watch = watch
        self._limits = limits
        self._reader = SftpReader(connection, limits)
        self._session: SftpSession | None = None
        self.round_trip: float | None = None
        self.last_scan_began = NEVER
        self._last: tuple[Listing, ...] = ()
        self._lock = anyio.Lock()

    @classmethod
    async def start(
        cls, connection: Connection, watch: WatchList, limits: Limits, without_probe: WithoutProbe | None = None
    ) -> Self:
        """Open SFTP; raise `NoSftp` where the host has none, `Retry` when the link fails."""
        box = cls(connection, watch, limits, without_probe)
        box._session = await SftpSession.start(connection, limits)
        return box

    async def _started(self) -> SftpSession:
        if self._session is None or not self._session.alive:
            self._forget()
            try:
                self._session = await SftpSession.start(self._connection, self._limits)
            except NoSftp as e:
                raise LinkLost(f"{self._connection.target}: SFTP does not start ({e})") from e
        return self._session

    def _forget(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    async def scan(self, on_partial: OnPartialScan = ignore_partial) -> Snapshot:  # noqa: ARG002  (a scan has no partial results here)
        """See `Box.scan`."""
        seconds = self._limits.scan_time.total_seconds()
        async with self._lock:
            began = time.monotonic()
            session = await self._started()
            try:
                with anyio.fail_after(seconds):
                    counts = Counts(self._limits, session)
                    listings = [await list_tree(session, tree, self._watch, counts) for tree in self._watch.trees]
            except TimeoutError as e:
                self._forget()
                raise LinkLost(
                    f"{self._connection.target}: a scan of all trees took longer than {seconds:g} s",
                    hint="a slow link or file system, or too much below the roots: see limits.scan_time; with Python 3 "
                    "there it is faster",
                ) from e
            except BaseException:
                self._forget()
                raise
            self.last_scan_began = began
            return self._snapshot(tuple(listings), counts.rejected)

    async def scan_whole(self) -> Snapshot:
        """See `Box.scan_whole`: every scan over SFTP is complete."""
        return await self.scan()

    def scan_ahead(self) -> None:
        """See `Box.scan_ahead`: not possible over SFTP."""

    def scan_every(self, seconds: float | None) -> bool:  # noqa: ARG002  (the contract's)
        """See `Box.scan_every`: not possible over SFTP."""
        return False

    def own_scans(self) -> Sequence[OwnScan] | None:
        """See `Box.own_scans`."""
        return ()

    async def changed(self) -> None:
        """See `Box.changed`: SFTP reports nothing by itself."""
        await anyio.sleep_forever()

    async def pushed(self) -> Snapshot:
        """See `Box.pushed`."""
        return await self.scan()

    def _snapshot(self, listings: tuple[Listing, ...], rejected: int) -> Snapshot:
        known = dict(enumerate(self._last))
        # Unchanged listings are returned as the same object, as the probe's client does.
        same = tuple(known[n] if known.get(n) == listing else listing for n, listing in enumerate(listings))
        changed = not self._last or any(a is not b for a, b in zip(same, self._last, strict=True))
        self._last = same
        return Snapshot(same, 0, changed=changed, rejected=rejected)

    async def facts(self) -> BoxFacts:
        """See `Box.facts`: SFTP reports free space only."""
        facts = BoxFacts()
        if not self._watch.trees:
            return facts
        async with self._lock:
            session = await self._started()
            asked = time.monotonic()
            try:
                room = await session.call(session.client.statvfs(encoded(self._watch.trees[0].root)))
            except asyncssh.SFTPError:
                return facts
            self.round_trip = time.monotonic() - asked
            return replace(facts, free_bytes=max(0, room.bavail * room.frsize))

    async def gpu_processes(self) -> int | None:
        """See `Box.gpu_processes`: unknown over SFTP."""
        return None

    async def circumstances(self, lately: timedelta) -> Circumstances:  # noqa: ARG002  (the contract's)
        """See `Box.circumstances`: SFTP shows no process, no device and no place beside the trees."""
        return Circumstances(unclear="only SFTP works there; harvestd doctor says why")

    async def link_targets(self, links: Sequence[SymbolicLink]) -> Mapping[str, LinkTarget]:
        """See `Box.link_targets`: SFTP reports the size of files only."""
        async with self._lock:
            session = await self._started()
            try:
                return await resolved_links(session, self._watch.trees, links[:MOST_LINKS])
            except BaseException:
                self._forget()
                raise

    def reading(self, requests: Sequence[ReadRequest]) -> AbstractAsyncContextManager[AsyncIterator[ReadEvent]]:
        """See `Reader.reading`."""
        return self._reader.reading(requests)

    def close(self) -> None:
        """End both sessions."""
        self._forget()
        self._reader.close()
