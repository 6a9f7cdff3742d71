"""Watch files that other programs write, and call back whenever one of them may have changed.

Every way of change is covered: written in place, renamed over the old file, behind a link, in a directory that does not
exist yet or is created again. Nothing is read here. Where the kernel offers no notices the directories are polled;
where they can't even be listed, the callback runs every few seconds.
"""

import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import aclosing, suppress
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus
from msgspec import Struct

QUIET = 250
"""Milliseconds without a change after which a burst of saves is over."""
LONGEST_BURST = 2_000
"""Milliseconds after which a burst that continues is reported anyway."""
_ASK_EVERY = 5.0
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
            await anyio.sleep(_ASK_EVERY)
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
            await anyio.sleep(_ASK_EVERY)
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
