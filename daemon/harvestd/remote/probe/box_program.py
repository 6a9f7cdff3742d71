"""The program that runs on the box: looks at trees, reads files, and changes nothing.

It is sent over SSH at each connect and never written to the box, so it stands alone: the standard library of Python
3.6, no import from harvestd. Never opens anything but directories and regular files, never follows a link below a
root, never writes but to its standard output, and ends by itself when its input ends or falls silent: stock sshd would
keep an orphan for hours. It is one file, however long, because one file is what can be sent without writing any there.

The protocol: requests come on standard input, each a length (4 bytes, big endian) and JSON. The answer is the marker
of the first request, then frames: a length (of all that follows it), a letter, a payload.

    H hello      JSON, once                     O opened   JSON: id, version, verified
    S scan part  zlib of JSON: one tree's news  D data     raw bytes of the file opened last
    E scan end   JSON                           C closed   JSON: id, version, sha256
    F facts      JSON                           X failed   JSON: id, reason, vanished
    R read end   JSON                           K keep waiting: empty, the program is at work
    Q refused    JSON: what was asked for can't be given

A version is [size, mtime_ns, ctime_ns, inode]. Names are UTF-8 with surrogateescape in both directions.

Never more bytes are on their way than the other side granted, in its first request and since: SSH's own windows do not
bound what a slow reader there must hold.
"""
# pathlib has no directory handles, and every place here is reached through one:
# ruff: noqa: PTH123, PTH208
# Annotations are quoted where Python 3.6 could not evaluate them.

import errno
import hashlib
import json
import os
import stat
import struct
import subprocess
import sys
import threading
import time
import zlib
from queue import Queue
from typing import Any

PART_ENTRIES = 1000
DATA_BYTES = 128 * 1024
OUTPUT_BYTES = 256 * 1024
VERIFY_BYTES = 1024 * 1024
DEEPEST = 64
PRUNED_COUNT = 10000
PROGRESS_SECONDS = 5.0
NVIDIA_SECONDS = 5.0
SILENCE_SECONDS = 60.0
NICENESS = 10  # a tenth of a busy core's share; at 19 a box whose cores are all busy leaves us waiting for a minute
SECOND = 1000000000
FINE_TICK = 20000000  # ns; the kernel stamps files once in a tick of its timer, 10 ms at most
COARSE_TICK = 2 * SECOND
TICKS_WAITED = 3

