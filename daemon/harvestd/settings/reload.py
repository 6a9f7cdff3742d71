"""Reload the configuration while the daemon runs: the file is watched, and only a completely valid one is applied.

The new settings are passed to `adopt`, which applies them without waiting. They are never applied in part, nor when
nothing changed, and their values are never logged. A rejection is logged once, and again after `ask`.
"""

from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread

from harvestd.settings.differences import FIXED, differences
from harvestd.settings.file_watch import watch
from harvestd.settings.problems import InvalidSettings, Problem
from harvestd.settings.schema import Settings
from harvestd.telemetry import systemd
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger
from harvestd.telemetry.systemd import ServiceManager

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
        self._is_asked = False
        self._told: list[str] = []

    def ask(self) -> None:
        """Request a reload now, and log its result even if nothing changed."""
        self._is_asked = True
        self._due.set()

    async def run(self, adopt: Adopt) -> None:
        """Reload at each request and each change of the file, until cancelled."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch, [self._file], self._notice)
            # The file may have been saved after it was read and before it was watched.
            await self._reload(adopt, told_anyway=False)
            while True:
                await self._due.wait()
                self._due = anyio.Event()
                asked, self._is_asked = self._is_asked, False
                self._manager.tell(systemd.reloading())
                try:
                    await self._reload(adopt, told_anyway=asked)
                finally:
                    # A service manager that waits for the end of a reload does nothing else meanwhile.
                    self._manager.tell(systemd.READY)

    def _notice(self) -> None:
        self._due.set()

    async def _reload(self, adopt: Adopt, *, told_anyway: bool) -> None:
        try:
            settings = await anyio.to_thread.run_sync(self._load, self._file)
            self._refuse_fixed(settings)
        except InvalidSettings as e:
            problems = [str(problem) for problem in e.problems]
            if told_anyway or problems != self._told:
                hint = "nothing changed; mend it, `harvestd check` says the same"
                self._log.warning(Event.CONFIG_REJECTED, problems=problems, hint=hint)
            self._told = problems
            return
        self._told = []
        found = differences(self._settings, settings)
        if found:
            # Settings that were not adopted count as a change at the next reload as well.
            adopt(settings)
            self._settings = settings
        if found or told_anyway:
            self._log.info(Event.CONFIG_RELOADED, added=found.added, removed=found.removed, changed=found.changed)

    def _refuse_fixed(self, settings: Settings) -> None:
        problems = [
            Problem(str(self._file), key, "can't change while the daemon runs", "restart the daemon")
            for key in FIXED
            if getattr(settings, key) != getattr(self._settings, key)
        ]
        if problems:
            raise InvalidSettings(problems)
