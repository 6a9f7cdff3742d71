"""Reload the configuration while the daemon runs: the file is watched, and only a completely valid one is applied.

The new settings are passed to `adopt`, which applies them without waiting. They are never applied in part, nor when
nothing changed, and their values are never logged. A rejection is logged once, and again after `request`.

Watch files that other programs write, and call back whenever one of them may have changed. Every way of change is
covered: written in place, renamed over the old file, behind a link, in a directory that does not exist yet or is
created again. Nothing is read here. Where the kernel offers no notices the directories are polled; where they can't
even be listed, the callback runs every few seconds.
"""

import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import aclosing, suppress
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus
from msgspec import Struct

from harvestd.convention.structs import Immutable
from harvestd.settings.problems import InvalidSettings, Problem
from harvestd.settings.schema import HostSettings, Settings
from harvestd.settings.sections import SettingsTable
from harvestd.telemetry import service_manager
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger
from harvestd.telemetry.service_manager import ServiceManager

FIXED = ("data_root", "state_dir", "api")
"""Keys that are fixed for the life of a process: locks, open files and listeners can't move."""


class Differences(Immutable):
    """Added, removed and changed keys, as `hosts[gpu-a]` or `poll.interval`, in the order of the file."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def differences(old: Settings, new: Settings) -> Differences:
    """Return the differences; hosts are compared by name, whatever their order in the file."""
    before, after = _tables(old), _tables(new)
    return Differences(
        added=tuple(f"hosts[{name}]" for name in after if name not in before),
        removed=tuple(f"hosts[{name}]" for name in before if name not in after),
        changed=(*_changed_keys(old, new), *_changed_hosts(before, after)),
    )


def _tables(settings: Settings) -> Mapping[str, HostSettings]:
    return {table.name: table for table in settings.hosts}


def _changed_keys(old: Settings, new: Settings) -> Iterator[str]:
    for key in Settings.model_fields:
        before, after = getattr(old, key), getattr(new, key)
        if key == "hosts" or before == after:
            continue
        if isinstance(before, SettingsTable):
            yield from (f"{key}.{each}" for each in _differing(before, after))
        else:
            yield key


def _changed_hosts(before: Mapping[str, HostSettings], after: Mapping[str, HostSettings]) -> Iterator[str]:
    for name in (name for name in before if name in after):
        was, now = before[name], after[name]
        # A key that was added or removed with its section's value differs, too: it overrides the section from now on.
        keys = {*_differing(was, now), *(was.model_fields_set ^ now.model_fields_set)}
        yield from (f"hosts[{name}].{key}" for key in HostSettings.model_fields if key in keys)


def _differing(before: SettingsTable, after: SettingsTable) -> Iterator[str]:
    return (key for key in type(before).model_fields if getattr(before, key) != getattr(after, key))


QUIET = 250
"""Milliseconds without a change after which a burst of saves is over."""
LONGEST_BURST = 2_000
"""Milliseconds after which a burst that continues is reported anyway."""
ASK_EVERY = 5.0
"""Seconds between two checks whether the directories are still the same: the watch on a removed one reports nothing."""


class _Surroundings(Struct, frozen=True):
    """The directories and paths to watch for some files, at one moment."""

    directories: Mapping[Path, tuple[int, int]]
    """The nearest existing directory above each place, with its device and inode to detect a replacement."""
    concerned: frozenset[Path]
    """The files' paths, the targets of links, and all their parents."""


