"""Scan a host's trees over SFTP: level by level, many directories at once; only directories are opened."""

import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
import asyncssh

from harvestd.convention.paths import MAX_DEPTH, RejectedPath, RemotePath, decoded, encoded
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.convention.scan.snapshot import Entry, EntryType, Listing, Tree, TreeState, Version
from harvestd.errors import HarvestError, HostQuarantined
from harvestd.remote.api import Limits, WatchList
from harvestd.remote.sftp.session import VANISHED, BadAnswer, SftpSession, mode_of, version_of

_LONGEST = 4096
_NOT_ADDED_UP = "its size can't be told by SFTP alone; with Python 3 there it can"


async def real_path(session: SftpSession, place: bytes) -> bytes:
    """Return a path with all links followed; raise SFTPError, `Retry` or `HostQuarantined`."""
    found = await session.call(session.client.realpath(place))
    return found if isinstance(found, bytes) else encoded(str(found))


async def is_linked(session: SftpSession, root: bytes, name: bytes) -> bool:
    """Return whether a link is on the way from a root, itself no link, to the tree root/name."""
    place = root.rstrip(b"/")
    for part in name.split(b"/"):
        place += b"/" + part
        try:
            if stat.S_ISLNK(mode_of(await session.call(session.client.lstat(place)))):
                return True
        except asyncssh.SFTPError:
            return False
    return False


async def tree_place(session: SftpSession, tree: Tree) -> bytes:
    """Return the path of a tree with all links on the way followed; raise SFTPError, `Retry` or `HostQuarantined`."""
    root, name = await real_path(session, encoded(tree.root)), encoded(tree.name)
    place = root.rstrip(b"/") + b"/" + name
    return await real_path(session, place) if await is_linked(session, root, name) else place


async def resolved_links(
    session: SftpSession, trees: Iterable[Tree], links: Iterable[SymbolicLink]
) -> Mapping[str, LinkTarget]:
    """Return the targets of links, where they can be resolved. Raise `Retry` or `HostQuarantined`."""
    places: dict[Tree, bytes] = {}
    for tree in trees:
        try:
            places[tree] = await tree_place(session, tree)
        except asyncssh.SFTPError:
            continue
    found: dict[str, LinkTarget] = {}
    for link in links:
        target = await _resolved(session, link, places)
        if target is not None:
            found[link.place] = target
    return found


async def _resolved(session: SftpSession, link: SymbolicLink, trees: Mapping[Tree, bytes]) -> LinkTarget | None:
    if link.tree not in trees:
        return None
    place = trees[link.tree] + b"/" + encoded(str(link.path))
    try:
        target = await session.call(session.client.readlink(place))
        written = target if isinstance(target, bytes) else encoded(str(target))
        real = await real_path(session, place)
    except asyncssh.SFTPError:
        return None
    if max(len(written), len(real)) > _LONGEST or not real.startswith(b"/"):
        return None
    watched = any(real == tree or real.startswith(tree.rstrip(b"/") + b"/") for tree in trees.values())
    try:
        attributes = await session.call(session.client.stat(real))
    except VANISHED:
        return LinkTarget(decoded(written), decoded(real), there=False, watched=watched)
    except asyncssh.SFTPError:
        return LinkTarget(decoded(written), decoded(real), watched=watched)
    if mode_of(attributes) != stat.S_IFREG:
        return LinkTarget(decoded(written), decoded(real), watched=watched, unclear="" if watched else _NOT_ADDED_UP)
    return LinkTarget(decoded(written), decoded(real), size=attributes.size, watched=watched)


_AT_ONCE = 16
_MOST_TARGET = 4096
_NAME_BYTES_PER_ENTRY = 200


def place_of(tree_place: bytes, path: RemotePath) -> bytes:
    """Return the absolute path of an entry of the tree at `tree_place`."""
    return b"/".join((tree_place, *(encoded(part) for part in path.parts)))


@dataclass(slots=True)
class Counts:
    """How much of the limits all trees of one scan have used."""

    limits: Limits
    session: SftpSession
    entries: int = 0
    name_bytes: int = 0
    rejected: int = 0
    places: set[bytes] = field(default_factory=set)
    """The paths of the trees that exist, with their roots' links resolved."""

    def entry(self, path: RemotePath) -> None:
        """Count one entry; raise `HostQuarantined` beyond a limit."""
        self.entries += 1
        self.name_bytes += sum(len(part) for part in path.parts)
        most = self.limits.entries
        if self.entries > most or self.name_bytes > _NAME_BYTES_PER_ENTRY * most:
            raise HostQuarantined(
                f"{self.session.connection.target}: more than {most} entries below its roots",
                hint="name what is to be pruned, or narrower roots",
            )

    def refuse(self) -> None:
        """Count one invalid name; raise `HostQuarantined` beyond the limit."""
        self.rejected += 1
        if self.rejected > self.limits.rejected_names:
            raise self.session.failed(BadAnswer(f"more than {self.limits.rejected_names} names that no file may have"))


