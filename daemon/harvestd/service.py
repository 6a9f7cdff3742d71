"""The daemon: opens everything, starts the tasks and stops them.

A start-up that can't complete raises. SIGTERM and SIGINT stop the daemon within five seconds and keep what can be
resumed. A second signal ends the process at once, which is safe at any moment. SIGUSR1 requests a scan of every host.
SIGHUP, or a change of the configuration file, reloads the configuration. Each of these is reported to the service
manager, and so is the liveness of the event loop.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus

from harvestd import __version__
from harvestd.api.state import Source
from harvestd.bulkhead import Bulkhead
from harvestd.errors import ExitCode, unwrapped
from harvestd.harvest.context import Context
from harvestd.harvest.experiments.logs import LogIndexes
from harvestd.harvest.fleet.fleet import Fleet
from harvestd.harvest.memory import collect, drop_unused, trim
from harvestd.harvest.metrics import FleetMetrics
from harvestd.harvest.startup import open_context
from harvestd.harvest.sync import Broadcast
from harvestd.lambda_eval.watching import JobWatch
from harvestd.settings import Settings, load
from harvestd.settings.reload import Load, Reloading
from harvestd.store.caches import CacheDirectory
from harvestd.store.lock import HolderKind
from harvestd.store.root import DataRoot
from harvestd.telemetry import service_manager
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger
from harvestd.telemetry.service_manager import Deadlines, ServiceManager

if TYPE_CHECKING:
    from harvestd.api.connection import Page

_KILLED_BY = 128
"""Added to a signal's number, as shells do, for the exit code of a process that the signal ended."""
_TIMEOUT = timedelta(seconds=60)
"""How long the service manager should wait from one request for more time to the next."""
_BEAT = 5.0
"""Seconds between two reports to the service manager, unless its watchdog needs them more often."""


def _nothing() -> None:
    """Do nothing."""


async def run(
    settings: Settings, config: Path, ready: Callable[[], None] = _nothing, *, reload: Load = load
) -> ExitCode:
    """Run the daemon until a signal stops it; `ready` is called once the hosts are being watched.

    `settings` were read from `config`; `reload` reads it again. Raise `Fatal` if the daemon can't start,
    `HaltedForSafety` if it must not go on.
    """
    started = time.monotonic()
    log = get_logger()
    manager = ServiceManager(os.environ)
    scan_now, retry_now, tally = Broadcast(), Broadcast(), FleetMetrics()
    reloading = Reloading(settings, config, reload, manager)
    with unwrapped():
        async with anyio.create_task_group() as listening:
            with anyio.CancelScope() as working:

                def scan() -> None:
                    scan_now.ring()
                    retry_now.ring()

                answers = {signal.SIGUSR1: scan, signal.SIGHUP: reloading.request}
                await listening.start(_obey_signals, working, manager, answers)
                opening = anyio.CancelScope()
                listening.start_soon(_ask_for_time, manager, opening)
                # A command that holds the data root ends by itself; exiting here instead would leave the unit down.
                waiting = open_context(settings, tally, kind=HolderKind.DAEMON, wait=math.inf)
                async with waiting as (context, root), anyio.create_task_group() as tasks:
                    context.signals.scan_now = retry_now
                    await context.catalogue_opened.wait()
                    opening.cancel()
                    log.info(
                        Event.SERVICE_STARTED,
                        version=__version__,
                        pid=os.getpid(),
                        config=config,
                        data_root=settings.data_root,
                        hosts=len(settings.hosts),
                    )
                    fleet = Fleet(context, root, scan_now, tally)
                    logs = LogIndexes(context, root, CacheDirectory(settings.state / "series"))
                    source = Source(context, root, tally, scan_now, reloading.request, logs, config=config)
                    await tasks.start(_answer, source)
                    await tasks.start(fleet.run)
                    source.ready.set()
                    keep_running = context.service_failures.keep_running
                    tasks.start_soon(keep_running, "reports", partial(_keep_reports, context, root))
                    tasks.start_soon(keep_running, "logs", logs.run)
                    tasks.start_soon(keep_running, "memory", partial(trim, tally))
                    tasks.start_soon(keep_running, "collection", partial(collect, tally))
                    tasks.start_soon(keep_running, "records", partial(drop_unused, context))
                    tasks.start_soon(keep_running, "release", partial(_keep_releasing, context))
                    tasks.start_soon(keep_running, "alarms", partial(_keep_alarms, context, root, tally))
                    tasks.start_soon(keep_running, "heartbeat", partial(_keep_beating, context, tally))
                    manager.notify(service_manager.READY)
                    ready()
                    tasks.start_soon(keep_running, "configuration", partial(reloading.run, fleet.adopt))
                    tasks.start_soon(keep_running, "jobs", JobWatch(context, scan_now).run)
                    line = partial(_line, context, tally, fleet)
                    await report(manager, line, context.deadlines, context.service_failures)
            listening.cancel_scope.cancel()
    log.info(Event.SERVICE_STOPPED, exit_code=int(ExitCode.OK), duration_seconds=round(time.monotonic() - started, 3))
    return ExitCode.OK


