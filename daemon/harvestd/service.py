"""The daemon: what is opened, which tasks run, and how it stops.

Start-up fails loudly or not at all; SIGTERM and SIGINT stop it within five seconds, keeping what can be resumed; a
second one ends the process at once, which is safe at any moment; SIGUSR1 makes every host be looked at now; SIGHUP
changes nothing yet, and says so.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from harvestd import __version__
from harvestd.errors import ExitCode, unwrapped
from harvestd.harvest.bell import Bell
from harvestd.harvest.fleet import Fleet
from harvestd.harvest.monitor import Silent
from harvestd.harvest.opening import opened_house
from harvestd.settings import Settings
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

_KILLED_BY = 128
"""What a shell adds to a signal's number for the exit code of a process that it ended."""


def _nothing() -> None:
    """Tell nobody."""


async def run(settings: Settings, config: Path | None = None, ready: Callable[[], None] = _nothing) -> ExitCode:
    """Run the daemon until a signal stops it; `ready` is called once the hosts are being watched.

    Raises `Fatal` where it can't start, `HaltedForSafety` where it must not go on.
    """
    started = time.monotonic()
    log = get_logger()
    bell = Bell()
    with unwrapped():
        async with anyio.create_task_group() as listening:
            with anyio.CancelScope() as working:
                await listening.start(_obey_signals, working, bell)
                async with opened_house(settings, Silent()) as (house, root):
                    await house.knows.wait()
                    log.info(
                        Event.SERVICE_STARTED,
                        version=__version__,
                        pid=os.getpid(),
                        config=config,
                        data_root=settings.data_root,
                        hosts=len(settings.hosts),
                    )
                    ready()
                    await Fleet(house, root, bell).run()
            listening.cancel_scope.cancel()
    log.info(Event.SERVICE_STOPPED, exit_code=int(ExitCode.OK), duration_seconds=round(time.monotonic() - started, 3))
    return ExitCode.OK


async def _obey_signals(working: anyio.CancelScope, bell: Bell, *, task_status: TaskStatus[None]) -> None:
    stopping = False
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGUSR1:
                bell.ring()
            elif number == signal.SIGHUP:
                problem = "this version reads its configuration at the start only"
                get_logger().warning(Event.CONFIG_REJECTED, problems=[problem], hint="restart the daemon")
            elif stopping:
                os._exit(_KILLED_BY + number)
            else:
                stopping = True
                get_logger().info(Event.SERVICE_STOPPING, reason=signal.Signals(number).name)
                working.cancel()