async def watch(
    files: Collection[Path],
    changed: Callable[[], None],
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Call `changed` after each burst of changes to one of `files`, until cancelled.

    The task counts as started once no later change can be missed.
    """
    around = await anyio.to_thread.run_sync(_surroundings, files)
    # No other task runs between here and the kernel's watch.
    task_status.started()
    while True:
        await _follow(around, files, changed)
        around = await anyio.to_thread.run_sync(_surroundings, files)
        # A change may have come before the watch; the callee runs only once the watch is active.
        changed()


async def _follow(around: _Surroundings, files: Collection[Path], changed: Callable[[], None]) -> None:
    """Watch until the set of paths to watch changes."""
    # Only the daemon watches files: the command line starts without this import.
    from watchfiles._rust_notify import WatchfilesRustInternalError  # noqa: PLC0415

    ended = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_until_others, around, files, ended)
        # The kernel limits notices for each user, and editors use many: then the directories are polled.
        for force_polling in (None, True):
            failed = False
            try:
                await _notices(around, files, changed, ended, force_polling=force_polling)
            except* (OSError, WatchfilesRustInternalError):  # it raises either of both, at once or from its thread
                failed = True
            if not failed:
                break
        else:
            # Removed meanwhile, or not readable for this user.
            await anyio.sleep(ASK_EVERY)
        tasks.cancel_scope.cancel()


async def _notices(
    around: _Surroundings,
    files: Collection[Path],
    changed: Callable[[], None],
    ended: anyio.Event,
    *,
    force_polling: bool | None,
) -> None:
    from watchfiles import awatch  # noqa: PLC0415  (see above)

    notices = awatch(
        *around.directories,
        watch_filter=lambda _, path: Path(path) in around.concerned,
        debounce=LONGEST_BURST,
        step=QUIET,
        stop_event=ended,
        recursive=False,
        force_polling=force_polling,
    )
    async with aclosing(notices):
        async for _ in notices:
            changed()
            if await anyio.to_thread.run_sync(_surroundings, files) != around:
                return


async def _until_others(around: _Surroundings, files: Collection[Path], ended: anyio.Event) -> None:
    """Set `ended` when the paths to watch have changed, and on cancellation.

    Only this event ends the watching thread.
    """
    try:
        while await anyio.to_thread.run_sync(_surroundings, files) == around:  # noqa: ASYNC110  (there is no event for this)
            await anyio.sleep(ASK_EVERY)
    finally:
        ended.set()


def _surroundings(files: Collection[Path]) -> _Surroundings:
    places = {place for file in files for place in _places(file)}
    return _Surroundings(
        directories=dict(_nearest(place) for place in places),
        concerned=frozenset(path for place in places for path in (place, *place.parents)),
    )


def _places(file: Path) -> Iterator[Path]:
    """Yield a file's path and, where that is a link, its target."""
    yield file.absolute()
    with suppress(OSError, RuntimeError):  # links in a circle have no target
        yield file.resolve()


def _nearest(place: Path) -> tuple[Path, tuple[int, int]]:
    for directory in place.parents:
        with suppress(OSError):  # not readable, or removed meanwhile: try the one above
            status = directory.stat()
            if stat.S_ISDIR(status.st_mode):
                return directory, (status.st_dev, status.st_ino)
    return Path(place.anchor), (0, 0)


Load = Callable[[Path], Settings]
"""Reads the whole configuration; raises `InvalidSettings`."""
Adopt = Callable[[Settings], None]
"""Applies valid settings at once; never raises."""


class Reloading:
    """Follows the file that `settings` were read from."""

    def __init__(self, settings: Settings, file: Path, load: Load, manager: ServiceManager) -> None:
        """Store the parameters.

        `load` runs in a thread; it raises `InvalidSettings`, and any other error ends `run`.
        """
        self._settings = settings
        self._file = file
        self._load = load
        self._manager = manager
        self._log = get_logger().bind(config=file)
        self._due = anyio.Event()
        self._is_requested = False
        self._reported: list[str] = []

    def request(self) -> None:
        """Request a reload now, and log its result even if nothing changed."""
        self._is_requested = True
        self._due.set()

    async def run(self, adopt: Adopt) -> None:
        """Reload at each request and each change of the file, until cancelled."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch, [self._file], self._notice)
            # The file may have been saved after it was read and before it was watched.
            await self._reload(adopt, report_always=False)
            while True:
                await self._due.wait()
                self._due = anyio.Event()
                requested, self._is_requested = self._is_requested, False
                self._manager.notify(service_manager.reloading())
                try:
                    await self._reload(adopt, report_always=requested)
                finally:
                    # A service manager that waits for the end of a reload does nothing else meanwhile.
                    self._manager.notify(service_manager.READY)

    def _notice(self) -> None:
        self._due.set()

    async def _reload(self, adopt: Adopt, *, report_always: bool) -> None:
        try:
            settings = await anyio.to_thread.run_sync(self._load, self._file)
            self._refuse_fixed(settings)
        except InvalidSettings as e:
            problems = [str(problem) for problem in e.problems]
            if report_always or problems != self._reported:
                hint = "nothing changed; mend it, `harvestd check` says the same"
                self._log.warning(Event.CONFIG_REJECTED, problems=problems, hint=hint)
            self._reported = problems
            return
        self._reported = []
        found = differences(self._settings, settings)
        if found:
            # Settings that were not adopted count as a change at the next reload as well.
            adopt(settings)
            self._settings = settings
        if found or report_always:
            self._log.info(Event.CONFIG_RELOADED, added=found.added, removed=found.removed, changed=found.changed)

    def _refuse_fixed(self, settings: Settings) -> None:
        problems = [
            Problem(str(self._file), key, "can't change while the daemon runs", "restart the daemon")
            for key in FIXED
            if getattr(settings, key) != getattr(self._settings, key)
        ]
        if problems:
            raise InvalidSettings(problems)
