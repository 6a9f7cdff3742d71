"""What symbolic links below the trees lead to. Looked at, never opened but to list it and add up its files."""
# pathlib has no directory handles:
# ruff: noqa: PTH115, PTH118, PTH119, PTH120

import os
import stat
import threading
import time

from harvestd.remote.probe.program.folders import total_of
from harvestd.remote.probe.program.places import FOLDER_FLAGS, to_raw, to_text, tree_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LINK_SECONDS = 15.0
# Beyond it: then something hangs that no deadline reaches.
ALL_LINK_SECONDS = 30.0
LONGEST_TARGET = 1024


def link_target(place: bytes, trees: "list[bytes]", until: float) -> "list[Any] | None":
    """Return what a link says, where it leads, whether anything is there, its bytes, and whether a tree holds it."""
    try:
        written = os.readlink(place)
        real = os.path.realpath(place)
    except OSError:
        return None
    if max(len(written), len(real)) > LONGEST_TARGET:
        return None
    watched = any(real == tree or real.startswith(tree + b"/") for tree in trees)
    try:
        s = os.lstat(real)
    except OSError:
        return [to_text(written), to_text(real), False, -1, watched]
    size = -1
    if stat.S_ISREG(s.st_mode):
        size = s.st_size
    elif stat.S_ISDIR(s.st_mode) and not watched and time.monotonic() < until:
        size = total_below(real)
    return [to_text(written), to_text(real), True, size, watched]


def total_below(place: bytes) -> int:
    """Return the bytes of all files below a directory, -1 where that would take long or can't be told."""
    try:
        above = os.open(os.path.dirname(place), FOLDER_FLAGS)
    except OSError:
        return -1
    try:
        return total_of(above, os.fsdecode(os.path.basename(place) or b"."))
    finally:
        os.close(above)


def links_within(request: "dict[str, Any]", resolving: "list[threading.Thread]") -> "dict[str, Any]":
    """Resolve the links that were asked for, in a thread of its own; where a file system holds that one, none is told.

    `resolving` keeps it: while it hangs no other is started, and no other question waits for it.
    """
    told: list[list[Any]] = []

    def resolve() -> None:
        until = time.monotonic() + LINK_SECONDS
        trees = [tree_place(root, name) for root, name in request["trees"]]
        links = [(trees[tree], to_raw(path)) for tree, path in request["links"]]
        told.append([link_target(os.path.join(above, path), trees, until) for above, path in links])

    resolving[:] = [thread for thread in resolving if thread.is_alive()]
    if not resolving:
        resolving.append(threading.Thread(target=resolve, daemon=True))
        resolving[0].start()
        resolving[0].join(ALL_LINK_SECONDS)
    return {"links": told[0] if told else [None for _ in request["links"]]}
