"""Resolve symbolic links over SFTP: on the way to a tree, and below the trees."""

import stat
from collections.abc import Iterable, Mapping

import asyncssh

from harvestd.convention.paths import decoded, encoded
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.convention.scan.snapshot import Tree
from harvestd.remote.sftp.session import VANISHED, SftpSession, mode_of

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
        told = await session.call(session.client.readlink(place))
        written = told if isinstance(told, bytes) else encoded(str(told))
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
