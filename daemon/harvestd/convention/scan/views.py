"""What of its trees a host shows, compared between hosts of one storage. Pure.

A host whose link is fine may have lost its file system: a mount that did not come back after a reboot, a directory that
was closed to its user. Another host of the same storage that shows more is then the one to fetch from.
"""

from typing import Self

from harvestd.convention.scan.snapshot import Snapshot, TreeState
from harvestd.convention.structs import Immutable

_CLOSED = frozenset({TreeState.NO_ROOT, TreeState.DENIED})


class View(Immutable):
    """The trees of which one host shows nothing, by their absolute paths."""

    closed: frozenset[str] = frozenset()
    """Their root does not exist, or may not be listed."""
    bare: frozenset[str] = frozenset()
    """Nothing is in them, for whatever reason; all of `closed` is among them."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """Return what `snapshot` does not show."""
        listings = [each for each in snapshot.listings if each.state is not TreeState.TWIN]
        bare = frozenset(str(each.tree) for each in listings if not each.entries and not each.unreadable)
        closed = frozenset(str(each.tree) for each in listings if each.state in _CLOSED)
        return cls(closed & bare, bare)


def sees_more(other: View, own: View) -> bool:
    """Return whether `other` shows trees that are closed in `own`, and all that `own` shows."""
    return other.closed < own.closed and other.bare <= own.bare


def may_see_more(other: View, own: View) -> bool:
    """Return whether `other` shows trees in which `own` shows nothing; on a network file system that may be lag."""
    return other.bare < own.bare
