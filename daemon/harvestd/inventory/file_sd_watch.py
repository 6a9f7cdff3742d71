"""The provider of hosts in target files: follows their changes, and keeps the last good set of an invalid file.

A file is accepted as a whole or not at all. A missing, incomplete or invalid file removes no host; its problems are
logged once, all of them. A host that a file does not list any more is removed when the file is the same at a second
read: a file that is being written may be valid and still incomplete. Where two files use one name, the first file has
precedence.
"""

import hashlib
import stat
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread

from harvestd.convention.structs import Immutable
from harvestd.errors import Retry
from harvestd.inventory.host import Host, Publish
from harvestd.settings import Problem, Targets
from harvestd.settings.reload import watch
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_LOOK_EVERY = timedelta(seconds=30)
"""For file systems that report no changes."""
_SECOND_LOOK = timedelta(seconds=2)
"""After a read that found hosts removed."""


class BadTargets(Retry):
    """The target files have problems; `problems` lists all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        told = "; ".join(str(problem) for problem in problems)
        super().__init__(
            f"not all targets are known: {told}", hint="mend the file; what it said before counts until then"
        )
        self.problems = tuple(problems)


class _Reading(Immutable):
    """The result of one read of a file."""

    hosts: tuple[Host, ...] | None = None
    """None: it can't be used."""
    problems: tuple[Problem, ...] = ()
    digest: bytes = b""
    """Of its content."""


class _File:
    """One file, and the hosts accepted from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hosts: tuple[Host, ...] | None = None
        """The last good set; None: there was none yet."""
        self.problems: tuple[Problem, ...] = ()
        self._doubted = b""
        """The digest of the content that removed hosts when it was read first."""

    @property
    def is_doubted(self) -> bool:
        """Whether a second read has to confirm that hosts were removed."""
        return bool(self._doubted)

    def take(self, reading: _Reading) -> None:
        """Process the result of a read."""
        self.problems = reading.problems
        doubted, self._doubted = self._doubted, b""
        if reading.hosts is None:
            return
        here = {host.identity for host in reading.hosts}
        is_less = any(host.identity not in here for host in self.hosts or ())
        if is_less and reading.digest != doubted:
            self._doubted = reading.digest
        else:
            self.hosts = reading.hosts


class TargetsFiles:
    """The provider of all target files; `replace` follows a reload. Without files there are no hosts."""

    name = "targets"

    def __init__(self, settings: Targets) -> None:
        self._files = _files(settings, ())
        self._replaced = anyio.Event()
        self._due = anyio.Event()
        self._told: tuple[Problem, ...] = ()

    def replace(self, settings: Targets) -> None:
        """Apply the section of a reloaded configuration; the state of files in both configurations is kept."""
        if settings.files != tuple(file.path for file in self._files):
            self._files = _files(settings, self._files)
            self._replaced.set()

    @property
    def hosts(self) -> frozenset[Host]:
        """The hosts that are known."""
        hosts, _ = _together(self._files)
        return hosts

    async def run(self, publish: Publish) -> None:
        """Publish the hosts whenever they changed, until cancelled."""
        told: frozenset[Host] | None = None

        def tell() -> None:
            nonlocal told
            is_known = not self._files or any(file.hosts is not None for file in self._files)
            if self.hosts != told and (is_known or told is not None):
                told = self.hosts
                publish(told)

        while True:
            self._replaced = anyio.Event()
            with anyio.CancelScope() as following:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._follow, self._files, tell)
                    await self._replaced.wait()
                    following.cancel()

    async def ask(self) -> None:
        """Read the files once; raise `BadTargets` for problems. The valid hosts are stored in either case."""
        await self._look(self._files)
        _, problems = _together(self._files)
        if problems:
            raise BadTargets(problems)

    async def _follow(self, files: Sequence[_File], tell: Callable[[], None]) -> None:
        async with anyio.create_task_group() as tasks:
            if files:
                await tasks.start(watch, [file.path for file in files], self._notice)
            while True:
                self._due = anyio.Event()
                await self._look(files)
                self._log_problems()
                tell()
                soon = any(file.is_doubted for file in files)
                with anyio.move_on_after((_SECOND_LOOK if soon else _LOOK_EVERY).total_seconds()):
                    await self._due.wait()

    def _notice(self) -> None:
        self._due.set()

    async def _look(self, files: Sequence[_File]) -> None:
        for file in files:
            file.take(await anyio.to_thread.run_sync(_read, file.path))

    def _log_problems(self) -> None:
        hosts, problems = _together(self._files)
        log = get_logger()
        if problems and problems != self._told:
            error = BadTargets(problems)
            log.warning(
                Event.INVENTORY_FAILED,
                source=self.name,
                error=f"not all targets are known; problems: {len(problems)}",
                problems=[str(problem) for problem in problems],
                hint=error.hint,
                hosts=len(hosts),
            )
        elif self._told and not problems:
            log.info(Event.INVENTORY_RECOVERED, source=self.name, hosts=len(hosts))
        self._told = problems


def _files(settings: Targets, known: Sequence[_File]) -> tuple[_File, ...]:
    before = {file.path: file for file in known}
    return tuple(before.get(path) or _File(path) for path in dict.fromkeys(settings.files))


def _together(files: Sequence[_File]) -> tuple[frozenset[Host], tuple[Problem, ...]]:
    """Return the hosts of all files, and all their problems."""
    taken: dict[str, Path] = {}
    hosts: set[Host] = set()
    problems: list[Problem] = []
    for file in files:
        problems += file.problems
        for host in file.hosts or ():
            other = taken.get(host.name) or taken.get(host.identity)
            if other is None:
                hosts.add(host)
                # A name holds no colon, and an identity does.
                taken |= {host.name: file.path, host.identity: file.path}
            else:
                message = f"stands in {other}, too, which is believed"
                problems.append(Problem(str(file.path), f"[{host.name}].labels.name", message))
    return frozenset(hosts), tuple(problems)


def _read(path: Path) -> _Reading:
    # Imported only where target files are used.
    from harvestd.inventory.file_sd import MOST_BYTES, BadFile, hosts_in  # noqa: PLC0415

    try:
        # Checked before it is opened: opening a FIFO would block.
        if not stat.S_ISREG(path.stat().st_mode):
            return _unusable(path, "is not a regular file")
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        return _Reading(hosts_in(raw, path, TargetsFiles.name), digest=hashlib.sha256(raw).digest())
    except OSError as e:
        return _unusable(path, f"can't be read: {e.strerror or type(e).__name__}")
    except BadFile as e:
        return _Reading(problems=e.problems)


def _unusable(path: Path, message: str) -> _Reading:
    return _Reading(problems=(Problem(str(path), "", message),))
