"""One scan of one tree: only its changes are collected and sent.

There are three kinds of scan, each as thorough as necessary. *Whole*: every entry. *Light*: every directory, and the
files of those in which anything changed recently; a write to an old file is found by the next whole scan. *Noticed*:
only the directories that the kernel named, where it names all.
"""

import json
import os
import time
import zlib

from harvestd.remote.probe.program.folders import (
    DEEPEST,
    NO_STAMP,
    NO_WATCH,
    Folder,
    WatchedTree,
    as_row,
    entry_of,
    is_same_but_inode,
    joined,
    newest,
    seconds_since,
    stamp_of,
)
from harvestd.remote.probe.program.notices import LOCAL, Notices
from harvestd.remote.probe.program.places import (
    FOLDER_FLAGS,
    SECOND,
    Refused,
    descend,
    filesystem,
    to_raw,
    to_text,
    tree_handle,
    tree_place,
)
from harvestd.remote.probe.program.wire import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PART_ENTRIES = 1000


class Changes:
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


# pathlib has no directory handles:


ENTRIES_AT_A_STRETCH = 64


class Look:
    """One scan of one tree."""

    def __init__(
        self,
        tree: WatchedTree,
        most: int,
        prune: "frozenset[str]",
        notices: "Notices | None",
        taken: "set[tuple[int, int]]",
    ) -> None:
        self.tree = tree
        self.most = most
        self.prune = prune
        self.notices = notices
        self.taken = taken
        self.now = time.monotonic()
        self.now_ns = int(time.time() * SECOND)
        self.every = True
        self.all_folders = True
        self.dirty: set[str] = set()

    def whole(self, output: Output) -> bool:
        """Scan everything and send the changes; return whether there are any. So do `light` and `noticed`."""
        return self.look(output)

    def light(self, output: Output, dirty: "set[str]") -> bool:
        """Scan every directory, and the files of those that are dirty or in which anything changed recently."""
        self.every = False
        self.dirty = dirty
        return self.look(output)

    def noticed(self, output: Output, dirty: "set[str]") -> bool:
        """Scan the dirty directories."""
        self.every = self.all_folders = False
        self.dirty = dirty
        return self.look(output)

    def look(self, output: Output) -> bool:
        """Scan with the chosen thoroughness."""
        self.changes = Changes(self.tree, output)
        root = tree_handle(self.tree.root, self.tree.name)
        s = os.fstat(root)
        if (s.st_dev, s.st_ino) in self.taken:
            os.close(root)
            raise Refused("twin", "another root leads to the same directory")
        if (s.st_dev, s.st_ino) != self.tree.identity:
            if s.st_dev != self.tree.identity[0]:
                self.tree.set_filesystem(filesystem(tree_place(self.tree.root, self.tree.name), s.st_dev))
                self.every = self.all_folders = True
            if not self.tree.drifts:
                # The directory was replaced by another one.
                self.every = self.all_folders = True
            self.tree.identity = (s.st_dev, s.st_ino)
        if self.all_folders:
            self.walk(root, "", 1)
        else:
            try:
                # A directory sorts before those in it: a removed one takes them with it.
                for path in sorted(self.dirty):
                    if path in self.tree.folders:
                        self.revisit(root, path)
            finally:
                os.close(root)
        return self.changes.finish()

    def revisit(self, root: int, path: str) -> None:
        """Scan one directory again, by its path."""
        parts = path.split("/") if path else []
        try:
            handle = descend(os.dup(root), parts)
        except (FileNotFoundError, NotADirectoryError):
            return  # the directory above reports this itself
        except OSError:
            self.shut_off(path)
            return
        self.visit(handle, path, len(parts) + 1)

    def walk(self, handle: int, path: str, depth: int) -> None:
        """Visit a directory if this scan covers it, and go on below; close the handle."""
        folder = self.tree.folders.get(path)
        if (
            folder is None
            or self.every
            or path in self.dirty
            or folder.is_warm(self.now)
            or folder.stamp == NO_STAMP
            or folder.stamp != stamp_of(os.fstat(handle), self.now_ns)
        ):
            self.visit(handle, path, depth)
        else:
            try:
                self.below(handle, path, depth, folder.folders())
            finally:
                os.close(handle)

    def visit(self, handle: int, path: str, depth: int) -> None:
        """List a directory, read each entry, and go on below; close the handle."""
        try:
            folder = self.tree.folders.get(path) or Folder()
            self.watch(folder, handle, path)
            folder.stamp = stamp_of(os.fstat(handle), self.now_ns)
            before = folder.entries()
            entries = self.entries(handle, path, before)
            folder.keep(entries)
            self.tree.folders[path] = folder
            self.tree.entries += len(entries) - len(before)
            if self.tree.entries > self.most:
                raise Refused("entries", "more entries than are wanted")
            if before == entries:
                self.changes.nothing(path)
            else:
                folder.seen = self.now if before else self.now - seconds_since(newest(entries))
                self.compare(path, before, entries)
            self.below(handle, path, depth, folder.folders() if self.all_folders else self.fresh(path, before, folder))
        except OSError:
            if not path:
                raise
            self.shut_off(path)
        finally:
            os.close(handle)

    def watch(self, folder: Folder, handle: int, path: str) -> None:
        """Watch a directory before it is listed, so that no change in between is missed."""
        if self.notices is not None:
            key = (self.tree.index, path)
            number = self.notices.watch(handle, key)
            if folder.watch not in (number, NO_WATCH):
                # The directory was replaced by another one.
                self.notices.forget(folder.watch, key)
            folder.watch = number

    def entries(self, handle: int, path: str, before: "dict[str, bytes]") -> "dict[str, bytes]":
        """Return the entries of a directory; send keep-alive frames meanwhile."""
        found = {}
        place = joined(self.tree.name, path) if path else self.tree.name
        for count, name in enumerate(self.names(handle, place)):
            if count % ENTRIES_AT_A_STRETCH == 0:
                self.changes.output.progress(place)
            text = to_text(os.fsencode(name))
            try:
                found[text] = entry_of(handle, name, self.prune, before.get(text), self.tree.drifts)
            except FileNotFoundError:
                continue
            except OSError:
                self.changes.shut.add(joined(path, text))
        return found

    def names(self, handle: int, place: str) -> "list[str]":
        """Return the names in a directory, as os.listdir does, but send keep-alive frames meanwhile."""
        names: list[str] = []
        try:
            listed = os.scandir("/proc/self/fd/%d" % handle)  # noqa: UP031  (as everywhere here)
        except OSError:
            return os.listdir(handle)
        with listed:
            for entry in listed:
                names.append(entry.name)
                if len(names) % ENTRIES_AT_A_STRETCH == 0:
                    self.changes.output.progress(place)
        return names

    def compare(self, path: str, before: "dict[str, bytes]", entries: "dict[str, bytes]") -> None:
        """Record the changes in a directory."""
        changed: list[list[object]] = []
        for name, entry in entries.items():
            known = before.get(name)
            if known != entry:
                if self.tree.sends(entry):
                    changed.append([name, *as_row(entry)])
                if known is not None and known[:1] == b"d" and entry[:1] != b"d":
                    self.drop_below(joined(path, name))
        for name, entry in before.items():
            if entry[:1] == b"d" and name not in entries:
                self.drop_below(joined(path, name))
        if not self.tree.drifts and self.tree.filesystem not in LOCAL:
            files = [name for name, entry in entries.items() if entry[:1] == b"f" and name in before]
            if files and all(is_same_but_inode(before[name], entries[name]) for name in files):
                self.tree.suspect(path)
        tells = self.tree.sends
        gone = [name for name, entry in before.items() if tells(entry) and not tells(entries.get(name))]
        self.changes.note(path, changed, gone)

    def fresh(self, path: str, before: "dict[str, bytes]", folder: Folder) -> "list[str]":
        """Return the directories in a directory that were replaced, are new, or could not be listed before."""
        entries = folder.entries()
        return [
            name
            for name in folder.folders()
            if before.get(name) != entries[name] or joined(path, name) not in self.tree.folders
        ]

    def drop_below(self, path: str) -> None:
        """Record that everything in a directory was removed."""
        self.changes.opened.add(path)
        folder = self.tree.folders.pop(path, None)
        if folder is None:
            return
        if self.notices is not None:
            self.notices.forget(folder.watch, (self.tree.index, path))
        self.tree.entries -= folder.count()
        self.changes.note(path, [], [name for name, entry in folder.entries().items() if self.tree.sends(entry)])
        for name in folder.folders():
            self.drop_below(joined(path, name))

    def shut_off(self, path: str) -> None:
        """Record that a directory can't be listed (any more)."""
        self.drop_below(path)
        self.changes.shut.add(path)

    def below(self, handle: int, path: str, depth: int, names: "list[str]") -> None:
        """Walk directories in an open one; record those that can't be listed as shut."""
        for name in names:
            place = joined(path, name)
            if depth >= DEEPEST:
                self.shut_off(place)
                continue
            try:
                inside = os.open(to_raw(name), FOLDER_FLAGS, dir_fd=handle)
            except (FileNotFoundError, NotADirectoryError):
                continue  # removed or replaced since it was listed
            except OSError:
                self.shut_off(place)
                continue
            self.changes.opened.add(place)
            self.walk(inside, place, depth + 1)
