"""Find programs that transfer files to or from the machine now, from /proc and from the cache of a mount.

A known transfer program counts while it moves bytes, while it has a file below the roots open, and where neither can be
determined. A mount daemon runs as long as the machine and moves bytes to poll the remote side: it counts while its
cache holds data that was not sent.
"""
# pathlib has no directory handles:
# ruff: noqa: PTH110, PTH115, PTH118, PTH123, PTH208

import json
import os
import time

from harvestd.remote.probe.program.sessions import COMMAND_BYTES, SERVERS, Processes, command_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

CARRIERS = frozenset(
    (
        *("sftp-server", "scp", "sftp", "rsync", "rclone", "lftp", "ftp", "sshfs", "unison", "croc", "magic-wormhole"),
        *("aws", "s5cmd", "s3cmd", "s4cmd", "gsutil", "gcloud", "azcopy", "mc", "b2", "gdown"),
        *("huggingface-cli", "hf", "wget", "wget2", "curl", "aria2c", "axel"),
    )
)
# Between the two samples of a process's counters.
SAMPLE_SECONDS = 3.0
# A process that moved bytes counts for this long afterwards.
LATELY_SECONDS = 60.0
MOST_CARRIERS = 32
LONGEST_PROGRAM = 64
RCLONE_MOUNTS = frozenset((b"mount", b"cmount", b"nfsmount", b"mount2", b"serve"))
META_FILES = 20000
META_SECONDS = 5.0
META_BYTES = 64 * 1024
ENVIRONMENT_BYTES = 256 * 1024
COUNTED = ("rchar", "wchar", "read_bytes", "write_bytes")


class Carrier:
    """A process of a known transfer program."""

    def __init__(self, pid: int, name: str, started: int, proc: str) -> None:
        self.pid = pid
        self.name = name[:LONGEST_PROGRAM]
        self.key = (pid, started)
        self.place = f"{proc}/{pid}"
        self.command = command_of(pid, proc)
        self.moved = self.counted()

    def counted(self) -> "tuple[int, ...] | None":
        """Return the bytes that it has moved since its start; None where they are not readable."""
        try:
            with open(self.place + "/io", "rb") as file:
                lines = dict(line.split(": ") for line in file.read(COMMAND_BYTES).decode("ascii").splitlines())
            return tuple(int(lines[word]) for word in COUNTED)
        except (OSError, ValueError, KeyError):
            return None

    def is_mount(self) -> bool:
        """Return whether it mounts a remote file system, or serves one, and keeps a cache for it."""
        return self.name == "rclone" and bool(RCLONE_MOUNTS & set(self.command[1:]))

    def opened_below(self, roots: "Iterable[bytes]") -> "bool | None":
        """Return whether it has anything below the roots open; None where that is not readable."""
        handles = os.fsencode(self.place) + b"/fd"
        starts = tuple(root.rstrip(b"/") + b"/" for root in roots)
        try:
            for name in os.listdir(handles):
                try:
                    target = os.readlink(os.path.join(handles, name))
                except FileNotFoundError:
                    continue
                if target.startswith(starts):
                    return True
        except FileNotFoundError:
            return False  # it has ended
        except OSError:
            return None
        return False

    def state(self, roots: "Iterable[bytes]", kept: "dict[tuple[int, int], float]") -> str:
        """Return why it counts: moves, open, unsent (data in a cache) or unknown; empty where it does not.

        `kept` holds when each process was last seen to move bytes.
        """
        if self.is_mount():
            unsent = holds_unsent(self)
            return "unknown" if unsent is None else "unsent" if unsent else ""
        opened = self.opened_below(roots)
        if opened:
            return "open"
        now = self.counted()
        if now is None or self.moved is None:
            return "unknown" if os.path.exists(self.place) else ""
        if now != self.moved:
            kept[self.key] = time.monotonic()
        if self.key in kept and time.monotonic() - kept[self.key] < LATELY_SECONDS:
            return "moves"
        return "unknown" if opened is None else ""


def option_of(command: "list[bytes]", name: bytes) -> "bytes | None":
    """Return the value of a command's option, from --name value or --name=value; None where it is not given."""
    for i, word in enumerate(command):
        if word == name and i + 1 < len(command):
            return command[i + 1]
        if word.startswith(name + b"="):
            return word[len(name) + 1 :]
    return None


