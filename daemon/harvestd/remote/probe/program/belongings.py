"""Find recently changed files of people outside the watched trees. Files are listed, never opened.

No content is read, no link is followed, and no other file system is entered than that of the place that is searched;
time and number are bounded.
"""

import heapq
import os
import stat
import time
from collections import deque

from harvestd.remote.probe.program.folders import DEEPEST
from harvestd.remote.probe.program.places import FOLDER_FLAGS, SECOND, descend, to_raw, to_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# Shares of the time for a verdict's whole request: for near places, for farther places, and for git.
NEAR_SHARE = 0.35
FAR_SHARE = 0.1
GIT_SHARE = 0.35
# The text of an exceeded time limit ends with the key that raises the limit.
LIMITED = ", see limits.inspect_time"
WALK_ENTRIES = 500000  # kept: directories to search, and files that changed
NEWEST = 20
CHECKOUT_DEPTH = 4
CHECKOUTS = 50  # that hold work; the answer is unknown beyond it
ELSEWHERE = ("/tmp", "/var/tmp", "/workspace", "/data", "/scratch", "/mnt")  # noqa: S108  (searched, never written)

LITTER_FOLDERS = frozenset(
    (
        # Programs can create it again: compiled code, downloads, thumbnails.
        *(b".cache", b"__pycache__", b".nv", b".triton", b".torch", b".keras", b".mypy_cache", b".ruff_cache"),
        *(b".pytest_cache", b".ipynb_checkpoints", b".npm", b".nvm", b".cargo", b".rustup", b".ccache", b"snap"),
        # Installed packages, and their sources.
        *(b"node_modules", b"site-packages", b".venv", b".conda", b"miniconda3", b"anaconda3", b"miniforge3"),
        # State, settings, extensions and logs of tools.
        *(
            b".local",
            b".config",
            b".vscode-server",
            b".vscode",
            b".cursor-server",
            b".cursor",
            b".jupyter",
            b".ipython",
        ),
        *(b".dotnet", b".docker", b".dbus", b".gnupg", b".pki", b".oh-my-zsh", b".tmux", b".vim", b".lambda"),
        # git itself reports what of a checkout would be lost, see `checkouts`.
        b".git",
    )
)
LITTER_FILES = frozenset(
    (
        # Histories of shells and interpreters.
        *(
            b".bash_history",
            b".zsh_history",
            b".python_history",
            b".lesshst",
            b".viminfo",
            b".wget-hsts",
            b".sh_history",
        ),
        *(b".node_repl_history", b".sqlite_history", b".histfile"),
        # Where the repository of a worktree or a submodule is.
        b".git",
        # Written at log-in, or by the cloud.
        *(b".Xauthority", b".ICEauthority", b".sudo_as_admin_successful", b".motd_shown", b".hushlogin"),
        *(b"known_hosts", b"known_hosts.old", b"authorized_keys", b".selected_editor", b".wandb_metadata"),
        # Settings that tools write: the person has copies of them, or made them by a command.
        *(b".bashrc", b".profile", b".bash_profile", b".zshrc", b".gitconfig", b".netrc", b".condarc"),
    )
)
# In /tmp: sockets and temporary files of sessions, compilers and workers, useless without their processes.
LITTER_STARTS = (b"systemd-private-", b"ssh-", b"tmux-", b"torchinductor_", b"pymp-", b"torch_", b".X", b"vscode-")
LITTER_ENDS = (b".pyc", b".swp", b".lock", b".sock", b".pid", b".zcompdump")
# Directories beside these were installed, whatever the environment is called.
INSTALLED = frozenset((b"pyvenv.cfg", b"conda-meta"))
INSTALLED_FOLDERS = frozenset((b"bin", b"lib", b"lib64", b"include", b"share", b"etc", b"pkgs", b"envs", b"conda-meta"))
LONGEST_SHOWN = 1024


