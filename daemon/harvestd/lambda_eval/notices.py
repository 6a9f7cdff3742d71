"""Watch the directory of job files with the kernel's notices; without notices the caller polls.

The directory may appear, vanish, or be another one after a reload: it is checked again every few seconds.
"""

from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread

from harvestd.harvest.context import Context

_ASK_EVERY = 2.0
"""Seconds between two checks whether the directory exists, and is still the configured one."""
_QUIET = 50
"""Milliseconds without a change after which a burst of changes is over."""
_LONGEST_BURST = 500


class Notices:
    """Calls `changed` after each change in the directory."""

    def __init__(self, context: Context, changed: Callable[[], None]) -> None:
        self._context = context
        self._changed = changed

    async def run(self) -> None:
        """Follow the directory until cancelled."""
        while True:
            directory = self._context.settings.jobs.directory
            if self._context.settings.jobs.watch and await anyio.to_thread.run_sync(_stands, directory):
                self._changed()
                await self._follow(directory)
            await anyio.sleep(_ASK_EVERY)

    async def _follow(self, directory: Path) -> None:
        """Call back at each change until another directory is configured, this one is gone, or notices fail."""
        # Only the daemon watches files: the command line starts without this import.
        from watchfiles import awatch  # noqa: PLC0415
        from watchfiles._rust_notify import WatchfilesRustInternalError  # noqa: PLC0415

        ended = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_set_at_end, ended)
            try:
                async for changes in awatch(
                    directory,
                    watch_filter=lambda _, path: path.endswith(".json"),
                    debounce=_LONGEST_BURST,
                    step=_QUIET,
                    stop_event=ended,
                    recursive=False,
                    rust_timeout=int(_ASK_EVERY * 1000),
                    yield_on_timeout=True,
                ):
                    if changes:
                        self._changed()
                    jobs = self._context.settings.jobs
                    if jobs.directory != directory or not jobs.watch:
                        break
                    if not await anyio.to_thread.run_sync(_stands, directory):
                        break
            except (OSError, WatchfilesRustInternalError):
                # The kernel limits notices for each user, and editors use many: then the caller polls.
                self._changed()
            tasks.cancel_scope.cancel()


def _stands(directory: Path) -> bool:
    try:
        return directory.is_dir()
    except OSError:  # not readable; listing it reports that
        return False


async def _set_at_end(ended: anyio.Event) -> None:
    """End the watching thread, which nothing else can interrupt, on cancellation."""
    try:
        await anyio.sleep_forever()
    finally:
        ended.set()