def variables_of(place: str) -> "dict[bytes, bytes] | None":
    """Return the environment that a process was started with; None where it is not readable."""
    try:
        with open(place + "/environ", "rb") as file:
            pairs = [each.partition(b"=") for each in file.read(ENVIRONMENT_BYTES).split(b"\0")]
    except OSError:
        return None
    return {name: value for name, _, value in pairs}


def cache_of(carrier: Carrier) -> "bytes | None":
    """Return the cache directory of an rclone; None where it can't be determined."""
    directory = option_of(carrier.command, b"--cache-dir")
    if directory is None:
        variables = variables_of(carrier.place)
        if variables is None:
            return None
        directory = variables.get(b"RCLONE_CACHE_DIR") or None
        if directory is None:
            above = variables.get(b"XDG_CACHE_HOME") or os.path.join(variables.get(b"HOME", b""), b".cache")
            directory = os.path.join(above, b"rclone")
    if directory.startswith(b"/"):
        return directory
    try:
        return os.path.join(os.readlink(os.fsencode(carrier.place) + b"/cwd"), directory)
    except OSError:
        return None


def holds_unsent(carrier: Carrier) -> "bool | None":
    """Return whether an rclone's cache holds unsent data, by its metadata; None where that is unknown."""
    cache = cache_of(carrier)
    if cache is None:
        return None
    until = time.monotonic() + META_SECONDS
    left = META_FILES
    failed: list[OSError] = []
    for folder, _, names in os.walk(os.path.join(cache, b"vfsMeta"), onerror=failed.append):
        for name in names:
            left -= 1
            if left < 0 or time.monotonic() > until:
                return None
            dirty = is_dirty(os.path.join(folder, name))
            if dirty or dirty is None:
                return dirty
    # Without a metadata directory no file was ever cached there.
    return None if any(not isinstance(error, FileNotFoundError) for error in failed) else False


def is_dirty(note: bytes) -> "bool | None":
    """Return whether rclone's metadata marks a cached file as not sent; None where that is unknown."""
    try:
        handle = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return bool(json.loads(os.read(handle, META_BYTES).decode("utf-8"))["Dirty"])
        finally:
            os.close(handle)
    except FileNotFoundError:
        return False  # sent and removed since it was listed
    except (OSError, ValueError, KeyError, TypeError):
        return None


def program_of(pid: int, name: str, proc: str) -> str:
    """Return the name of the transfer program in a process; empty where there is none."""
    if name in CARRIERS:
        return name
    if name in SERVERS:
        # sshd then serves files itself, and its process title contains this name.
        return "internal-sftp" if any(b"internal-sftp" in word for word in command_of(pid, proc)) else ""
    if name.startswith("python"):
        words = [word.rpartition(b"/")[2].decode("utf-8", "replace") for word in command_of(pid, proc)[1:3]]
        return next((word for word in words if word in CARRIERS), "")
    return ""


def carriers_now(processes: "Processes | None", proc: str = "/proc") -> "list[Carrier] | None":
    """Return the processes that transfer files, without those of harvestd's own connection; None where unknown."""
    if processes is None:
        return None
    own = processes.own(os.getpid())
    named = [(pid, program_of(pid, name, proc)) for pid, name in processes.names.items() if pid not in own]
    return [Carrier(pid, program, processes.started.get(pid, 0), proc) for pid, program in named if program]


def at_work(
    carriers: "list[Carrier] | None", roots: "Iterable[bytes]", kept: "dict[tuple[int, int], float]"
) -> "dict[str, Any]":
    """Return the number of processes that transfer files now, and for each: program, process and reason."""
    if carriers is None:
        return {"transfers": None, "carriers": []}
    found = [(carrier, carrier.state(roots, kept)) for carrier in carriers]
    counted = [[carrier.name, carrier.pid, state] for carrier, state in found if state]
    for key in set(kept) - {carrier.key for carrier in carriers}:
        del kept[key]
    return {"transfers": len(counted), "carriers": counted[:MOST_CARRIERS]}
