"""Keeps skipped entries recorded after they vanish from their host, marked as gone. Pure.

A scan proves that something is gone only if its tree was listed: a root that is temporarily not mounted proves nothing
about its content.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum

from harvestd.convention.scan.model import EvalDir, LeftOut, RunDir, Wanted
from harvestd.convention.scan.skipped import MANY
from harvestd.convention.scan.snapshot import Listing, Snapshot, TreeState
from harvestd.planning.index import PlanningIndex

Lines = Mapping[str | None, tuple[LeftOut, ...]]
"""By experiment; None: entries that belong to none."""

_TOGETHER = " (many in this directory that are gone, counted together)"
_LITTER = ("rule: temporary file", " is never wanted")


class EntryState(StrEnum):
    """The state in a scan of something that was left out before."""

    THERE = "there"
    GONE = "gone"
    UNSEEN = "unseen"
    """Its tree, or its directory, was not listed."""


class EntryStates:
    """Looks up remote paths in one scan of a host."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._listings = {str(listing.tree): listing for listing in snapshot.listings}
        self._known: dict[str, frozenset[tuple[str, ...]]] = {}
        """By tree: the paths of all entries and of the directories above them, computed on first use."""

    def of(self, place: str) -> EntryState:
        """Return the state of a file or directory at an absolute path."""
        for tree, listing in self._listings.items():
            if place.startswith(f"{tree}/"):
                return self._within(tree, listing, tuple(place.removeprefix(f"{tree}/").split("/")))
        return EntryState.UNSEEN

    def _within(self, tree: str, listing: Listing, parts: tuple[str, ...]) -> EntryState:
        # An empty tree may be an unused mount point.
        if listing.state is not TreeState.PRESENT or not listing.entries:
            return EntryState.UNSEEN
        if any(parts[: len(path)] == path.parts for path in listing.unreadable):
            return EntryState.UNSEEN
        if tree not in self._known:
            self._known[tree] = _paths_of(listing)
        return EntryState.THERE if parts in self._known[tree] else EntryState.GONE


def _paths_of(listing: Listing) -> frozenset[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for path in listing.entries:
        parts = path.parts
        while parts and parts not in found:
            found.add(parts)
            parts = parts[:-1]
    return frozenset(found)


def kept_on_record(before: Lines, now: Lines, states: EntryStates, at: float) -> dict[str | None, tuple[LeftOut, ...]]:
    """Return the lines to record for a host from the recorded ones and those that are left out `now`.

    Entries that are gone from the host stay, marked with the time `at` of the first scan without them. Entries that
    exist and are no longer left out are removed, and so is litter.
    """
    listed = {each.place for entries in now.values() for each in entries}
    kept: dict[str | None, tuple[LeftOut, ...]] = dict(now)
    for experiment, entries in before.items():
        own = [line for each in entries if (line := _kept(each, listed, states, at)) is not None]
        still, gone = [each for each in own if each.gone_at is None], [each for each in own if each.gone_at is not None]
        kept[experiment] = (*kept.get(experiment, ()), *still, *_bounded(gone))
    return {experiment: entries for experiment, entries in kept.items() if entries}


def _kept(line: LeftOut, listed: set[str], states: EntryStates, at: float) -> LeftOut | None:
    if line.reason.endswith(_TOGETHER):
        return line
    if line.place in listed:
        return None
    if line.gone_at is not None:
        return line
    state = states.of(line.place)
    if state is EntryState.GONE and not line.reason.startswith(_LITTER[0]) and not line.reason.endswith(_LITTER[1]):
        return replace(line, gone_at=at)
    return line if state is EntryState.UNSEEN else None


def _bounded(lines: list[LeftOut]) -> Iterator[LeftOut]:
    """Combine many lines of one directory into one: a run may rotate checkpoints for months."""
    counted = Counter(_group(line) for line in lines)
    together: dict[tuple[str, str], LeftOut] = {}
    for line in lines:
        group = _group(line)
        if counted[group] <= MANY and not line.reason.endswith(_TOGETHER):
            yield line
            continue
        above, reason = group
        so_far = together.get(group)
        if so_far is None:
            together[group] = replace(line, place=above, reason=f"{reason}{_TOGETHER}")
        else:
            size = None if line.size is None or so_far.size is None else line.size + so_far.size
            newest = max(line.gone_at or 0.0, so_far.gone_at or 0.0)
            together[group] = replace(so_far, size=size, entries=so_far.entries + line.entries, gone_at=newest)
    yield from together.values()


def _group(line: LeftOut) -> tuple[str, str]:
    """Return the directory and the reason by which a line is combined with others."""
    if line.reason.endswith(_TOGETHER):
        return line.place, line.reason.removesuffix(_TOGETHER)
    return line.place.rpartition("/")[0], line.reason


def whole(directory: RunDir | EvalDir, reason: str) -> LeftOut:
    """Return the line for a directory of which nothing is fetched."""
    wanted = _wanted(directory)
    sizes = [each.source.version.size for each in wanted] + [each.size for each in directory.left_out]
    known = [size for size in sizes if size is not None]
    entries = len(wanted) + sum(each.entries for each in directory.left_out)
    return LeftOut(directory.place, sum(known) if len(known) == len(sizes) else None, entries, reason)


def hindered(directory: RunDir | EvalDir, reason: str) -> LeftOut:
    """Return the line for a wanted directory that something local blocks completely."""
    return replace(whole(directory, reason), hindered=True)


def rest(directory: RunDir | EvalDir, reason: str, storage: str, knowledge: PlanningIndex) -> LeftOut:
    """Return the line for a directory of which nothing more is fetched; local files are not counted."""
    line = whole(directory, reason)
    size, entries = line.size, line.entries
    for wanted in _wanted(directory):
        copies = knowledge.copies(storage, wanted.source.place)
        if copies:
            entries -= copies[0].version == wanted.source.version
            size = None if size is None else size - min(copies[0].size, wanted.source.version.size)
    return replace(line, size=size, entries=entries)


def _wanted(directory: RunDir | EvalDir) -> list[Wanted]:
    more = directory.checkpoints if isinstance(directory, RunDir) else ()
    wanted = [member for group in (*directory.groups, *more) for member in group.members]
    return wanted + list(directory.growing if isinstance(directory, RunDir) else ())