@dataclass(slots=True)
class Walk:
    """The walk through one tree."""

    session: SftpSession
    place: bytes
    prune: frozenset[str]
    counts: Counts
    entries: dict[RemotePath, Entry] = field(default_factory=dict)
    unreadable: list[RemotePath] = field(default_factory=list)
    next_level: list[RemotePath] = field(default_factory=list)
    links: list[RemotePath] = field(default_factory=list)

    async def run(self) -> None:
        """Walk the tree; raise `Retry` or `HostQuarantined`."""
        await self._list(None)
        while self.next_level or self.links:
            level, self.next_level = self.next_level, []
            links, self.links = self.links, []
            await _at_once([*((self._list, path) for path in level), *((self._resolve, path) for path in links)])

    async def _list(self, directory: RemotePath | None) -> None:
        place = self.place if directory is None else place_of(self.place, directory)
        try:
            async with aclosing(self.session.names(place)) as names:
                async for name, attributes in names:
                    self._take(directory, name, attributes)
        except VANISHED:
            # The tree itself was there a moment ago; any other directory has just been removed.
            if directory is None:
                raise
        except asyncssh.SFTPError:
            if directory is None:
                raise
            self.unreadable.append(directory)

    def _take(self, directory: RemotePath | None, name: bytes, attributes: asyncssh.SFTPAttrs) -> None:
        try:
            text = decoded(name)
            path = RemotePath((text,)) if directory is None else directory / text
        except RejectedPath:
            self.counts.refuse()
            return
        self.counts.entry(path)
        self.entries[path] = entry = self._entry(path, attributes)
        if entry.type is EntryType.LINK:
            self.links.append(path)
        elif entry.type is EntryType.DIRECTORY:
            if len(path.parts) < MAX_DEPTH:
                self.next_level.append(path)
            else:
                self.unreadable.append(path)

    def _entry(self, path: RemotePath, attributes: asyncssh.SFTPAttrs) -> Entry:
        try:
            version = version_of(attributes)
        except BadAnswer as e:
            raise self.session.failed(e) from e
        match mode_of(attributes):
            case stat.S_IFREG:
                return Entry(path, EntryType.FILE, version)
            case stat.S_IFLNK:
                return Entry(path, EntryType.LINK, version)
            case stat.S_IFDIR if path.name in self.prune:
                return Entry(path, EntryType.PRUNED, Version(-1, version.mtime_ns))
            case stat.S_IFDIR:
                return Entry(path, EntryType.DIRECTORY, Version(0, version.mtime_ns))
            case _:
                return Entry(path, EntryType.OTHER, Version(0, version.mtime_ns))

    async def _resolve(self, path: RemotePath) -> None:
        try:
            target = await self.session.call(self.session.client.readlink(place_of(self.place, path)))
        except asyncssh.SFTPError:
            return
        raw = target if isinstance(target, bytes) else encoded(str(target))
        if len(raw) <= _MOST_TARGET:
            entry = self.entries[path]
            self.entries[path] = Entry(path, entry.type, entry.version, decoded(raw))


async def _at_once(jobs: list[tuple[Callable[[RemotePath], Awaitable[None]], RemotePath]]) -> None:
    """Run all jobs, `_AT_ONCE` at a time; raise the first error of any of them."""
    waiting = list(reversed(jobs))
    errors: list[HarvestError] = []

    async def work() -> None:
        while waiting and not errors:
            job, path = waiting.pop()
            try:
                await job(path)
            except HarvestError as e:
                errors.append(e)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(_AT_ONCE, len(jobs))):
            tasks.start_soon(work)
    if errors:
        raise errors[0]


async def list_tree(session: SftpSession, tree: Tree, watch: WatchList, counts: Counts) -> Listing:
    """Return one tree's listing; raise `Retry` or `HostQuarantined`; a failure is never reported as an empty tree."""
    missing = TreeState.NO_ROOT
    try:
        root = await real_path(session, encoded(tree.root))
        if not await _is_directory(session, root):
            return Listing(tree, missing)
        missing = TreeState.NO_TREE
        if await is_linked(session, root, encoded(tree.name)):
            missing = TreeState.BROKEN_LINK
        place = await tree_place(session, tree)
        if place in counts.places:
            return Listing(tree, TreeState.TWIN)
        if not await _is_directory(session, place):
            return Listing(tree, missing)
        walk = Walk(session, place, watch.prune, counts)
        await walk.run()
    except VANISHED:
        return Listing(tree, missing)
    except asyncssh.SFTPPermissionDenied:
        return Listing(tree, TreeState.DENIED)
    except asyncssh.SFTPError as e:
        if missing is TreeState.BROKEN_LINK:
            # A link that leads to itself: the server has no error code of its own for it.
            return Listing(tree, missing)
        raise session.connection.lost(e) from e
    counts.places.add(place)
    return Listing(tree, TreeState.PRESENT, entries=walk.entries, unreadable=tuple(sorted(walk.unreadable)))


async def _is_directory(session: SftpSession, place: bytes) -> bool:
    return stat.S_ISDIR(mode_of(await session.call(session.client.stat(place))))
