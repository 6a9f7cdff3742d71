"""Create the pictures in `analysis/` by running harvestd's scripts, one at a time, where matplotlib is installed.

A script runs as a separate process, at the lowest priority, with limits on its time and memory, without the secrets of
this process's environment. It reads the experiment and writes into a private directory, from which its results are
published. Only fresh copies of the shipped scripts are run, never a file below the data root. Cancelling ends the
process and all its children.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import Process

from harvestd.convention.structs import Immutable
from harvestd.errors import Retry
from harvestd.report import copies
from harvestd.store import workshop
from harvestd.telemetry.sanitize import escaped

DEADLINE: Final = 120.0
"""Seconds for one script."""
_CPU_SECONDS: Final = 60
"""Of processor time for one script."""
_TOLD: Final = 2_000
"""Characters of a script's output that are kept, from its end."""
_KEPT: Final = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
)
_QUIET: Final = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_LAUNCH: Final = """
import ctypes, os, resource, runpy, signal, sys
os.nice(19)
resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nobody would wait for the picture any more
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
""".replace("CPU_SECONDS", str(_CPU_SECONDS))


class _Late(Exception):
    """A script did not finish in time."""


class Drawn(Immutable):
    """The results of running the scripts."""

    pictures: Mapping[str, bytes]
    failed: Mapping[str, str]
    """By the script's name: its output, or that it took too long."""
    late: bool = False
    """Whether one of them did not finish in time: this machine may be less busy another time."""


def cache_in(state_dir: Path) -> Path:
    """Return the directory of matplotlib's cache: the home directory of a service's account is often not writable."""
    return state_dir / "matplotlib"


def can_draw() -> bool:
    """Return whether matplotlib is installed for this Python; it is not imported."""
    return find_spec("matplotlib") is not None


async def draw(experiment: Path, names: tuple[str, ...], cache: Path) -> Drawn:
    """Run these scripts on the experiment in a directory, one after the other; nothing is changed there.

    `cache` is a directory, created where it is missing, for matplotlib's list of fonts: creating that list takes longer
    than drawing. Raise `Retry` where there is no space for a process or for its results.
    """
    output = await anyio.to_thread.run_sync(workshop.set_up)
    scripts: Path | None = None
    try:
        scripts = await anyio.to_thread.run_sync(workshop.set_up)
        await anyio.to_thread.run_sync(workshop.fill, scripts, copies.scripts())
        failed: dict[str, str] = {}
        late = False
        for name in names:
            try:
                said = await _run(scripts / name, experiment, output, cache)
            except _Late as e:
                said, late = str(e), True
            if said is not None:
                failed[name] = said
        return Drawn(await anyio.to_thread.run_sync(workshop.made_in, output, ".png"), failed, late)
    finally:
        with anyio.CancelScope(shield=True):
            for directory in filter(None, (output, scripts)):
                await anyio.to_thread.run_sync(workshop.clear_away, directory)


async def _run(script: Path, experiment: Path, output: Path, cache: Path) -> str | None:
    """Run one script; return the failure, None where there is none. Raise `_Late`."""
    command = [sys.executable, "-I", "-B", "-c", _LAUNCH, str(script), str(experiment), "--output", str(output)]
    kept = {name: text for name, text in os.environ.items() if name in _KEPT}
    try:
        process = await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            cwd=output,
            env={"MPLCONFIGDIR": str(cache), **kept, **_QUIET},
            start_new_session=True,
        )
    except OSError as error:
        raise Retry(f"can't start Python: {error.strerror}") from error
    said = ""
    try:
        with anyio.move_on_after(DEADLINE) as patience:
            said = await _said(process)
            await process.wait()
    finally:
        await _end(process)
    if patience.cancelled_caught:
        raise _Late(f"it was not done after {DEADLINE:g} s: this machine is busy, or the experiment is very large")
    if process.returncode == -signal.SIGXCPU:
        return f"it needs more than {_CPU_SECONDS} s of processor time: the experiment is very large"
    if process.returncode:
        return f"it ended with {process.returncode}: {said or 'no word'}"
    return None


async def _said(process: Process) -> str:
    """Read all output of a process, and return its end on one line."""
    end = b""
    if process.stdout is not None:
        async for piece in process.stdout:
            end = (end + piece)[-_TOLD:]
    return escaped(end.decode("utf-8", "replace").strip())


async def _end(process: Process) -> None:
    """Kill what is left of the process's group, and wait for it."""
    with anyio.CancelScope(shield=True):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.aclose()
