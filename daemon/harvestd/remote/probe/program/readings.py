"""Send files: regular ones only, with the version before and after, and a hash of the sent bytes."""

import errno
import hashlib
import os
import stat
import struct
import time

from harvestd.remote.probe.program.places import FILE_FLAGS, SECOND, Places, Refused, to_raw, version_of
from harvestd.remote.probe.program.requests import tidy
from harvestd.remote.probe.program.wire import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DATA_BYTES = 128 * 1024
VERIFY_BYTES = 1024 * 1024
FINE_TICK = 20000000  # ns; the kernel stamps files once in a tick of its timer, 10 ms at most
COARSE_TICK = 2 * SECOND
TICKS_WAITED = 3
HEAD = struct.Struct(">IQqqQ32s")  # id, version, SHA-256


class Reading:
    """One requested file: its number in the request, its place, and the requested part of it."""

    def __init__(self, trees: "list[Any]", wanted: "list[Any]", output: Output) -> None:
        self.number, tree, self.path, self.offset, self.length, self.verify = wanted
        self.root, self.tree, self.drifts = trees[tree]
        self.output = output

    def run(self, places: Places) -> None:
        """Send the file, or why it can't be read."""
        try:
            handle = self.open(places)
            try:
                self.send(handle)
            finally:
                os.close(handle)
        except Refused as e:
            self.failed(e.why)
        except OSError as e:
            # An NFS file handle of a file that was deleted elsewhere is stale: vanished, too.
            if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
                self.failed("vanished", vanished=True)
            elif e.errno == errno.ELOOP:
                self.failed("not a regular file")
            else:
                self.failed((e.strerror or str(e)).lower())

    def failed(self, reason: str, vanished: bool = False) -> None:  # noqa: FBT001, FBT002  (a field of the answer)
        """Send why this file is not read (on)."""
        self.output.json(b"X", {"id": self.number, "reason": reason, "vanished": vanished})

    def version_of(self, s: os.stat_result) -> "list[int]":
        """Return a version in the form of this tree's scans."""
        return version_of(s, self.drifts)

    def open(self, places: Places) -> int:
        """Return a handle on the file, if it is a regular one."""
        folder, _, last = self.path.rpartition("/")
        directory = places.folder(self.root, self.tree, folder)
        name = to_raw(last)
        # Checked before it is opened: opening a FIFO or a device can have effects.
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise Refused("kind", "not a regular file")
        return os.open(name, FILE_FLAGS, dir_fd=directory)

    def send(self, handle: int) -> None:
        """Send the requested part, with the version before and after."""
        before, racy = self.settled(handle)
        if not stat.S_ISREG(before.st_mode):
            raise Refused("kind", "not a regular file")
        if self.length == 0 and self.verify is not None:
            self.proof(handle, before, racy)
            return
        wanted = before.st_size if self.length is None else self.length
        if before.st_size <= min(wanted, DATA_BYTES) and self.offset == 0 and self.verify is None:
            self.whole(handle, before, racy)
        else:
            self.stream(handle, before, racy)

    def whole(self, handle: int, before: os.stat_result, racy: bool) -> None:  # noqa: FBT001  (what `settled` found)
        """Send a small file in one frame; one that changes meanwhile is streamed, which sends both versions."""
        data = os.pread(handle, before.st_size, 0)
        version = self.version_of(before)
        if racy or len(data) != before.st_size or self.version_of(os.fstat(handle)) != version:
            self.stream(handle, before, racy)
            return
        self.output.frame(b"W", HEAD.pack(self.number, *version, hashlib.sha256(data).digest()), data)

    def proof(self, handle: int, before: os.stat_result, racy: bool) -> None:  # noqa: FBT001  (the same)
        """Send the hash of a range alone, in one frame; nothing else was requested."""
        digest = self.verified(handle, self.verify, self.offset)
        version = self.version_of(before)
        if racy or self.version_of(os.fstat(handle)) != version:
            raise Refused("racy", "written to while it was hashed")
        self.output.frame(b"V", HEAD.pack(self.number, *version, digest))

    def stream(self, handle: int, before: os.stat_result, racy: bool) -> None:  # noqa: FBT001  (the same)
        """Send a file, or a part of one, piece by piece."""
        offset = self.offset
        verified = None if self.verify is None else self.verified(handle, self.verify, offset).hex()
        self.output.json(b"O", {"id": self.number, "version": self.version_of(before), "verified": verified})
        left = max(0, before.st_size - offset)
        if self.length is not None:
            left = min(left, self.length)
        digest = hashlib.sha256()
        while left:
            data = os.pread(handle, min(left, DATA_BYTES), offset)
            if not data:
                break
            digest.update(data)
            self.output.frame(b"D", data)
            self.output.progress(self.path)
            offset += len(data)
            left -= len(data)
        after = os.fstat(handle)
        if racy and self.version_of(before) == self.version_of(after):
            raise Refused("racy", "written to without a pause")
        answer = {"id": self.number, "version": self.version_of(after), "sha256": digest.hexdigest()}
        self.output.json(b"C", answer)

    def settled(self, handle: int) -> "tuple[os.stat_result, bool]":
        """Return a version that two equal fstats prove, and False; or the last one tried, and True.

        A file written twice within one tick of its clock has one time for two contents. So wait until the tick of the
        last change is over: a later write gets another time. The clock that stamps files may be another machine's: if
        it runs ahead of the local one, wait a tick from now on; if it runs behind by more than a tick, such a second
        write can be missed.
        """
        s = os.fstat(handle)
        for _ in range(TICKS_WAITED):
            # Only ctime: every write changes it, and no program can set it back.
            whole = s.st_mtime_ns % SECOND == 0 and s.st_ctime_ns % SECOND == 0
            tick = COARSE_TICK if whole else FINE_TICK
            age = int(time.time() * SECOND) - s.st_ctime_ns
            if age >= tick:
                return s, False
            self.pause(min(tick, tick - age))
            earlier, s = s, os.fstat(handle)
            if self.version_of(earlier) == self.version_of(s):
                return s, False
        return s, True

    def pause(self, nanoseconds: int) -> None:
        """Wait, after sending everything that is buffered."""
        self.output.flush()
        time.sleep(nanoseconds / SECOND)

    def verified(self, handle: int, start: int, end: int) -> bytes:
        """Return the hash of the bytes from `start` to `end` (or to the end of a shorter file)."""
        digest = hashlib.sha256()
        while start < end:
            data = os.pread(handle, min(end - start, VERIFY_BYTES), start)
            if not data:
                break
            digest.update(data)
            start += len(data)
            self.output.progress(self.path)
        return digest.digest()


class Readings:
    """Answers requests for files."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def answer(self, request: "dict[str, Any]") -> None:
        """Send all requested files, in their order."""
        places = Places()
        try:
            for wanted in request["files"]:
                Reading(request["trees"], wanted, self.output).run(places)
        finally:
            places.close()
        if not request["more"]:
            self.output.json(b"R", {"id": request["id"]})
        self.output.flush()
        if not request["more"]:
            tidy()
