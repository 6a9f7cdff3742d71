"""Handle Ctrl-C in a command that waits for hosts: cancel and clean up its work, then end it."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio

from harvestd.cli.errors import INTERRUPTED

_Result = TypeVar("_Result")


def run_interruptible(work: Callable[..., Awaitable[_Result]], *arguments: object) -> _Result:
    """Run `work` in an event loop and return its result; raise `KeyboardInterrupt` where Ctrl-C cancelled it.

    An event loop cancels its main task once, and a library that swallows this cancellation would run on; a cancel scope
    cancels until the work has ended. A second Ctrl-C ends the process at once.
    """
    ended = anyio.run(_run, partial(work, *arguments))
    if ended is None:
        raise KeyboardInterrupt
    return ended[0]


async def _run(work: Callable[[], Awaitable[_Result]]) -> tuple[_Result] | None:
    working = anyio.CancelScope()

    def cancel() -> None:
        if working.cancel_called:
            os._exit(INTERRUPTED)
        working.cancel()

    if threading.current_thread() is threading.main_thread():  # only the main thread receives signals
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, cancel)
    with working:
        return (await work(),)
    return None