PYTHON = ".".join(str(part) for part in sys.version_info[:3])

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Refused(Exception):
    """What was asked for can't be given; `kind` tells the other side what to make of it."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why


def to_text(raw: bytes) -> str:
    """Give a name as it travels."""
    return raw.decode("utf-8", "surrogateescape")


def to_raw(text: str) -> bytes:
    """Give the name that `to_text` was given."""
    return text.encode("utf-8", "surrogateescape")


def version_of(s: os.stat_result) -> "list[int]":
    """Give what tells one content from another."""
    return [s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino]


def write_all(data: memoryview) -> None:
    """Write to standard output until all is written."""
    while data:
        data = data[os.write(1, data) :]


class Credit:
    """How many bytes may still be written; granted by one thread, taken by another."""

    def __init__(self) -> None:
        self.left = 0
        self.changed = threading.Condition()

    def grant(self, count: int) -> None:
        """Allow `count` more bytes."""
        with self.changed:
            self.left += count
            self.changed.notify()

    def take(self, wanted: int) -> int:
        """Give how many of the wanted bytes may be written now, at least one; blocks while there is none."""
        with self.changed:
            while self.left <= 0:
                self.changed.wait()
            taken = min(wanted, self.left)
            self.left -= taken
        return taken


class Output:
    """Frames, gathered into large writes: thousands of small files are to travel as one stream."""

    def __init__(self, credit: Credit) -> None:
        self.credit = credit
        self.parts: list[bytes] = []
        self.size = 0
        self.flushed = time.monotonic()

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.parts.append(data)
        self.size += len(data)
        if self.size >= OUTPUT_BYTES:
            self.flush()

    def frame(self, kind: bytes, payload: bytes) -> None:
        """Send one frame."""
        self.raw(struct.pack(">I", len(payload) + 1) + kind)
        self.raw(payload)

    def json(self, kind: bytes, value: object) -> None:
        """Send one frame of JSON."""
        self.frame(kind, json.dumps(value, separators=(",", ":")).encode("ascii"))

    def flush(self) -> None:
        """Write what was gathered; blocks while the other side holds us back."""
        data = memoryview(b"".join(self.parts))
        self.parts = []
        self.size = 0
        while data:
            allowed = self.credit.take(len(data))
            write_all(data[:allowed])
            data = data[allowed:]
        self.flushed = time.monotonic()

    def progress(self) -> None:
        """Show that we are alive, where work takes long and nothing is to be said."""
        if time.monotonic() - self.flushed > PROGRESS_SECONDS:
            self.frame(b"K", b"")
            self.flush()


class Input:
    """Requests and heartbeats, read outside the main thread: that one may be stuck in the file system."""

    def __init__(self, credit: Credit) -> None:
        self.credit = credit
        self.requests: Queue[dict[str, Any]] = Queue()
        self.heard = time.monotonic()
        self.silence = SILENCE_SECONDS

    def message(self) -> "dict[str, Any]":
        """Read the next message; ends the process where there is none."""
        head = sys.stdin.buffer.read(4)
        if len(head) < 4:  # noqa: PLR2004  (the bytes of a length)
            os._exit(0)
        (size,) = struct.unpack(">I", head)
        body = sys.stdin.buffer.read(size)
        if len(body) < size:
            os._exit(0)
        self.heard = time.monotonic()
        return dict(json.loads(body.decode("ascii")))

    def listen(self) -> None:
        """Take messages for ever; a thread of its own."""
        while True:
            message = self.message()
            if message["do"] == "grant":
                self.credit.grant(message["bytes"])
            elif message["do"] != "beat":
                self.requests.put(message)

    def watch(self) -> None:
        """End the process when the other side has fallen silent; a thread of its own."""
        while True:
            left = self.heard + self.silence - time.monotonic()
            if left < 0:
                # Not sys.exit: the main thread may never come back from a dead network file system.
                os._exit(3)
            time.sleep(min(left + 0.01, 5))

    def start(self) -> None:
        """Start both threads."""
        for target in (self.listen, self.watch):
            threading.Thread(target=target, daemon=True).start()


class Places:
    """Handles of the directories that one request needs, opened link by link and closed together."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str], int] = {}
        self.last: tuple[object, ...] = ()
        self.last_handle = -1

    def close(self) -> None:
        """Close every handle."""
        for handle in self.open.values():
            os.close(handle)
        self.open.clear()
        self.forget()

    def forget(self) -> None:
        """Close the handle of the directory used last."""
        if self.last_handle >= 0:
            os.close(self.last_handle)
        self.last_handle = -1

    def tree(self, root: str, name: str) -> int:
        """Give a handle on root/name. The root's own links are followed, none below it is."""
        key = (root, name)
        if key not in self.open:
            try:
                handle = os.open(os.path.realpath(to_raw(root)), DIRECTORY_FLAGS)
            except (FileNotFoundError, NotADirectoryError):
                raise Refused("no root", "the root is not there") from None
            self.open[key] = descend(handle, name.split("/"))
        return self.open[key]

    def directory(self, root: str, name: str, parts: "list[str]") -> int:
        """Give a handle on a directory below a tree, good until the next call."""
        tree = self.tree(root, name)
        key = (root, name, *parts)
        if self.last_handle < 0 or key != self.last:
            self.forget()
            self.last_handle = descend(os.dup(tree), parts)
            self.last = key
        return self.last_handle


def descend(handle: int, parts: "list[str]") -> int:
    """Give a handle on the directory that lies `parts` below `handle`, which is closed."""
    for part in parts:
        try:
            below = os.open(to_raw(part), DIRECTORY_FLAGS, dir_fd=handle)
        finally:
            os.close(handle)
        handle = below
    return handle


def filesystem(path: bytes, device: int) -> str:
    """Give the kind of the file system that `path` lies on, from the mount table; empty where it is not known."""
    wanted = b"%d:%d" % (os.major(device), os.minor(device))
    best = (-1, "")
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            for line in table:
                fields, _, rest = line.partition(b" - ")
                columns = fields.split()
                place = columns[4].replace(b"\\040", b" ")
                below = path == place or path.startswith(place.rstrip(b"/") + b"/")
                # Some file systems (btrfs) show another device in stat than in the table: then the place decides.
                rank = len(place) + (1 << 20 if columns[2] == wanted else 0)
                if below and rank > best[0]:
                    best = (rank, to_text(rest.split()[0]))
    except (OSError, IndexError):
        return ""
    return best[1]


class WatchedTree:
    """One tree as it was told last; tells what is new since."""

    def __init__(self, index: int, root: str, name: str) -> None:
        self.index = index
        self.root = root
        self.name = name
        self.known: dict[str, tuple[object, ...]] = {}
        self.shut: set[str] = set()
        self.state: tuple[object, ...] = ()


