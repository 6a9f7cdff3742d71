"""Find what git checkouts hold that exists nowhere else. git is run so that it writes nothing and starts nothing.

A repository is hostile input: its configuration and attributes may name programs (filters, hooks, a monitor of the file
system, transports). On a shared file system another machine may have written it, and may change it while it is read.
Programs that are named by fixed keys are switched off on git's command line, which outranks every file. Filters have
names of the repository's choice, so no command below lets git compare or convert the content of a file, the only case
in which a filter runs: git lists its index, and the files are compared with that here.
"""
# pathlib has no directory handles:
# ruff: noqa: PTH123

import hashlib
import os
import re
import select
import signal
import stat
import time
from contextlib import suppress

from harvestd.remote.probe.program.belongings import CHECKOUTS, LIMITED, LONGEST_SHOWN, Walk
from harvestd.remote.probe.program.places import FILE_FLAGS, FOLDER_FLAGS, SECOND, descend, to_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

END_SECONDS = 1.0
GIT_BYTES = 256 * 1024 * 1024  # read as a stream, never kept
LONGEST_RECORD = 16 * 1024
MOST_TRACKED = 500000
TRACKED_BYTES = 64 * 1024 * 1024  # of their paths, which are kept
HASHED_BYTES = 512 * 1024 * 1024  # of files whose times differ from the index; beyond it they count as changed
HASH_PIECE = 1024 * 1024
# From this version on git itself refuses a repository of another user, unless the user's own settings allow it.
CHECKS_OWNERS = (2, 35, 3)
# No index refresh, no hook, no file system monitor, no pager, no fetch, no prompt.
GIT_OPTIONS = (
    *("--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
    *("-c", "core.untrackedCache=false", "-c", "core.attributesFile=/dev/null", "-c", "protocol.allow=never"),
)
GIT_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TRACE2": "0",
    "GIT_TRACE2_EVENT": "0",
    "GIT_TRACE2_PERF": "0",
}
SHA1_CHARACTERS = 40
SKIPPED = 0x40000000  # flag of an entry: not checked out by intent (sparse checkouts)
LINK, MODULE = 0o120000, 0o160000
INDEX_HEAD = re.compile(rb"([0-7]{6}) ([0-9a-f]{40}|[0-9a-f]{64}) ([0-3])\t(.+)\Z", re.DOTALL)
INDEX_STAT = re.compile(
    rb"  ctime: (\d+):(\d+)\n  mtime: (\d+):(\d+)\n  dev: \d+\tino: (\d+)\n  uid: \d+\tgid: \d+\n"
    rb"  size: (\d+)\tflags: ([0-9a-f]+)\n"
)


TOO_MUCH = "holds more than is looked at"
UNREADABLE = "git answers in a form that is not known"


class GitFailed(Exception):
    """git did not answer: it hangs, or its output is too long. The text describes the failure."""


class NoCheckout(Exception):
    """There is no repository that git could read."""


