"""Files that somebody else writes, watched: who asks is told whenever one of them may have changed.

However it comes there: written in place, renamed over the old one, behind a link, in a directory that does not exist
yet or that is made anew. Nothing is read here. Where the kernel gives no notices the directories are polled; where they
may not even be listed, it is told every few seconds.
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
"""Milliseconds after which it is told although it is not."""
_ASK_EVERY = 5.0
"""Seconds between two looks whether the directories are still the same: who watches one that is gone hears nothing."""


class _Surroundings(Struct, frozen=True):
    """What has to be watched for some files, as it is now."""

    directories: Mapping[Path, tuple[int, int]]
    """The nearest one above each place, with what tells it from another that comes there."""
    concerned: frozenset[Path]
    """Where the files are looked for, where links lead, and all that lies above."""


async def watch(
    files: Collection[Path],
    changed: Callable[[], None],
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Call `changed` after each burst of changes to one of `files`, until cancelled.

    It counts as started once nothing that is changed from then on is missed.
    """
    around = await anyio.to_thread.run_sync(_surroundings, files)
    # From here to the kernel's watch nobody else has a turn.
    task_status.started()
    while True:
        await _follow(around, files, changed)
        around = await anyio.to_thread.run_sync(_surroundings, files)
        # Something may have come before it was watched; who is told has a turn only when it is.
        changed()


async def _follow(around: _Surroundings, files: Collection[Path], changed: Callable[[], None]) -> None:
    """Watch until something else has to be watched."""
    # Only the daemon watches: the command line starts without it.
    from watchfiles._rust_notify import WatchfilesRustInternalError  # noqa: PLC0415

    ended = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_until_others, around, files, ended)
        # The kernel's notices are a quota of the user's, and editors take many: then the directories are polled.
        for force_polling in (None, True):
            failed = False
            try:
                await _notices(around, files, changed, ended, force_polling=force_polling)
            except* (OSError, WatchfilesRustInternalError):  # it says so in one of both, at once or from its thread
                failed = True
            if not failed:
                break
        else:
            # Gone since we looked, or not to be listed by us.
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
    """Set `ended` when something else has to be watched, and when we are cancelled.

    Nothing but that ends the thread that watches.
    """
    try:
        while await anyio.to_thread.run_sync(_surroundings, files) == around:  # noqa: ASYNC110  (nobody tells us)
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
    """Yield where a file is looked for and, where that is a link, where it leads."""
    yield file.absolute()
    with suppress(OSError, RuntimeError):  # links in a circle lead nowhere
        yield file.resolve()


def _nearest(place: Path) -> tuple[Path, tuple[int, int]]:
    for directory in place.parents:
        with suppress(OSError):  # not for us, or gone meanwhile: the one above tells
            status = directory.stat()
            if stat.S_ISDIR(status.st_mode):
                return directory, (status.st_dev, status.st_ino)
    return Path(place.anchor), (0, 0)
