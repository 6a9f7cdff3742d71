"""Whole passes over a scripted host, each in a process of its own that can die like any other.

One process takes tasks and gives endings, pickled, one after the other. It forks for each: a pass that is killed leaves
what the kernel leaves, and none has to import anything.
"""

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Final
from unittest import mock

import anyio

from harvestd import failpoints
from harvestd.errors import Retry, unwrapped
from harvestd.harvest.host import executor, failures
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.startup import open_context
from harvestd.harvest.transfer import large
from harvestd.harvest.transfer.pool import BulkConnection
from harvestd.inventory.host import Host as Known
from harvestd.settings import load
from harvestd.store import walking
from harvestd.telemetry.log import configure
from support.scripted_box import Change, Host, ScriptedBox

_DEADLINE: Final = 60
"""Seconds that a pass may take; then it is killed, and its ending says so."""


@dataclass(frozen=True)
class Death:
    """When a pass ends before its time, and how."""

    point: str
    turn: int
    """At the named moment's turn-th time."""
    signal: signal.Signals
    """SIGKILL, or SIGTERM for an end in order."""


@dataclass(frozen=True)
class Task:
    """One pass."""

    config: Path
    host: Host
    script: Sequence[tuple[int, Change]] = ()
    death: Death | None = None
    links_only: bool = False
    """Whether the file system can't refuse to replace in one step."""


@dataclass(frozen=True)
class Ending:
    """What became of a pass."""

    made: int
    """How many changes of the script were made."""
    signal: int = 0
    """What killed it."""
    files: int = 0
    failures: tuple[str, ...] = ()
    """What could not be brought home, or not be put in its place."""
    error: str = ""
    """How it ended, where its link broke or it was told to stop."""
    bug: str = ""
    """A traceback, where anything else ended it."""


class Passes:
    """Makes passes, one at a time."""

    def __init__(self, to: IO[bytes], back: IO[bytes]) -> None:
        self._to = to
        self._back = back

    def make(self, task: Task) -> Ending:
        """Make a pass and give its ending."""
        pickle.dump(task, self._to)
        self._to.flush()
        ending: Ending = pickle.load(self._back)  # noqa: S301  (from our own process)
        return ending


@contextmanager
def passes() -> Iterator[Passes]:
    """Provide the process that makes passes, for the body."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", "from support.harvest_process import main; main()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Passes(process.stdin, process.stdout)


async def _pass(task: Task, made: int) -> Ending:
    settings = load(task.config, env={})
    box = ScriptedBox(task.host, task.script, lambda: os.write(made, b"."))

    @asynccontextmanager
    async def line(_bulk: large.LargeFileFetcher, _window: int) -> AsyncIterator[BulkConnection]:
        yield BulkConnection(box, anyio.sleep_forever)

    known = Known("static:gpu-a", "gpu-a", "127.0.0.1", "static", hardware="h100")
    with unwrapped(), mock.patch.object(large.LargeFileFetcher, "_line", line):
        async with open_context(settings, NullListener()) as (context, root):
            await context.catalogue_opened.wait()
            result = await executor.SinglePass(known, context, root, box, await box.facts()).make()
    left = [f"{place}: {trouble}" for place, trouble in {**result.failed, **result.conflicts}.items()]
    return Ending(0, files=result.files, failures=tuple(left))


async def _until_told(task: Task, made: int) -> Ending:
    ending = Ending(0, error="stopped")
    async with anyio.create_task_group() as tasks:

        async def listen() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    tasks.cancel_scope.cancel()

        tasks.start_soon(listen)
        ending = await _pass(task, made)
        tasks.cancel_scope.cancel()
    return ending


def _ending(task: Task, made: int) -> Ending:
    try:
        with unwrapped():
            if task.death is None:
                return anyio.run(_until_told, task, made)
            turns, death = count(1), task.death

            def die() -> None:
                if next(turns) == death.turn:
                    os.kill(os.getpid(), death.signal)

            with failpoints.armed(death.point, die):
                return anyio.run(_until_told, task, made)
    except Retry as error:
        return Ending(0, error=str(error))
    except BaseException:  # noqa: BLE001  (whoever asked for the pass judges)
        return Ending(0, bug=traceback.format_exc())


def _forked(task: Task) -> Ending:
    made, tell_made = os.pipe()
    answer, tell_answer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(_DEADLINE)
        if task.links_only:
            walking.renameat2 = None
        ending = _ending(task, tell_made)
        os.write(tell_answer, pickle.dumps(ending))
        os._exit(0)
    os.close(tell_made)
    os.close(tell_answer)
    with os.fdopen(made, "rb") as told, os.fdopen(answer, "rb") as answered:
        given = answered.read()
        number = len(told.read())
    died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not given:
        return Ending(number, signal=-died)
    found: Ending = pickle.loads(given)  # noqa: S301  (from our own process)
    return Ending(number, 0, found.files, found.failures, found.error, found.bug)


def main() -> None:
    """Serve tasks until there are no more; what is large here is small enough for a test."""
    with (
        os.fdopen(os.dup(1), "wb") as answers,
        mock.patch.object(executor, "SMALL", 1000),
        mock.patch.object(large, "PART", 2000),
        mock.patch.object(failures, "FIRST_PAUSE", 0.01),
    ):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        configure("json", "error")
        while True:
            try:
                task: Task = pickle.load(sys.stdin.buffer)  # noqa: S301  (from our own process)
            except EOFError:
                return
            pickle.dump(_forked(task), answers)
            answers.flush()
