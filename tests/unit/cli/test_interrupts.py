"""Ctrl-C in a command that waits: it ends, whatever becomes of a single cancellation."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import anyio
import pytest

from harvestd.cli.errors import run_interruptible

HANGING = """
import os, signal, anyio
from harvestd.cli.errors import run_interruptible

async def hang():
    with anyio.CancelScope(shield=True):
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep(0)
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep_forever()

run_interruptible(hang)
"""


async def lose_one_cancellation() -> None:
    """Interrupt this process, and go on after the first cancellation."""
    os.kill(os.getpid(), signal.SIGINT)
    with suppress(anyio.get_cancelled_exc_class()):
        await anyio.sleep_forever()
    await anyio.sleep_forever()


def test_a_lost_cancellation_does_not_lose_the_interrupt() -> None:
    """A library may swallow one cancellation; the command ends all the same."""
    with pytest.raises(KeyboardInterrupt):
        run_interruptible(lose_one_cancellation)


def test_a_second_interrupt_ends_what_cannot_be_cancelled() -> None:
    """Work that waits under a shield ends at the second Ctrl-C."""
    ended = subprocess.run([sys.executable, "-c", HANGING], check=False, timeout=60)
    assert ended.returncode == 130


def test_errors_leave_as_they_are() -> None:
    """No group of exceptions is added to what the work raises."""

    async def fail() -> None:
        raise LookupError("nothing")

    with pytest.raises(LookupError, match="nothing"):
        run_interruptible(fail)
