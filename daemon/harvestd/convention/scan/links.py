"""Resolution of the symbolic links in a host's trees. Pure.

A link to a place in a watched tree causes no loss: its target is an entry of its own. If a link leaves its tree, only
the host can resolve it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.model import ScanResult, SymbolicLink
from harvestd.convention.scan.snapshot import Entry, EntryType, Listing, Tree
from harvestd.convention.structs import Immutable

_MOST_FOLLOWED: Final = 40
"""The limit of links followed for one path, as in the kernel."""

_Parts = tuple[str, ...]
_NotWalked = Mapping[_Parts, str | None]
"""By path below the tree: the target of a link; None for a directory that was not listed."""


class LinkTarget(Immutable):
    """The target of a link as reported by the host."""

    written: str
    """The target as written in the link at that time."""
    real: str
    """The absolute path of the target, all links resolved."""
    there: bool = True
    """Whether the target exists."""
    size: int | None = None
    """Bytes of all files in the target; None: unknown."""
    watched: bool = False
    """Whether the target is in a watched tree."""
    unclear: str = ""
    """Why the size, or everything, is unknown; empty if the host gives no reason."""


def places_not_walked(entries: Iterable[Entry]) -> _NotWalked:
    """Return the links among the entries with their targets, and the directories that were not listed."""
    return {
        entry.path.parts: entry.target if entry.type is EntryType.LINK else None
        for entry in entries
        if entry.type in {EntryType.LINK, EntryType.PRUNED}
    }


def leads_to(path: RemotePath, tree: Tree, not_walked: _NotWalked, depth: int = 0) -> _Parts | None:
    """Return the path below its tree to which the link at `path` leads, with all links on the way followed.

    Return None if the way leaves the directory that is `depth` components below the tree, or is unknown. `not_walked`
    must cover all entries below that directory.
    """
    parts = path.parts
    here = list(parts[:-1])
    rest = [parts[-1]]
    followed = 0
    while rest:
        name = rest.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            if len(here) <= depth:
                return None
            here.pop()
            continue
        here.append(name)
        place = tuple(here)
        if place not in not_walked:
            continue
        target = not_walked[place]
        followed += 1
        if not target or followed > _MOST_FOLLOWED:
            return None
        here.pop()
        if target.startswith("/"):
            above = "/".join((str(tree), *parts[:depth])) + "/"
            if not target.startswith(above):
                return None
            here = list(parts[:depth])
            target = target.removeprefix(above)
        rest.extend(reversed(target.split("/")))
    return tuple(here)


def links_out(survey: ScanResult, listings: Sequence[Listing]) -> tuple[SymbolicLink, ...]:
    """Return the links that do not provably lead to a place in their own tree."""
    not_walked: dict[Tree, _NotWalked] = {}
    found: list[SymbolicLink] = []
    for link in _links_of(survey):
        if link.tree not in not_walked:
            listing = next((each for each in listings if each.tree == link.tree), None)
            not_walked[link.tree] = places_not_walked(listing.entries.values()) if listing else {}
        if leads_to(link.path, link.tree, not_walked[link.tree]) is None:
            found.append(link)
    return tuple(found)


def leads_elsewhere(listings: Iterable[Listing], roots: Mapping[str, int]) -> bool:
    """Return whether a tree is on another device than its root if both are known; `roots`: devices by root."""
    present = (each for each in listings if each.device and roots.get(each.tree.root))
    return any(each.device != roots[each.tree.root] for each in present)


def _links_of(survey: ScanResult) -> Iterator[SymbolicLink]:
    yield from survey.links
    for run in survey.runs:
        yield from run.links
    for eval_dir in survey.evals:
        yield from eval_dir.links