async def _keep_reports(context: Context, root: DataRoot) -> None:
    from harvestd.harvest.experiments.reports import Reports  # noqa: PLC0415  (imported by a thread of `startup.open`)

    await Reports(context, root).run()


async def _keep_releasing(context: Context) -> None:
    await anyio.to_thread.run_sync(import_module, "harvestd.harvest.release.release")
    from harvestd.harvest.release.release import AutoRelease  # noqa: PLC0415  (imported just now)
    from harvestd.harvest.verdict.service import full_verdict  # noqa: PLC0415  (imported by the fleet)

    await AutoRelease(context, full_verdict).run()


async def _keep_alarms(context: Context, root: DataRoot, tally: FleetMetrics) -> None:
    alarms = await anyio.to_thread.run_sync(import_module, "harvestd.notify.alarms")
    await alarms.Alarms(context, root, tally).run()


async def _keep_beating(context: Context, tally: FleetMetrics) -> None:
    heartbeat = await anyio.to_thread.run_sync(import_module, "harvestd.notify.heartbeat")
    await heartbeat.Heartbeat(context, tally).run()


async def _answer(source: Source, *, task_status: TaskStatus[None]) -> None:
    """Serve the API over HTTP until cancelled; counts as started when it listens. Raise `Fatal` if it can't."""
    api = source.context.settings.api
    if not (api.socket or api.listen):
        task_status.started()
        return
    # This import takes 0.05 s, for which the event loop must not wait; only a daemon needs it.
    serving = await anyio.to_thread.run_sync(import_module, "harvestd.api.serving")
    page = await anyio.to_thread.run_sync(_page, source) if api.listen else None
    async with serving.served(source, page):
        task_status.started()
        await anyio.sleep_forever()


def _page(source: Source) -> "Page | None":
    """Return the page; None where jinja2 is not installed. Takes a tenth of a second."""
    if find_spec("jinja2") is None:
        return None
    from harvestd.page.site import Site  # noqa: PLC0415  (only a daemon that listens on loopback needs it)

    return Site(source)


def _line(context: Context, tally: FleetMetrics, fleet: Fleet) -> str:
    line = tally.line(fleet.size)
    return f"paused: nothing is fetched; {line}" if context.fleet.is_paused else line


async def _ask_for_time(manager: ServiceManager, opening: anyio.CancelScope) -> None:
    """Ask the service manager for more time to start until `opening` is cancelled.

    Opening can take long: a command may hold the data root, and what the last process left unfinished is settled first.
    """
    with opening:
        while manager.listens:
            line = "starts: opens the data root, or waits for a command that holds it"
            manager.notify(service_manager.more_time(_TIMEOUT), service_manager.status(line))
            await anyio.sleep(_BEAT)


async def report(manager: ServiceManager, line: Callable[[], str], deadlines: Deadlines, failures: Bulkhead) -> None:
    """Report tasks that are past their deadline, and feed the service manager's watchdog while there are none.

    Without a service manager they are still reported as events. An outage of all hosts is no reason for a restart.
    """
    half = manager.watchdog.total_seconds() / 2 if manager.watchdog else _BEAT
    reported = ""
    while True:
        stuck = deadlines.overdue()
        if stuck and stuck != reported:
            get_logger().error(Event.SERVICE_STUCK, what=stuck)
        reported = stuck
        if stuck:
            manager.notify(service_manager.status(f"stuck, past its deadline: {stuck}"))
        elif manager.listens:
            messages = [service_manager.ALIVE] if manager.watchdog else []
            with failures.containing("service manager"):
                messages.append(service_manager.status(line()))
            manager.notify(*messages)
        await anyio.sleep(min(half, _BEAT))


async def _obey_signals(
    working: anyio.CancelScope,
    manager: ServiceManager,
    answers: Mapping[int, Callable[[], None]],
    *,
    task_status: TaskStatus[None],
) -> None:
    stopping = False
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *map(signal.Signals, answers)) as signals:
        task_status.started()
        async for number in signals:
            if number in answers:
                answers[number]()
            elif stopping:
                os._exit(_KILLED_BY + number)
            else:
                stopping = True
                manager.notify(service_manager.STOPPING)
                get_logger().info(Event.SERVICE_STOPPING, reason=signal.Signals(number).name)
                working.cancel()
