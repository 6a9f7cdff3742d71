"""When memory is freed that nothing needs any more."""

import ctypes
import gc
import re
import subprocess
import sys

import anyio
import anyio.lowlevel
import pytest

from harvestd.harvest import memory
from harvestd.harvest.metrics import FleetMetrics
from support.waiting import until

pytestmark = pytest.mark.anyio


class Cycle:
    """An object that only the collector of cycles frees."""

    freed = 0

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        Cycle.freed += 1


async def test_closed_connections_are_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that lasted for so long that the automatic collector does not look at them any more."""
    monkeypatch.setattr(memory, "COLLECTING", 0.01)
    tally = FleetMetrics()
    Cycle.freed = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(memory.collect, tally)
        await anyio.lowlevel.checkpoint()
        held = Cycle()
        gc.collect()
        del held
        assert Cycle.freed == 0
        tally.set_state("gpu-a", "connected")
        tally.set_state("gpu-a", "lost")
        await until(lambda: Cycle.freed == 1)
        tasks.cancel_scope.cancel()


def test_connections_that_end_are_counted() -> None:
    """A host that could not be reached had none."""
    tally = FleetMetrics()
    for state in ("connecting", "lost", "connecting", "connected", "lost", "connecting", "lost"):
        tally.set_state("gpu-a", state)
    assert tally.ended == 1


_THREADS = """
import ctypes, threading
from harvestd.harvest.memory import share_arenas
share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
ready = threading.Barrier(5)
def allocate():
    libc.malloc(1000)
    ready.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
ready.wait()
libc.malloc_stats()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="the C library is not glibc")
def test_threads_share_the_heap_of_the_process() -> None:
    """Each of them would keep what a burst of files left in a heap of its own."""
    ran = subprocess.run([sys.executable, "-c", _THREADS], capture_output=True, text=True, check=True)
    assert re.findall("^Arena .*", ran.stderr, re.MULTILINE) == ["Arena 0:"]
