"""The analysis scripts of an experiment: copies beside its results, and the pictures that they draw.

A copy's last line holds the hash of the content above it. While that matches the copy is harvestd's, of any version,
and a newer one replaces it. Once a person changed anything, that line included, the copy is theirs and is kept. So no
list of earlier versions is needed, and a lost catalogue loses nothing.

Pictures are drawn where matplotlib is installed. A script runs as a separate process, at the lowest priority, with
limits on its time and memory, without the secrets of this process's environment. It reads the experiment and writes
into a private directory, from which its results are published. Only fresh copies of the shipped scripts are run, never
a file below the data root. Cancelling ends the process and all its children.
"""

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import Process

from harvestd.convention.paths import ANALYSIS, LocalPath
from harvestd.convention.structs import Immutable
from harvestd.errors import Retry
from harvestd.store import workshop
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.remove import write_inside
from harvestd.store.root import DataRoot
from harvestd.telemetry.sanitize import escaped

SOURCE: Final = files("harvestd.report") / "scripts"
"""The directory of the scripts that are shipped with harvestd."""
_SHARED: Final = files("harvestd.convention")
SHARED_NAMES: Final = ("eval_names.py", "log_rows.py")
"""Modules that the scripts share with the planner; they need nothing but Python."""
_SIBLING: Final = re.compile(rb"^from harvestd\.(?:report\.scripts|convention)\.(\w+) import", re.MULTILINE)
"""Matches the import of a module that is a sibling of the copied script."""
_LIMIT: Final = 4 << 20
_SEAL: Final = re.compile(rb"# as harvestd wrote it; whoever edits it keeps it: ([0-9a-f]{64})\n\Z")
_MAIN: Final = b'if __name__ == "__main__":'


class Placed(Immutable):
    """The state of an experiment's scripts."""

    edited: frozenset[str] = frozenset()
    """Names of those that a person changed."""
    written: tuple[str, ...] = ()
    """Names of those that were written or replaced."""


def scripts() -> Mapping[str, bytes]:
    """Return the files to copy, by name: each script and the shared modules, with imports of each other as siblings."""
    own = [each for each in SOURCE.iterdir() if each.name.endswith(".py") and each.name != "__init__.py"]
    found = {each.name: each.read_bytes() for each in own}
    found |= {name: (_SHARED / name).read_bytes() for name in SHARED_NAMES}
    return {name: _SIBLING.sub(rb"from \1 import", found[name]) for name in sorted(found)}


def startable(given: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the names of the scripts that a person can start; the others are modules that these share."""
    return tuple(name for name, content in given.items() if _MAIN in content)


def mark(given: Mapping[str, bytes]) -> str:
    """Return a hash of all scripts."""
    return hashlib.sha256(b"\0".join(part for name in given for part in (name.encode(), given[name]))).hexdigest()


def sealed(content: bytes) -> bytes:
    """Return a script in the form in which it is copied."""
    whole = content if content.endswith(b"\n") else content + b"\n"
    return whole + f"# as harvestd wrote it; whoever edits it keeps it: {hashlib.sha256(whole).hexdigest()}\n".encode()


def is_ours(content: bytes) -> bool:
    """Return whether a copy is unchanged since some version of harvestd wrote it."""
    seal = _SEAL.search(content)
    return seal is not None and hashlib.sha256(content[: seal.start()]).hexdigest().encode() == seal[1]


def place(root: DataRoot, directory: LocalPath, given: Mapping[str, bytes]) -> Placed:
    """Update the copies in `analysis/` to `given`; blocks.

    While a shared module is edited, all present files are kept: the module was written for the files beside it, and
    later ones may use other names.

    Raise FileNotFoundError where the experiment's directory is gone, `Conflict`, `Refused`, `DiskFull` and
    `HaltedForSafety`.
    """
    there = {name: _content_of(root, directory.child(ANALYSIS, name)) for name in given}
    edited = frozenset(name for name, found in there.items() if found is not None and not is_ours(found))
    stays = bool(edited.difference(startable(given)))
    written: list[str] = []
    for name, content in given.items():
        copy, found = sealed(content), there[name]
        if found is None or (name not in edited and found != copy and not stays):
            write_inside(root, directory, (ANALYSIS, name), copy)
            written.append(name)
    return Placed(edited, tuple(written))


def _content_of(root: DataRoot, path: LocalPath) -> bytes | None:
    """Return the content of the path, None where there is none; an unreadable file counts as a person's."""
    try:
        return root.read(path, _LIMIT)
    except FileNotFoundError:
        return None
    except (Conflict, Refused, Damaged):
        return b""


DEADLINE: Final = 120.0
"""Seconds for one script."""
_CPU_SECONDS: Final = 60
"""Of processor time for one script."""
_LONGEST_OUTPUT: Final = 2_000
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
    copied: Path | None = None
    try:
        copied = await anyio.to_thread.run_sync(workshop.set_up)
        await anyio.to_thread.run_sync(workshop.fill, copied, scripts())
        failed: dict[str, str] = {}
        late = False
        for name in names:
            try:
                error = await _run(copied / name, experiment, output, cache)
            except _Late as e:
                error, late = str(e), True
            if error is not None:
                failed[name] = error
        return Drawn(await anyio.to_thread.run_sync(workshop.made_in, output, ".png"), failed, late)
    finally:
        with anyio.CancelScope(shield=True):
            for directory in filter(None, (output, copied)):
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
    ending = ""
    try:
        with anyio.move_on_after(DEADLINE) as timeout:
            ending = await _read_output(process)
            await process.wait()
    finally:
        await _end(process)
    if timeout.cancelled_caught:
        raise _Late(f"it was not done after {DEADLINE:g} s: this machine is busy, or the experiment is very large")
    if process.returncode == -signal.SIGXCPU:
        return f"it needs more than {_CPU_SECONDS} s of processor time: the experiment is very large"
    if process.returncode:
        return f"it ended with {process.returncode}: {ending or 'no word'}"
    return None


async def _read_output(process: Process) -> str:
    """Read all output of a process, and return its end on one line."""
    end = b""
    if process.stdout is not None:
        async for piece in process.stdout:
            end = (end + piece)[-_LONGEST_OUTPUT:]
    return escaped(end.decode("utf-8", "replace").strip())


async def _end(process: Process) -> None:
    """Kill what is left of the process's group, and wait for it."""
    with anyio.CancelScope(shield=True):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.aclose()
