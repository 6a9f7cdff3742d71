"""Compares which trees the hosts of one storage show. Pure.

A host with a working connection may have lost its file system: a mount that failed after a reboot, or a directory that
its user may no longer list. Then another host of the same storage that shows more is the one to fetch from.
"""

from typing import Self

from harvestd.convention.scan.snapshot import Snapshot, TreeState
from harvestd.convention.structs import Immutable

_CLOSED = frozenset({TreeState.NO_ROOT, TreeState.DENIED})


class View(Immutable):
    """The trees of which one host shows nothing, by absolute path."""

    closed: frozenset[str] = frozenset()
    """Trees whose root does not exist, or that may not be listed."""
    bare: frozenset[str] = frozenset()
    """Trees without content for any reason; a superset of `closed`."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """Return the view of a snapshot."""
        listings = [each for each in snapshot.listings if each.state is not TreeState.TWIN]
        bare = frozenset(str(each.tree) for each in listings if not each.entries and not each.unreadable)
        closed = frozenset(str(each.tree) for each in listings if each.state in _CLOSED)
        return cls(closed & bare, bare)


def sees_more(other: View, own: View) -> bool:
    """Return whether `other` shows trees that are closed in `own`, and everything that `own` shows."""
    return other.closed < own.closed and other.bare <= own.bare


def may_see_more(other: View, own: View) -> bool:
    """Return whether `other` shows trees in which `own` shows nothing; a network file system may just be slow."""
    return other.bare < own.bare
