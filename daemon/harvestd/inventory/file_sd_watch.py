"""The hosts of the files of targets: followed while they change, and the last good set of each whenever it is bad.

A file is taken as a whole or not at all. That it is missing, torn or wrong takes no host away; what is wrong is told
once, all of it. A host that a file does not name any more leaves when the file was the same at a second look: one that
is written slowly may be whole to look at, and lack its end. Of two files that give one name the first is believed.
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
from harvestd.settings.file_watch import watch
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_LOOK_EVERY = timedelta(seconds=30)
"""Where a file system tells nobody of its changes."""
_SECOND_LOOK = timedelta(seconds=2)
"""After a look that found hosts gone."""


class BadTargets(Retry):
    """Something is wrong with the files of targets; `problems` are all of it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        told = "; ".join(str(problem) for problem in problems)
        super().__init__(
            f"not all targets are known: {told}", hint="mend the file; what it said before counts until then"
        )
        self.problems = tuple(problems)


class _Reading(Immutable):
    """What one look at a file found."""

    hosts: tuple[Host, ...] | None = None
    """None: it can't be used."""
    problems: tuple[Problem, ...] = ()
    digest: bytes = b""
    """Of its content."""


class _File:
    """One file: what is believed of it, look by look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hosts: tuple[Host, ...] | None = None
        """The last good set; None: there was none yet."""
        self.problems: tuple[Problem, ...] = ()
        self._doubted = b""
        """What took hosts away when it was seen first."""

    @property
    def is_doubted(self) -> bool:
        """Whether a second look must tell who is gone."""
        return bool(self._doubted)

    def take(self, reading: _Reading) -> None:
        """Take what was found now."""
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
    """The provider of all files of targets; `replace` follows a reload. Without files there are no hosts."""

    name = "targets"

    def __init__(self, settings: Targets) -> None:
        self._files = _files(settings, ())
        self._replaced = anyio.Event()
        self._due = anyio.Event()
        self._told: tuple[Problem, ...] = ()

    def replace(self, settings: Targets) -> None:
        """Take the section of a reloaded configuration in place of the one before; what both name stays known."""
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
        """Learn the hosts once; raises `BadTargets` where not all are known. What can be used is known all the same."""
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
                self._tell_problems()
                tell()
                soon = any(file.is_doubted for file in files)
                with anyio.move_on_after((_SECOND_LOOK if soon else _LOOK_EVERY).total_seconds()):
                    await self._due.wait()

    def _notice(self) -> None:
        self._due.set()

    async def _look(self, files: Sequence[_File]) -> None:
        for file in files:
            file.take(await anyio.to_thread.run_sync(_read, file.path))

    def _tell_problems(self) -> None:
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
    """Return the hosts of all files, and all that is wrong with them."""
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
    # Only who has such a file pays for it.
    from harvestd.inventory.file_sd import MOST_BYTES, BadFile, hosts_in  # noqa: PLC0415

    try:
        # Before it is opened: a FIFO would be waited for.
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