class DirectoryContent:
    """The content of one directory of a walk."""

    def __init__(self, device: int, owner: "int | None") -> None:
        self.device = device
        self.owner = owner
        self.below: list[bytes] = []
        self.files: list[tuple[int, int, bytes]] = []
        self.is_checkout = False
        self.installed = False

    def add(self, handle: int, name: bytes, walk: "Walk") -> None:
        """Add one entry. Raise OSError."""
        self.installed = self.installed or name in INSTALLED
        self.is_checkout = self.is_checkout or name == b".git"
        if self.owner is not None and name.startswith(LITTER_STARTS):
            return
        try:
            s = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(s.st_mode):
            other = s.st_dev != self.device or (s.st_dev, s.st_ino) in walk.skip
            if not other and name not in LITTER_FOLDERS:
                self.below.append(name)
                walk.left -= 1
        elif stat.S_ISREG(s.st_mode) and self.owner in (None, s.st_uid):
            changed = max(s.st_mtime_ns, s.st_ctime_ns)
            if changed >= walk.since_ns and name not in LITTER_FILES and not name.endswith(LITTER_ENDS):
                self.files.append((changed, s.st_size, name))
                walk.left -= 1

    def sort(self, name: bytes) -> None:
        """Drop what can only be recognised after all entries were read, or by the directory's name."""
        if self.installed:
            self.below = [each for each in self.below if each not in INSTALLED_FOLDERS]
        if name == b"wandb":
            # Only the runs that were not uploaded exist nowhere else.
            self.below = [each for each in self.below if each.startswith(b"offline-run-")]
            self.files = []


class Walk:
    """Searches places for files that changed since `since_ns`, breadth first."""

    def __init__(self, since_ns: int, skip: "set[tuple[int, int]]", seconds: float) -> None:
        self.since_ns = since_ns
        self.skip = skip
        self.until = time.monotonic() + seconds
        self.left = WALK_ENTRIES
        self.whole = True
        self.searched = True
        self.ended = True
        self.missed = ""
        self.seconds = seconds
        self.checkouts: list[bytes] = []
        self.found: dict[bytes, list[tuple[int, int, bytes]]] = {}

    def place(self, place: bytes, owner: "int | None" = None) -> None:
        """Search a directory, only for files of `owner` if given; a missing one holds nothing."""
        try:
            base = os.open(place, FOLDER_FLAGS)
        except FileNotFoundError:
            return
        except OSError:
            self.miss(place, "can't be listed")
            self.searched = False
            return
        try:
            device = os.fstat(base).st_dev
            waiting = deque([(b"", 0, b"")])
            while waiting:
                path, depth, checkout = waiting.popleft()
                full = place.rstrip(b"/") + (b"/" + path if path else b"")
                if self.left <= 0 or time.monotonic() > self.until:
                    self.stop(full)
                    self.searched = self.searched and depth > CHECKOUT_DEPTH
                    return
                here = DirectoryContent(device, owner)
                if not self.taken(base, path, here, full):
                    continue
                if here.is_checkout:
                    checkout = full
                    if depth <= CHECKOUT_DEPTH:
                        self.checkouts.append(full)
                self.found.setdefault(checkout, []).extend((at, size, full + b"/" + n) for at, size, n in here.files)
                if depth < DEEPEST:
                    waiting.extend((joined_raw(path, name), depth + 1, checkout) for name in sorted(here.below))
                elif here.below:
                    self.miss(full, "lies too deep")
        finally:
            os.close(base)

    def taken(self, base: int, path: bytes, here: DirectoryContent, place: bytes) -> bool:
        """Read a directory as `take` does; return whether it exists. Note one that may not be listed."""
        try:
            self.take(base, path, here, place)
        except FileNotFoundError:
            return False
        except OSError:
            # An unreadable directory in a farther place belongs to another user, and does not count.
            if here.owner is None:
                self.miss(place, "may not be listed")
        return True

    def take(self, base: int, path: bytes, here: DirectoryContent, place: bytes) -> None:
        """Read the directory `path` below `base`, which is at `place`. Raise OSError."""
        parts = [part for part in path.split(b"/") if part]
        handle = descend(os.dup(base), [to_text(part) for part in parts])
        try:
            # By its handle, and not as a list: a directory may hold millions.
            with os.scandir(b"/proc/self/fd/%d" % handle) as entries:
                for entry in entries:
                    if self.left <= 0 or time.monotonic() > self.until:
                        self.stop(place)
                        break
                    here.add(handle, entry.name, self)
        finally:
            os.close(handle)
        here.sort(parts[-1] if parts else b"")

    def miss(self, place: bytes, why: str) -> None:
        """Note that the search is incomplete, and why; the first reason is reported."""
        self.whole = False
        self.missed = self.missed or to_text(place)[:LONGEST_SHOWN] + " " + why

    def stop(self, place: bytes) -> None:
        """Note that a bound was reached before `place` was searched."""
        why = f"was not reached within {self.seconds:g} s" + LIMITED
        if self.left <= 0:
            why = f"lies behind {WALK_ENTRIES} directories and files that changed lately"
        self.miss(place, why)
        self.ended = False

    def drop(self, checkout: bytes, known: "set[bytes]") -> None:
        """Remove the files of a checkout that git tracks: git itself reports what of them would be lost."""
        start = len(checkout) + 1
        kept = [each for each in self.found.get(checkout, []) if each[2][start:] not in known]
        self.found[checkout] = kept