class Git:
    """Runs git on checkouts, all within one deadline."""

    def __init__(self, program: str, seconds: float) -> None:
        self.program = program
        self.until = time.monotonic() + seconds
        self.late = f"git was not done with it within {seconds:g} s{LIMITED}"
        mine = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self.environment = dict(mine, **GIT_ENVIRONMENT)
        self.checks_owners: bool | None = None
        self.left = HASHED_BYTES

    def pieces(self, place: bytes, *words: str) -> "Iterator[bytes]":
        """Yield the output of git in a checkout as it arrives; raise `GitFailed`, `NoCheckout`."""
        import subprocess  # noqa: PLC0415  (expensive, and needed only where there are checkouts)

        command: list[str | bytes] = [self.program, "-C", place, *GIT_OPTIONS, *words]
        # A directory that only looks like a repository must not be taken for a part of the one above it.
        above = os.path.dirname(place)  # noqa: PTH120  (bytes)
        with open(os.devnull, "r+b") as null:
            try:
                running = subprocess.Popen(  # noqa: S603  (no shell, an absolute path)
                    command,
                    stdin=null,
                    stdout=subprocess.PIPE,
                    stderr=null,
                    env=dict(self.environment, GIT_CEILING_DIRECTORIES=above),
                    start_new_session=True,
                )
            except OSError as e:
                raise GitFailed(f"git does not start: {e.strerror}") from None
        try:
            yield from self.output_of(running.stdout.fileno())  # type: ignore[union-attr]
            if running.wait(timeout=max(END_SECONDS, self.until - time.monotonic())):
                raise NoCheckout
        except subprocess.TimeoutExpired:
            raise GitFailed(self.late) from None
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
                # A dead file system may block even SIGKILL: do not wait for ever.
                with suppress(subprocess.TimeoutExpired):
                    running.wait(timeout=END_SECONDS)
            running.stdout.close()  # type: ignore[union-attr]

    def output_of(self, handle: int) -> "Iterator[bytes]":
        """Read to the end, within bounds."""
        size = 0
        while True:
            ready, _, _ = select.select([handle], [], [], max(0.0, self.until - time.monotonic()))
            if not ready:
                raise GitFailed(self.late)
            if size > GIT_BYTES:
                raise GitFailed(TOO_MUCH)
            part = os.read(handle, 65536)
            if not part:
                return
            size += len(part)
            yield part

    def records(self, place: bytes, *words: str) -> "Iterator[bytes]":
        """Yield the parts between NULs of git's output; a rest after the last NUL is yielded last, if there is any."""
        rest = b""
        for piece in self.pieces(place, *words):
            whole = (rest + piece).split(b"\0")
            rest = whole.pop()
            if len(rest) > LONGEST_RECORD:
                raise GitFailed(TOO_MUCH)
            yield from whole
        if rest:
            yield rest

    def line(self, place: bytes, *words: str) -> bytes:
        """Return a short answer of git."""
        output = b"".join(self.records(place, *words))
        if len(output) > LONGEST_RECORD:
            raise GitFailed(TOO_MUCH)
        return output[:-1] if output.endswith(b"\n") else output

    def trusts(self, place: bytes) -> bool:
        """Return whether git may read a repository: not where another user owns it, and may rewrite it.

        git checks owners itself, and respects the user's own `safe.directory`. Versions that do not are used only for
        repositories that this user owns.
        """
        if self.checks_owners is None:
            found = re.match(rb"git version (\d+)\.(\d+)(?:\.(\d+))?", self.line(b"/", "version"))
            self.checks_owners = bool(found) and tuple(int(each or b"0") for each in found.groups()) >= CHECKS_OWNERS  # type: ignore[union-attr]
        if self.checks_owners:
            return True
        try:
            owners = [os.lstat(each) for each in (place, place + b"/.git", place + b"/.git/config")]
        except OSError:
            return False
        return stat.S_ISDIR(owners[1].st_mode) and all(each.st_uid == os.geteuid() for each in owners)

    def unpushed(self, place: bytes) -> int:
        """Return the number of commits that no remote branch holds, of branches, HEAD and stashes."""
        not_ours = ("--exclude=refs/tags/*", "--exclude=refs/prefetch/*")
        output = self.line(place, "rev-list", "--count", *not_ours, "--all", "--not", "--remotes")
        if not output.isdigit():
            raise NoCheckout
        return int(output)

    def untracked(self, place: bytes) -> int:
        """Return the number of untracked files; an untracked directory counts as one."""
        words = ("ls-files", "-z", "--others", "--exclude-standard", "--directory", "--no-empty-directory")
        return sum(1 for _ in self.records(place, *words))

    def staged(self, place: bytes) -> "set[bytes] | None":
        """Return the paths whose index entry differs from the last commit; None where there is no commit yet."""
        try:
            self.line(place, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        except NoCheckout:
            return None
        plain = (
            "--cached",
            "--name-only",
            "--no-ext-diff",
            "--no-textconv",
            "--no-renames",
            "--ignore-submodules=dirty",
        )
        found: set[bytes] = set()
        for path in self.records(place, "diff-index", "-z", *plain, "HEAD"):
            found.add(path)
            if len(found) > MOST_TRACKED:
                raise GitFailed(TOO_MUCH)
        return found

    def head_of_module(self, place: bytes) -> "bytes | None":
        """Return the commit that is checked out in a submodule; None where there is none, or git refuses to read it."""
        if not looks_whole(place) or not self.trusts(place):
            return None
        try:
            return self.line(place, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        except NoCheckout:
            return None


class Tracked:
    """Compares the tracked files of one checkout with the file system; nothing is opened through a link."""

    def __init__(self, git: Git, place: bytes) -> None:
        self.git = git
        self.place = place
        self.known: set[bytes] = set()
        self.changed: set[bytes] = set()
        self.bytes = 0
        self.folder: tuple[bytes, int] = (b"", -1)
        self.keeps_modes: bool | None = None

    def compare(self) -> None:
        """Compare every entry of the index with its file; raise `GitFailed`, `NoCheckout`."""
        index = self.git.line(self.place, "rev-parse", "--git-path", "index")
        try:
            written = os.stat(os.path.join(self.place, index)).st_mtime_ns  # noqa: PTH116, PTH118  (bytes)
        except OSError:
            written = 0  # then each entry may be as new as the index
        head: tuple[bytes, ...] | None = None
        try:
            for record in self.git.records(self.place, "ls-files", "-z", "--stage", "--debug"):
                if head is None:
                    rest = record
                else:
                    found = INDEX_STAT.match(record)
                    if found is None:
                        raise GitFailed(UNREADABLE)
                    self.entry(head, [int(each) for each in found.groups()[:-1]], int(found.group(7), 16), written)
                    rest = record[found.end() :]
                start = INDEX_HEAD.match(rest)
                if start is None and rest:
                    raise GitFailed(UNREADABLE)
                head = None if start is None else start.groups()
        finally:
            if self.folder[1] >= 0:
                os.close(self.folder[1])
        if head is not None:
            raise GitFailed(UNREADABLE)

    def entry(self, head: "tuple[bytes, ...]", noted: "list[int]", flags: int, written: int) -> None:
        """Compare one entry.

        `head`: mode, object, stage, path; `noted`: the index's file status; `written`: its time.
        """
        mode, name, stage, path = int(head[0], 8), head[1], head[2], head[3]
        self.known.add(path)
        self.bytes += len(path)
        if len(self.known) > MOST_TRACKED or self.bytes > TRACKED_BYTES:
            raise GitFailed(TOO_MUCH)
        if stage != b"0":
            self.changed.add(path)
            return
        try:
            directory = self.above(path)
            last = path.rpartition(b"/")[2]
            s = os.stat(last, dir_fd=directory, follow_symlinks=False)
            if mode == MODULE:
                same = stat.S_ISDIR(s.st_mode) and self.git.head_of_module(self.place + b"/" + path) in (None, name)
            else:
                same = stat.S_IFMT(s.st_mode) == stat.S_IFMT(mode) and (
                    self.is_as_noted(s, noted, written) or self.holds(directory, last, s, name)
                )
                same = same and not (stat.S_ISREG(mode) and (s.st_mode ^ mode) & 0o100 and self.has_modes())
        except OSError:
            same = bool(flags & SKIPPED)
        if not same:
            self.changed.add(path)

    def has_modes(self) -> bool:
        """Return whether the executable bit is meaningful on this file system, by git's own test."""
        if self.keeps_modes is None:
            try:
                output = self.git.line(self.place, "config", "--type=bool", "--get", "core.fileMode")
            except NoCheckout:
                output = b"true"
            self.keeps_modes = output != b"false"
        return self.keeps_modes

    def above(self, path: bytes) -> int:
        """Return a handle on the directory of a path, valid until the next call. Raise OSError."""
        folder = path.rpartition(b"/")[0]
        parts = [to_text(part) for part in folder.split(b"/")] if folder else []
        if any(part in ("", ".", "..") for part in parts):
            raise FileNotFoundError
        if self.folder[1] < 0 or self.folder[0] != folder:
            if self.folder[1] >= 0:
                os.close(self.folder[1])
            self.folder = (b"", -1)
            self.folder = (folder, descend(os.open(self.place, FOLDER_FLAGS), parts))
        return self.folder[1]

    def is_as_noted(self, s: os.stat_result, noted: "list[int]", written: int) -> bool:
        """Return whether a file's times, size and inode are those in the index, and older than the index itself."""
        changed, at = noted[0] * SECOND + noted[1], noted[2] * SECOND + noted[3]
        times = ((s.st_ctime_ns, changed, noted[1]), (s.st_mtime_ns, at, noted[3]))
        # git may have been built to store whole seconds.
        if any(now != then and (part or now // SECOND * SECOND != then) for now, then, part in times):
            return False
        # Both are stored as 32 bits.
        if (s.st_ino ^ noted[4]) & 0xFFFFFFFF or (s.st_size ^ noted[5]) & 0xFFFFFFFF:
            return False
        return s.st_mtime_ns < written

    def holds(self, directory: int, last: bytes, s: os.stat_result, name: bytes) -> bool:
        """Return whether a file or link holds the content of an object, byte for byte. Raise OSError."""
        try:
            digest = hashlib.new("sha1" if len(name) == SHA1_CHARACTERS else "sha256")
        except ValueError:
            return False  # a machine that forbids SHA-1
        digest.update(b"blob %d\0" % s.st_size)
        if stat.S_ISLNK(s.st_mode):
            digest.update(os.readlink(last, dir_fd=directory))
        elif self.git.left < s.st_size:
            return False
        else:
            self.git.left -= s.st_size
            handle = os.open(last, FILE_FLAGS, dir_fd=directory)
            try:
                left = s.st_size if stat.S_ISREG(os.fstat(handle).st_mode) else 0
                while left:
                    data = os.read(handle, min(left, HASH_PIECE))
                    if not data:
                        break
                    if time.monotonic() > self.git.until:
                        raise GitFailed(self.git.late)
                    left -= len(data)
                    digest.update(data)
            finally:
                os.close(handle)
        return digest.hexdigest().encode("ascii") == name


def git_program() -> str:
    """Return the path of git; empty where there is none."""
    for directory in [*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/local/bin"]:
        program = directory + "/git"
        if directory.startswith("/") and os.access(program, os.X_OK):
            return program
    return ""


def looks_whole(place: bytes) -> bool:
    """Return whether there is a repository, or a file that points to one."""
    git = place + b"/.git"
    return os.path.isfile(git) or os.path.exists(git + b"/HEAD")  # noqa: PTH110, PTH113  (bytes)


def at_stake(git: Git, walk: Walk, place: bytes) -> "tuple[int, int]":
    """Return how many files of a checkout differ from the last commit, and how many commits no remote branch holds.

    Files that git tracks are removed from the results of `walk`. Raise `GitFailed`, `NoCheckout`.
    """
    if not git.trusts(place):
        raise NoCheckout
    tracked = Tracked(git, place)
    tracked.compare()
    staged = git.staged(place)
    changed = tracked.changed | (tracked.known if staged is None else staged)
    counts = (len(changed) + git.untracked(place), git.unpushed(place))
    walk.drop(place, tracked.known)
    return counts


def checkouts(walk: Walk, seconds: float) -> "tuple[list[list[Any]] | None, str]":
    """Return [place, changed, unpushed] of checkouts with unsaved work; None and the reason where it is unknown."""
    program = git_program()
    if not walk.searched:
        return None, walk.missed
    if walk.checkouts and not program:
        return None, "there is no git"
    git = Git(program, seconds)
    rows: list[list[Any]] = []
    for place in walk.checkouts:
        try:
            changed, unpushed = at_stake(git, walk, place)
        except NoCheckout:
            # A repository that git can't read may hold anything; a directory that only looks like one counts as files.
            changed, unpushed = int(looks_whole(place)), 0
        except GitFailed as e:
            return None, f"{to_text(place)[:LONGEST_SHOWN]}: {e}"
        if changed or unpushed:
            rows.append([to_text(place), changed, unpushed])
        if len(rows) > CHECKOUTS:
            return None, f"more than {CHECKOUTS} of them do, such as {to_text(place)[:LONGEST_SHOWN]}"
    return rows, ""
