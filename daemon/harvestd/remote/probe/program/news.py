"""Collect and send the changes that a scan finds in one tree."""

import json
import zlib

from harvestd.remote.probe.program.folders import WatchedTree
from harvestd.remote.probe.program.wire import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PART_ENTRIES = 1000


class News:
    """Collects changes by directory, and sends them in parts, so that the receiver works while the scan goes on."""

    def __init__(self, tree: WatchedTree, output: Output) -> None:
        self.tree = tree
        self.output = output
        self.shut: set[str] = set()
        self.opened: set[str] = set()
        self.changed: list[list[object]] = []
        self.gone: list[list[object]] = []
        self.waiting = 0
        self.told = False

    def note(self, path: str, changed: "list[list[object]]", gone: "list[str]") -> None:
        """Add the changes of one directory: entries with their names, and names of removed ones."""
        for start in range(0, len(changed), PART_ENTRIES):
            self.changed.append([path, changed[start : start + PART_ENTRIES]])
            self.count(len(changed[start : start + PART_ENTRIES]))
        for start in range(0, len(gone), PART_ENTRIES):
            self.gone.append([path, gone[start : start + PART_ENTRIES]])
            self.count(len(gone[start : start + PART_ENTRIES]))

    def nothing(self, path: str) -> None:
        """Report progress at a directory without changes."""
        self.output.progress(path)

    def count(self, more: int) -> None:
        """Count the collected changes, and send them when there are many."""
        self.waiting += more
        if self.waiting >= PART_ENTRIES:
            self.send()

    def send(self) -> None:
        """Send the changes so far."""
        part = {"set": self.changed, "gone": self.gone}
        many = self.waiting >= PART_ENTRIES
        self.changed, self.gone, self.waiting = [], [], 0
        self.put(part)
        if many:
            self.output.flush()

    def put(self, part: "dict[str, Any]") -> None:
        """Add one part to the output."""
        self.told = True
        text = json.dumps(dict(part, tree=self.tree.index), separators=(",", ":"))
        self.output.frame(b"S", zlib.compress(text.encode("ascii"), 1))

    def finish(self) -> bool:
        """Send the rest; return whether there were any changes."""
        if self.waiting:
            self.send()
        shut = self.shut - self.tree.shut
        opened = (self.opened - self.shut) & self.tree.shut
        self.tree.shut = (self.tree.shut | shut) - opened
        for word, paths in (("shut", sorted(shut)), ("open", sorted(opened))):
            for start in range(0, len(paths), PART_ENTRIES):
                self.put({word: paths[start : start + PART_ENTRIES]})
        return self.told