def joined_raw(path: bytes, name: bytes) -> bytes:
    """Return the path of `name` in the directory `path`."""
    return path + b"/" + name if path else name


def identity_of(place: bytes) -> "tuple[int, int] | None":
    """Return device and inode of a directory; None where it does not exist."""
    try:
        s = os.stat(place)  # noqa: PTH116  (bytes)
    except OSError:
        return None
    return (s.st_dev, s.st_ino)


def home_of_user() -> bytes:
    """Return the home directory; empty where there is none to search."""
    home = os.path.realpath(os.path.expanduser(b"~"))  # noqa: PTH111  (bytes)
    return b"" if home == b"/" else home


def others(home: bytes, elsewhere: "Iterable[str]") -> "list[bytes]":
    """Return further places that people use."""
    above = os.path.dirname(home)  # noqa: PTH120  (bytes)
    try:
        beside = [os.path.join(b"/home", name) for name in os.listdir(b"/home")]  # noqa: PTH118, PTH208  (bytes)
    except OSError:
        beside = []
    return [place for place in [*beside, *map(to_raw, elsewhere)] if place not in (home, above)]


def walked(request: "dict[str, Any]", elsewhere: "Iterable[str]" = ELSEWHERE) -> "tuple[Walk, Walk]":
    """Search the home directory and the roots, and then other places that people use."""
    home = home_of_user()
    roots = {os.path.realpath(to_raw(root)) for root, _ in request["trees"]}
    trees = {os.path.join(os.path.realpath(to_raw(root)), to_raw(name)) for root, name in request["trees"]}  # noqa: PTH118  (bytes)
    farther = others(home, elsewhere)
    # Each place is searched once, and the trees are scanned anyway.
    skip = {identity for identity in map(identity_of, [home, *roots, *trees, *farther]) if identity}
    since = int((time.time() - request["lately"]) * SECOND)
    near = Walk(since, skip, NEAR_SHARE * request["seconds"])
    for place in dict.fromkeys([home, *sorted(roots)]):
        if place:
            near.place(place)
    if not home:
        near.miss(b"~", "can't be told")
    far = Walk(since, skip, FAR_SHARE * request["seconds"])
    for place in farther:
        if identity_of(place) and not os.path.islink(place):  # noqa: PTH114  (bytes)
            far.place(place, os.getuid())
    return near, far


def outside(near: Walk, far: Walk) -> "dict[str, Any]":
    """Return what changed recently: the number of files, their size, and the newest of them, near ones first."""
    groups = [[each for found in walk.found.values() for each in found] for walk in (near, far)]
    newest = [each for files in groups for each in heapq.nlargest(NEWEST, files) if len(each[2]) <= LONGEST_SHOWN]
    return {
        "files": sum(map(len, groups)),
        "size": sum(size for files in groups for _, size, _ in files),
        "newest": [to_text(path) for _, _, path in newest[:NEWEST]],
        # Unreadable parts of farther places are normal, since other users own much there; parts that were not reached
        # may hold anything.
        "whole": near.whole and far.ended,
        "missed": near.missed or ("" if far.ended else far.missed),
    }
