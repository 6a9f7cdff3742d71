"""The `LeftOut` line for a whole run or eval of which nothing, or nothing more, is fetched. Pure."""

from dataclasses import replace

from harvestd.convention.scan.model import EvalDir, LeftOut, RunDir, Wanted
from harvestd.planning.index import PlanningIndex


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