class Scan:
    """One look at one tree."""

    def __init__(self, tree: WatchedTree, prune: "frozenset[str]", left: int, output: Output) -> None:
        self.tree = tree
        self.prune = prune
        self.left = left
        self.output = output
        self.found: dict[str, tuple[object, ...]] = {}
        self.shut: set[str] = set()
        self.news: list[list[object]] = []

    def run(self) -> "tuple[object, ...]":
        """Look at the tree and send its news; gives its state."""
        state = self.look()
        if state[0] != "present":
            self.found = {}
            self.shut = set()
            self.news = []
        else:
            self.send({"set": self.news})
            for word, paths in (
                ("gone", self.tree.known.keys() - self.found.keys()),
                ("shut", self.shut - self.tree.shut),
                ("open", self.tree.shut - self.shut),
            ):
                listed = sorted(paths)
                for start in range(0, len(listed), PART_ENTRIES):
                    self.send({word: listed[start : start + PART_ENTRIES]})
        self.tree.known = self.found
        self.tree.shut = self.shut
        return state

    def look(self) -> "tuple[object, ...]":
        """Walk the tree and give its state: a word, its device, its file system's kind."""
        places = Places()
        try:
            handle = places.tree(self.tree.root, self.tree.name)
            s = os.fstat(handle)
            path = os.path.realpath(to_raw(self.tree.root)) + b"/" + to_raw(self.tree.name)
            known = self.tree.state[:2] == ("present", s.st_dev)
            kind = self.tree.state[2] if known else filesystem(path, s.st_dev)
            names = os.listdir(handle)
            self.walk(handle, names, "", 1)
        except Refused as e:
            if e.kind != "no root":
                raise
            return ("no root", 0, "")
        except (FileNotFoundError, NotADirectoryError):
            return ("no tree", 0, "")
        except PermissionError:
            return ("denied", 0, "")
        except OSError as e:
            # Not "empty" and not "gone": a file system that fails says nothing about its files.
            raise Refused("failed", f"{self.tree.name}: {e.strerror or e}") from None
        finally:
            places.close()
        return ("present", s.st_dev, kind)

    def walk(self, handle: int, names: "list[str]", prefix: str, depth: int) -> None:
        """Look at the entries of one directory, and below each directory among them."""
        for name in names:
            path = prefix + to_text(os.fsencode(name))
            try:
                # Not os.scandir: its entries' stat holds the interpreter's lock, and with it the watching thread.
                s = os.stat(name, dir_fd=handle, follow_symlinks=False)
                entry = self.entry(handle, name, path, s)
            except FileNotFoundError:
                continue
            except OSError:
                self.shut.add(path)
                continue
            self.left -= 1
            if self.left < 0:
                raise Refused("entries", "more entries than are wanted")
            self.keep(path, entry)
            if entry[0] == "d":
                self.enter(handle, name, path, depth)

    def enter(self, handle: int, name: str, path: str, depth: int) -> None:
        """Walk one directory; what can't be listed is told as shut."""
        if depth >= DEEPEST:
            self.shut.add(path)
            return
        try:
            below = os.open(name, DIRECTORY_FLAGS, dir_fd=handle)
        except (FileNotFoundError, NotADirectoryError):
            return  # went away, or became something else, since it was listed
        except OSError:
            self.shut.add(path)
            return
        try:
            self.walk(below, os.listdir(below), path + "/", depth + 1)
        except OSError:
            self.shut.add(path)
        finally:
            os.close(below)

    def entry(self, handle: int, name: str, path: str, s: os.stat_result) -> "tuple[object, ...]":
        """Give what is told of one entry: kind, size, times, inode, and a link's target."""
        version = (s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
        if stat.S_ISREG(s.st_mode):
            return ("f", s.st_size, *version)
        if stat.S_ISLNK(s.st_mode):
            return ("l", s.st_size, *version, to_text(os.fsencode(os.readlink(name, dir_fd=handle))))
        if not stat.S_ISDIR(s.st_mode):
            return ("o", 0, *version)
        if name not in self.prune:
            return ("d", 0, *version)
        known = self.tree.known.get(path, ())
        # Counted anew only when something was put in or taken out at its top: the total is information, no more.
        total = known[1] if known[:1] == ("p",) and known[2:5] == version else count(handle, name)
        return ("p", total, *version)

    def keep(self, path: str, entry: "tuple[object, ...]") -> None:
        """Remember an entry, and tell it where it is news."""
        known = self.tree.known.get(path)
        if known == entry:
            self.found[path] = known
            self.output.progress()
            return
        self.found[path] = entry
        self.news.append([path, *entry])
        if len(self.news) >= PART_ENTRIES:
            self.send({"set": self.news})
            self.news = []

    def send(self, part: "dict[str, Any]") -> None:
        """Send news of this tree."""
        if any(part.values()):
            text = json.dumps(dict(part, tree=self.tree.index), separators=(",", ":"))
            self.output.frame(b"S", zlib.compress(text.encode("ascii"), 1))


def count(handle: int, name: str) -> int:
    """Give the bytes of all files below a directory that is not listed, -1 where that would take long."""
    total = 0
    seen = 0
    try:
        handles = [os.open(name, DIRECTORY_FLAGS, dir_fd=handle)]
    except OSError:
        return -1
    try:
        while handles:
            here = handles.pop()
            try:
                for below in os.listdir(here):
                    seen += 1
                    if seen > PRUNED_COUNT or len(handles) > DEEPEST:
                        return -1
                    s = os.stat(below, dir_fd=here, follow_symlinks=False)
                    if stat.S_ISREG(s.st_mode):
                        total += s.st_size
                    elif stat.S_ISDIR(s.st_mode):
                        handles.append(os.open(below, DIRECTORY_FLAGS, dir_fd=here))
            finally:
                os.close(here)
    except OSError:
        return -1
    finally:
        for left in handles:
            os.close(left)
    return total


class Reading:
    """One file on its way."""

    def __init__(self, wanted: "dict[str, Any]", output: Output) -> None:
        self.wanted = wanted
        self.output = output

    def run(self, places: Places) -> None:
        """Send the file, or why it can't be read."""
        try:
            handle = self.open(places)
            try:
                self.stream(handle)
            finally:
                os.close(handle)
        except Refused as e:
            self.failed(e.why)
        except OSError as e:
            # A file handle of NFS whose file was deleted elsewhere is stale: vanished, too.
            if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
                self.failed("vanished", vanished=True)
            elif e.errno == errno.ELOOP:
                self.failed("not a regular file")
            else:
                self.failed((e.strerror or str(e)).lower())

    def failed(self, reason: str, vanished: bool = False) -> None:  # noqa: FBT001, FBT002  (a field of the answer)
        """Send why this file is not read (on)."""
        self.output.json(b"X", {"id": self.wanted["id"], "reason": reason, "vanished": vanished})

    def open(self, places: Places) -> int:
        """Give a handle on the file, if it is a regular one."""
        parts = self.wanted["path"].split("/")
        name = to_raw(parts.pop())
        directory = places.directory(self.wanted["root"], self.wanted["tree"], parts)
        # Looked at before it is opened: opening a FIFO or a device can do things.
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise Refused("kind", "not a regular file")
        handle = os.open(name, FILE_FLAGS, dir_fd=directory)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise Refused("kind", "not a regular file")
        return handle

    def stream(self, handle: int) -> None:
        """Send what was asked for, between two looks at the version."""
        offset = self.wanted["offset"]
        length = self.wanted["length"]
        verify = self.wanted["verify_from"]
        before, racy = self.settled(handle)
        verified = None if verify is None else self.verified(handle, verify, offset)
        self.output.json(b"O", {"id": self.wanted["id"], "version": version_of(before), "verified": verified})
        left = max(0, before.st_size - offset)
        if length is not None:
            left = min(left, length)
        digest = hashlib.sha256()
        while left:
            data = os.pread(handle, min(left, DATA_BYTES), offset)
            if not data:
                break
            digest.update(data)
            self.output.frame(b"D", data)
            offset += len(data)
            left -= len(data)
        after = os.fstat(handle)
        if racy and version_of(before) == version_of(after):
            raise Refused("racy", "written to without a pause")
        answer = {"id": self.wanted["id"], "version": version_of(after), "sha256": digest.hexdigest()}
        self.output.json(b"C", answer)

    def settled(self, handle: int) -> "tuple[os.stat_result, bool]":
        """Give a version that two equal fstats prove, and False; or the last one tried, and True.

        A file written twice within one tick of its clock shows one time for two contents. So wait until the tick of
        the last change is over: what is written from then on gets another time. The clock that stamps files may be
        another machine's: if it runs ahead of ours we wait a tick from now on, if it runs behind by more than a tick
        such a second write can be missed.
        """
        s = os.fstat(handle)
        for _ in range(TICKS_WAITED):
            # Only ctime: every write moves it, and nobody can set it back.
            whole = s.st_mtime_ns % SECOND == 0 and s.st_ctime_ns % SECOND == 0
            tick = COARSE_TICK if whole else FINE_TICK
            age = int(time.time() * SECOND) - s.st_ctime_ns
            if age >= tick:
                return s, False
            self.pause(min(tick, tick - age))
            earlier, s = s, os.fstat(handle)
            if version_of(earlier) == version_of(s):
                return s, False
        return s, True

    def pause(self, nanoseconds: int) -> None:
        """Wait, with nothing held back meanwhile."""
        self.output.flush()
        time.sleep(nanoseconds / SECOND)

    def verified(self, handle: int, start: int, end: int) -> str:
        """Give the hash of the bytes from `start` to `end` (or to where the file ends before that)."""
        digest = hashlib.sha256()
        while start < end:
            data = os.pread(handle, min(end - start, VERIFY_BYTES), start)
            if not data:
                break
            digest.update(data)
            start += len(data)
            self.output.progress()
        return digest.hexdigest()


def gpu_names() -> "list[str]":
    """Give one name for each GPU, none where nvidia-smi is missing or hangs."""
    search = [*os.environ.get("PATH", "").split(":"), "/usr/bin"]
    for directory in search:
        program = directory + "/nvidia-smi"
        if directory.startswith("/") and os.access(program, os.X_OK):
            break
    else:
        return []
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        with open(os.devnull, "r+b") as null:
            running = subprocess.Popen(command, stdin=null, stdout=subprocess.PIPE, stderr=null)  # noqa: S603  (no shell, an absolute path)
            try:
                text, _ = running.communicate(timeout=NVIDIA_SECONDS)
            except subprocess.TimeoutExpired:
                # Not waited for after that: a hanging driver keeps it alive past SIGKILL.
                running.kill()
                return []
    except OSError:
        return []
    return [line.strip() for line in to_text(text).splitlines() if line.strip()][:64]


def facts(roots: "list[str]") -> "dict[str, Any]":
    """Give what the machine says of itself; `free` is of the first root's file system."""
    free = None
    for root in roots[:1]:
        try:
            s = os.statvfs(os.path.realpath(to_raw(root)))
        except OSError:
            break
        free = s.f_bavail * s.f_frsize
    return {
        "gpus": gpu_names(),
        "host": os.uname().nodename,
        "utc_offset": time.localtime().tm_gmtoff,
        "free": free,
        "python": PYTHON,
    }


class Program:
    """Answers the requests, one after the other."""

    def __init__(self) -> None:
        self.credit = Credit()
        self.input = Input(self.credit)
        self.output = Output(self.credit)
        self.trees: list[WatchedTree] = []
        self.told: object = object()

    def run(self) -> None:
        """Greet, then answer until the input ends."""
        hello = self.input.message()
        self.input.silence = hello["silence"]
        os.nice(NICENESS)
        self.input.start()
        self.credit.grant(hello["credit"])
        write_all(memoryview(hello["marker"].encode("ascii")))
        self.output.json(b"H", {"python": PYTHON})
        self.output.flush()
        answers = {"scan": self.scan, "read": self.read, "facts": self.facts}
        while True:
            request = self.input.requests.get()
            try:
                answers[request["do"]](request)
            except Refused as e:
                self.output.json(b"Q", {"id": request["id"], "kind": e.kind, "why": e.why})
            self.output.flush()

    def scan(self, request: "dict[str, Any]") -> None:
        """Send what is new in all trees."""
        now = int(time.time() * SECOND)
        asked = [request["trees"], request["prune"]]
        if asked != self.told:
            self.told = asked
            self.trees = [WatchedTree(i, root, name) for i, (root, name) in enumerate(request["trees"])]
        prune = frozenset(os.fsdecode(to_raw(name)) for name in request["prune"])
        left = request["entries"]
        changed = []
        for tree in self.trees:
            scan = Scan(tree, prune, left, self.output)
            state = scan.run()
            left = scan.left
            if state != tree.state:
                changed.append([tree.index, *state])
                tree.state = state
        self.output.json(b"E", {"id": request["id"], "now": now, "trees": changed})

    def read(self, request: "dict[str, Any]") -> None:
        """Send all files that were asked for, in their order."""
        places = Places()
        try:
            for wanted in request["files"]:
                Reading(wanted, self.output).run(places)
        finally:
            places.close()
        self.output.json(b"R", {"id": request["id"]})

    def facts(self, request: "dict[str, Any]") -> None:
        """Send what the machine says of itself."""
        self.output.json(b"F", dict(facts(request["roots"]), id=request["id"]))


if __name__ == "__main__":
    Program().run()
