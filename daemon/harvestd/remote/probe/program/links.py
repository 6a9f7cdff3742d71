"""Resolve symbolic links below the trees. Targets are not opened, except directories to add up their files."""
# pathlib has no directory handles:
# ruff: noqa: PTH115, PTH118, PTH119, PTH120

import os
import stat
import threading
import time

from harvestd.remote.probe.program.folders import TooMuch, Total
from harvestd.remote.probe.program.places import FOLDER_FLAGS, to_raw, to_text, tree_place
from harvestd.remote.probe.program.wire import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Share of the time for a verdict's whole request.
LINK_SHARE = 0.25
# A further share, before a link without an answer is reported: something hangs there that no deadline interrupts.
HANGING_SHARE = 0.1
JOIN_SECONDS = 1.0
LONGEST_TARGET = 1024
MOST_LINKED = 2000000


def link_target(place: bytes, trees: "list[bytes]", total: Total, late: str) -> "list[Any] | None":
    """Return a link's text, its real path, whether that exists, its bytes, and whether a tree holds it.

    The last item is the reason why its bytes are unknown: `late` where the time was too short.
    """
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
        return [to_text(written), to_text(real), False, -1, watched, ""]
    size, why = -1, ""
    if stat.S_ISREG(s.st_mode):
        size = s.st_size
    elif stat.S_ISDIR(s.st_mode) and not watched:
        size, why = total_below(real, total, late)
    return [to_text(written), to_text(real), True, size, watched, why]


def total_below(place: bytes, total: Total, late: str) -> "tuple[int, str]":
    """Return the bytes of all files below a directory; -1 and the reason where they are unknown."""
    before = total.bytes
    try:
        above = os.open(os.path.dirname(place), FOLDER_FLAGS)
        try:
            total.add(above, os.fsdecode(os.path.basename(place) or b"."))
        finally:
            os.close(above)
    except TooMuch:
        return -1, late if total.left >= 0 else f"more than {MOST_LINKED} files"
    except OSError as e:
        return -1, e.strerror or ""
    return total.bytes - before, ""


class Resolving(threading.Thread):
    """Resolves links; its results so far can be read at any time."""

    def __init__(self, request: "dict[str, Any]") -> None:
        threading.Thread.__init__(self, daemon=True)
        self.request = request
        self.seconds = LINK_SHARE * request["seconds"]
        self.found: dict[tuple[int, str], list[Any] | None] = {}
        self.at = ""

    def run(self) -> None:
        """Resolve them one after the other."""
        total = Total(self.seconds, MOST_LINKED)
        late = f"not added up within {self.seconds:g} s, see limits.inspect_time"
        trees = [tree_place(root, name) for root, name in self.request["trees"]]
        for tree, path in self.request["links"]:
            self.at = path
            self.found[tree, path] = link_target(os.path.join(trees[tree], to_raw(path)), trees, total, late)


def wait_for(thread: threading.Thread, seconds: float, output: Output) -> None:
    """Wait for the end of a thread, for `seconds` at most, and send keep-alive frames meanwhile."""
    until = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < until:
        thread.join(min(JOIN_SECONDS, max(0.0, until - time.monotonic())))
        output.progress()


def links_within(request: "dict[str, Any]", resolving: "list[Resolving]", output: Output) -> "dict[str, Any]":
    """Resolve the requested links in a thread of its own; report where a file system blocks it.

    `resolving` keeps the thread: while it hangs no other is started, and no other request waits for it.
    """
    resolving[:] = [thread for thread in resolving if thread.is_alive()]
    if not resolving:
        resolving.append(Resolving(request))
        resolving[0].start()
        wait_for(resolving[0], (LINK_SHARE + HANGING_SHARE) * request["seconds"], output)
    thread = resolving[0]
    hangs = ""
    if thread.is_alive():
        hangs = f"not looked up: what {thread.at} leads to does not answer within {thread.seconds:g} s"
        hangs += ", see limits.inspect_time"
    return {"links": [thread.found.get((tree, path)) for tree, path in request["links"]], "hangs": hangs}
