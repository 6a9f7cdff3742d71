"""What git checkouts hold that is nowhere else. git is asked so that it writes nothing and starts nothing."""
# pathlib has no directory handles:
# ruff: noqa: PTH123

import os
import select
import signal
import time
from contextlib import suppress

from harvestd.remote.probe.program.belongings import CHECKOUTS, Walk
from harvestd.remote.probe.program.places import to_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GIT_SECONDS = 5.0
ALL_GIT_SECONDS = 20.0
END_SECONDS = 1.0
GIT_BYTES = 16 * 1024 * 1024
NO_REPOSITORY = 128
# No index refreshed, no hook, no watcher, no tracing into a file, nothing fetched, nobody asked.
GIT_OPTIONS = (
    *("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
    *("-c", "core.untrackedCache=false", "-c", "safe.directory=*"),
)
GIT_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TRACE2": "0",
    "GIT_TRACE2_EVENT": "0",
    "GIT_TRACE2_PERF": "0",
}


class CantSay(Exception):
    """git did not answer: it hangs, or says too much."""


class NoCheckout(Exception):
    """There is no repository that git could read."""


class Git:
    """Asks git about checkouts, all within one deadline."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.until = time.monotonic() + ALL_GIT_SECONDS
        mine = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self.environment = dict(mine, **GIT_ENVIRONMENT)

    def asked(self, place: bytes, *words: str) -> bytes:
        """Give what git says of a checkout; raises `CantSay`, `NoCheckout`."""
        import subprocess  # noqa: PLC0415  (dear, and needed where there are checkouts alone)

        command: list[str | bytes] = [self.program, "-C", place, *GIT_OPTIONS, *words]
        with open(os.devnull, "r+b") as null:
            try:
                running = subprocess.Popen(  # noqa: S603  (no shell, an absolute path)
                    command,
                    stdin=null,
                    stdout=subprocess.PIPE,
                    stderr=null,
                    env=self.environment,
                    start_new_session=True,
                )
            except OSError:
                raise CantSay from None
        try:
            said = self.said_by(running.stdout.fileno())  # type: ignore[union-attr]
            if running.wait(timeout=GIT_SECONDS):
                raise NoCheckout
        except subprocess.TimeoutExpired:
            raise CantSay from None
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
                # One that a dead file system holds outlives even that, and is not waited for.
                with suppress(subprocess.TimeoutExpired):
                    running.wait(timeout=END_SECONDS)
            running.stdout.close()  # type: ignore[union-attr]
        return said

    def said_by(self, handle: int) -> bytes:
        """Read to the end, within bounds."""
        until = min(self.until, time.monotonic() + GIT_SECONDS)
        parts: list[bytes] = []
        size = 0
        while True:
            ready, _, _ = select.select([handle], [], [], max(0.0, until - time.monotonic()))
            if not ready or size > GIT_BYTES:
                raise CantSay
            part = os.read(handle, 65536)
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)

    def unfiltered(self, place: bytes) -> "list[str]":
        """Give the options by which no filter of this checkout is started: it is a program that may write."""
        try:
            said = to_text(self.asked(place, "config", "--name-only", "--get-regexp", r"^filter\..*\.(clean|process)$"))
        except NoCheckout:
            return []  # none is set, or the next question says what is wrong
        options: list[str] = []
        for name in {line.rpartition(".")[0] for line in said.splitlines()}:
            for rest in (".clean=", ".process=", ".required=false"):
                options += ["-c", name + rest]
        return options

    def changed(self, place: bytes) -> int:
        """Count what differs from the last commit, or is not known to git; a directory of such counts as one."""
        words = ("status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=dirty")
        return self.asked(place, *self.unfiltered(place), *words).count(b"\n")

    def unpushed(self, place: bytes) -> int:
        """Count the commits that no remote branch holds, of branches, HEAD and stashes."""
        not_ours = ("--exclude=refs/tags/*", "--exclude=refs/prefetch/*")
        return int(self.asked(place, "rev-list", "--count", *not_ours, "--all", "--not", "--remotes"))

    def kept(self, place: bytes) -> "set[bytes]":
        """Give the paths of the files that it keeps."""
        return set(self.asked(place, "ls-files", "-z").split(b"\0"))


def git_program() -> str:
    """Give the path of git; empty where there is none."""
    for directory in [*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/local/bin"]:
        program = directory + "/git"
        if directory.startswith("/") and os.access(program, os.X_OK):
            return program
    return ""


def looks_whole(place: bytes) -> bool:
    """Tell whether there is a repository, or a word of where it is."""
    git = place + b"/.git"
    return os.path.isfile(git) or os.path.exists(git + b"/HEAD")  # noqa: PTH110, PTH113  (bytes)


def checkouts(walk: Walk) -> "list[list[Any]] | None":
    """Give [place, changed, unpushed] of those in which something would be lost; None where nobody can tell.

    What git keeps of them is taken out of what `walk` found.
    """
    program = git_program()
    if not walk.searched or len(walk.checkouts) > CHECKOUTS or (walk.checkouts and not program):
        return None
    git = Git(program)
    told: list[list[Any]] = []
    for place in walk.checkouts:
        try:
            changed, unpushed = git.changed(place), git.unpushed(place)
            walk.drop(place, git.kept(place))
        except NoCheckout:
            # What git can't read may hold anything; what only bears the name of a repository counts as files.
            changed, unpushed = int(looks_whole(place)), 0
        except CantSay:
            return None
        if changed or unpushed:
            told.append([to_text(place), changed, unpushed])
    return told
