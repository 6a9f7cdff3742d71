"""Exceptions in the awaits of one host's tasks, one after the other, each at a place in the code where none was before.

`Raising` makes the tasks of an event loop: those that descend from a host's watcher are driven step by step, and where
one of them is about to wait, it may get an exception in place of what it waits for. What a worker thread does, or
asyncssh, is waited for first, as in life: nothing is rid of a thread that still writes. There is no second exception
before the first one was reported.
"""

import asyncio
import gc
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from pathlib import Path
from types import AsyncGeneratorType, FrameType
from typing import Any, cast

import pytest

from harvestd.bulkhead import Bulkhead
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.harvest.fleet.supervisor import HostSupervisor

_OURS = "/harvestd/"
_DEPTH = 4
"""Lines of ours by which a place is known: the one that waits, and those that wait for it."""
_ATOMIC = frozenset({"acquire", "acquire_on_behalf_of", "__aexit__", "start"})
"""Of anyio's locks, limiters and task groups: nothing but a cancellation is ever raised in there by itself. They would
stay taken, or leave tasks that nobody waits for."""


class Injected(Exception):
    """What nobody expects; its text is the place in the code."""


class Raising:
    """The task factory of a loop; what it raised, and what of that was reported."""

    def __init__(self) -> None:
        self.subject: ContextVar[bool] = ContextVar("subject", default=False)
        """Set in the watcher of the host, and inherited by all tasks that it starts."""
        self.told: list[str] = []
        """The places at which an exception was raised that was reported, in order."""
        self.waiting: Injected | None = None
        """The exception that was raised last, as long as it was not reported."""

    def task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any]
    ) -> "asyncio.Task[Any]":
        """Make a task: the factory."""
        return asyncio.Task(_Driven(cast("Coroutine[Any, Any, Any]", coro), self), loop=loop)

    def error_at(self, place: str) -> Injected | None:
        """Return the exception for a place, where it is its turn."""
        if self.waiting is not None or not place or place in self.told or not self.subject.get():
            return None
        self.waiting = Injected(place)
        return self.waiting

    def withdraw(self) -> None:
        """Note that the last exception was not raised: its task is cancelled."""
        self.waiting = None

    def hear(self, error: BaseException) -> None:
        """Note what was reported."""
        if self.waiting is not None and any(each is self.waiting for each in _all_in(error)):
            self.told.append(str(self.waiting))
            self.waiting = None


def raise_in_tasks_of(host: str, monkeypatch: pytest.MonkeyPatch) -> Raising:
    """Raise in the tasks of one host, and in nothing else, once the loop has `Raising.task` as its task factory."""
    made = Raising()
    watch, report = HostSupervisor.run, Bulkhead.report

    async def watched(self: HostSupervisor) -> None:
        made.subject.set(self._host.name == host)
        await watch(self)

    def heard(self: Bulkhead, subject: str, error: Exception, **fields: object) -> None:
        made.hear(error)
        report(self, subject, error, **fields)

    monkeypatch.setattr(HostSupervisor, "run", watched)
    monkeypatch.setattr(Bulkhead, "report", heard)
    monkeypatch.setattr("harvestd.harvest.fleet.supervisor.FIRST_PAUSE", 0.02)
    monkeypatch.setattr("harvestd.harvest.fleet.supervisor.LONGEST_PAUSE", 0.05)
    return made


def fresh_run(root: Path, number: int) -> RunWriter:
    """Write a run with an eval; return what writes more of it.

    What is discovered, what grows and what is complete are different ways through the code.
    """
    writer = RunWriter(root, RunSpec(timestamp=f"2025-08-21_03-{number // 60:02}-{number % 60:02}"))
    writer.start()
    writer.log_until(2)
    evals = evals_of_run(root, EvalSpec(writer.run, questions=2))
    evals.write_config()
    evals.evaluate(10)
    return writer


class _Driven(Coroutine[Any, Any, Any]):
    """A coroutine that is looked at whenever it waits."""

    def __init__(self, coro: Coroutine[Any, Any, Any], raising: Raising) -> None:
        self._coro = coro
        self._raising = raising
        self._due: Injected | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._coro, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError  # asyncio drives a task's coroutine by send and throw alone

    def send(self, value: object) -> object:
        """Go on, or raise what is due."""
        if self._due is not None:
            error, self._due = self._due, None
            return self._looked_at(self._coro.throw(error))
        return self._looked_at(self._coro.send(value))

    def throw(self, *error: Any) -> object:  # noqa: ANN401  (as a coroutine has it)
        """Raise what is thrown in, most of all a cancellation."""
        if self._due is not None:
            self._due = None
            self._raising.withdraw()
        return self._looked_at(self._coro.throw(*error))

    def close(self) -> None:
        """End."""
        self._coro.close()

    def _looked_at(self, waits_for: object) -> object:
        """Return what the coroutine waits for, or what it waits for after it was raised in."""
        place, is_begun = _place(self._coro)
        error = self._raising.error_at(place)
        if error is None:
            return waits_for
        if is_begun:
            self._due = error
            return waits_for
        return self._looked_at(self._coro.throw(error))


def _place(coro: object) -> tuple[str, bool]:
    """Return where a suspended coroutine waits, by the innermost lines of ours; empty: nothing may be raised there.

    Also whether it waits for something that is under way elsewhere, and must come to its end first.
    """
    places: list[str] = []
    is_begun = False
    awaited: object = coro
    while awaited is not None:
        frame, awaited = _step(awaited)
        if frame is not None:
            file, function = frame.f_code.co_filename, frame.f_code.co_name
            if _OURS in file:
                places.append(f"{file.rpartition(_OURS)[2]}:{frame.f_lineno}")
            if "/anyio/" in file and function in _ATOMIC:
                return "", False
            is_begun = is_begun or function == "run_sync_in_worker_thread" or "/asyncssh/" in file
    return " ".join(reversed(places[-_DEPTH:])), is_begun


def _step(awaited: Any) -> tuple[FrameType | None, object]:  # noqa: ANN401  (whatever can be awaited)
    if isinstance(awaited, AsyncGeneratorType):
        return awaited.ag_frame, awaited.ag_await
    if hasattr(awaited, "cr_frame"):
        return awaited.cr_frame, awaited.cr_await
    if hasattr(awaited, "gi_frame"):
        return awaited.gi_frame, awaited.gi_yieldfrom
    # What waits for the next value of an asynchronous generator does not say which; the garbage collector knows.
    if not type(awaited).__name__.startswith("async_generator"):
        return None, None
    return None, next((each for each in gc.get_referents(awaited) if isinstance(each, AsyncGeneratorType)), None)


def _all_in(error: BaseException) -> list[BaseException]:
    """Return an error with all that it holds, or comes from."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or any(each is one for one in found):
            continue
        found.append(each)
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions
    return found
