"""Decide when to scan: on request, in each interval, and when the kernel reports changes.

The three kinds of scan (whole, light, noticed) are described in `scans`.
"""

import os
import select
import time
from collections import deque

from harvestd.remote.probe.program.folders import NO_WATCH, WatchedTree
from harvestd.remote.probe.program.notices import LOCAL, NoNotices, Notices
from harvestd.remote.probe.program.places import (
    SECOND,
    Refused,
    is_linked,
    root_handle,
    to_raw,
)
from harvestd.remote.probe.program.requests import Requests, tidy
from harvestd.remote.probe.program.scans import Look
from harvestd.remote.probe.program.wire import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GATHERING_SECONDS = 0.004  # a writer's next file often follows within that time
GROWTH_SECONDS = 1.0  # appended files can wait, and are written to all the time
NAP_SECONDS = 0.03  # notices of a busy writer are processed in batches
SPACING_SECONDS = 0.08  # what a busy writer changes is sent together: the other side processes it even less often
REST_PER_SCAN = 3.0  # unrequested scans take a quarter of the time at most
ROOT = ".."  # the key of the watch on a root whose tree does not exist yet


class Watching:
    """Answers requests for scans; after one with push, sends changes as they happen, and may scan in each interval."""

    def __init__(self, output: Output, sender: Requests) -> None:
        self.output = output
        self.sender = sender
        self.requests: deque[dict[str, Any]] = deque()
        self.woken, self.wake = os.pipe()
        self.trees: list[WatchedTree] = []
        self.prune: frozenset[str] = frozenset()
        self.most = 0
        self.last_request: object = object()
        self.notices: Notices | None = None
        self.refused = False
        self.every: float | None = None
        self.scan_due: float | None = None
        self.due: float | None = None
        self.pause_ends = 0.0

    def put(self, request: "dict[str, Any]") -> None:
        """Add a request, from another thread."""
        self.requests.append(request)
        os.write(self.wake, b".")

    def run(self) -> None:
        """Scan for ever."""
        while True:
            self.wait()
            while self.requests:
                self.answer(self.requests.popleft())
            if self.scan_due is not None and time.monotonic() >= self.scan_due:
                self.check()
            elif self.due is not None and time.monotonic() >= self.due:
                self.send_changes()

    def wait(self) -> None:
        """Wait for a request, for notices, or until a scan is due."""
        due = [each for each in (self.due, self.scan_due) if each is not None]
        left = max(0.0, min(due) - time.monotonic()) if due else None
        if self.due is not None:
            ready = select.select([self.woken], [], [], min(NAP_SECONDS, left or 0.0))[0]
        elif self.notices is not None:
            ready = select.select([self.woken, self.notices.handle], [], [], left)[0]
        else:
            ready = select.select([self.woken], [], [], left)[0]
        if self.woken in ready:
            os.read(self.woken, 4096)
        self.take_notices()

    def take_notices(self) -> None:
        """Read the kernel's notices, and set when the next scan is due."""
        if self.notices is None or not self.notices.collect() or not (self.notices.dirty or self.notices.lost):
            return
        wait = GATHERING_SECONDS if self.notices.urgent else GROWTH_SECONDS
        due = max(time.monotonic() + wait, self.pause_ends)
        self.due = due if self.due is None else min(self.due, due)

    def answer(self, request: "dict[str, Any]") -> None:
        """Answer a request for a scan."""
        asked = [request["trees"], request["prune"]]
        if asked != self.last_request:
            self.last_request = asked
            self.trees = [WatchedTree(i, *tree) for i, tree in enumerate(request["trees"])]
            self.prune = frozenset(os.fsdecode(to_raw(name)) for name in request["prune"])
            self.most = request["entries"]
        self.every = request["every"]
        began = time.monotonic()
        self.scan(request["id"], request["whole"], self.sender.stamp)
        if request["push"] and self.notices is None and not self.refused:
            self.begin()
        self.schedule(began)

    def begin(self) -> None:
        """Start watching every directory, and scan once more: changes before the watches are sent now."""
        try:
            self.notices = Notices()
        except NoNotices:
            self.refused = True
        else:
            self.scan(0, every=True)
            tidy()

    def send_changes(self) -> None:
        """Send the noticed changes."""
        began = time.monotonic()
        self.scan(0, every=False)
        ended = time.monotonic()
        self.pause_ends = ended + max(SPACING_SECONDS, REST_PER_SCAN * (ended - began))

    def check(self) -> None:
        """Scan as on request; send the changes, or that there are none."""
        began = time.monotonic()
        self.scan(0, False, self.sender.stamp)  # noqa: FBT003  (as on request)
        self.schedule(began)

    def schedule(self, began: float) -> None:
        """Set the time of the next scan by itself, after one that began at `began`."""
        ended = time.monotonic()
        self.scan_due = None if self.every is None else ended + max(self.every, REST_PER_SCAN * (ended - began))

    def scan(self, number: int, every: bool, stamp: "int | None" = None) -> None:  # noqa: FBT001  (a field of the request)
        """Scan all trees and send the changes.

        With a `stamp`, the scan is as thorough as a requested one, and its end is always sent. Without one, only what
        the kernel reported is scanned, and nothing is sent without changes.
        """
        started, began = time.monotonic(), int(time.time() * SECOND)
        dirty, lost = self.noticed()
        is_sent = number != 0
        changed = []
        try:
            for tree in self.trees:
                named = {path for index, path in dirty if index == tree.index}
                state, new = self.scan_tree(tree, named, every or lost, asked=stamp is not None)
                if state != tree.state:
                    changed.append([tree.index, *state])
                    tree.state = state
                is_sent = is_sent or new or bool(changed)
        except Refused as e:
            self.output.json(b"Q", {"id": number, "kind": e.kind, "why": e.why})
        else:
            end: dict[str, Any] = {"id": number, "now": began, "trees": changed}
            if stamp is not None:
                end.update(at=stamp, took=int((time.monotonic() - started) * 1000))
            if is_sent:
                self.output.json(b"E", end)
            elif stamp is not None:
                self.output.json(b"U", end)
        self.output.flush()

    def scan_tree(
        self,
        tree: WatchedTree,
        dirty: "set[str]",
        every: bool,  # noqa: FBT001  (a field of the request)
        asked: bool,  # noqa: FBT001  (the same)
    ) -> "tuple[tuple[object, ...], bool]":
        """Scan one tree; return its state (word, device, file system, whether it drifts) and if anything changed."""
        tree.linked = is_linked(tree.root, tree.name)
        others = sum(each.entries for each in self.trees) - tree.entries
        taken = {
            each.identity
            for each in self.trees[: tree.index]
            if each.state[:1] == ("present",) and (each.name == tree.name or each.linked or tree.linked)
        }
        if tree.drifted and not tree.drifts:
            # All entries are sent again, in the same scan that reports the drift: the other side holds inodes.
            tree.drifts = every = True
        scan = Look(tree, self.most - others, self.prune, self.notices, taken)
        try:
            if every or tree.state[:1] != ("present",):
                new = scan.whole(self.output)
            elif asked and not self.is_notified_fully(tree):
                new = scan.light(self.output, dirty)
            else:
                new = scan.noticed(self.output, dirty)
        except Refused as e:
            if e.kind not in ("no root", "twin", "broken link"):
                raise
            return self.missing(tree, e.kind), False
        except (FileNotFoundError, NotADirectoryError):
            return self.missing(tree, "no tree"), False
        except PermissionError:
            return self.missing(tree, "denied"), False
        except OSError as e:
            # Not empty and not removed: a failing file system is no evidence about its files.
            raise Refused("failed", f"{tree.name}: {e.strerror or e}") from None
        return self.present(tree), new

    def is_notified_fully(self, tree: WatchedTree) -> bool:
        """Return whether the kernel names every changed directory of a tree."""
        local = self.notices is not None and tree.state[2] in LOCAL
        return local and all(folder.watch != NO_WATCH for folder in tree.folders.values())

    def present(self, tree: WatchedTree) -> "tuple[object, ...]":
        """Return the state of a tree that was scanned."""
        state = ("present", tree.identity[0], tree.filesystem, tree.drifts)
        if tree.state[:2] != state[:2]:
            self.watch_root(tree, -1)
        return state

    def missing(self, tree: WatchedTree, state: str) -> "tuple[object, ...]":
        """Forget a tree that does not exist (any more); watch for its creation."""
        if self.notices is not None:
            for path, folder in tree.folders.items():
                self.notices.forget(folder.watch, (tree.index, path))
        tree.clear()
        tree.identity = (0, 0)
        if state in ("no tree", "broken link"):
            root = root_handle(tree.root)
            self.watch_root(tree, root)
            os.close(root)
        return (state, 0, "")

    def watch_root(self, tree: WatchedTree, root: int) -> None:
        """Watch the root of a tree that does not exist, or, without a handle, stop watching it."""
        if self.notices is not None:
            key = (tree.index, ROOT)
            number = self.notices.watch(root, key) if root >= 0 else NO_WATCH
            if tree.root_watch not in (number, NO_WATCH):
                self.notices.forget(tree.root_watch, key)
            tree.root_watch = number

    def noticed(self) -> "tuple[set[tuple[int, str]], bool]":
        """Return the directories that the kernel named since the last scan, and whether some may be missing."""
        self.due = None
        if self.notices is None:
            return set(), False
        while self.notices.collect():
            pass
        dirty, lost = self.notices.dirty, self.notices.lost
        self.notices.dirty, self.notices.lost, self.notices.urgent = set(), False, False
        return dirty, lost
