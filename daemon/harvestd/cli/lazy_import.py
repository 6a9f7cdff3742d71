"""The one door through which a command's own file is imported, with the libraries behind it.

What a command needs is a thousand classes of other people, and some things there cost as much time as they are of no
use to us. They are kept away while the import runs, by means that Python documents, and let in again after it:

- structlog imports rich for tracebacks that we don't draw, and asyncssh what it needs for X.509 certificates, which
  OpenSSH does not take. A module that is None in `sys.modules` counts as not installed, which both are made for.
- asyncssh looks for two C libraries that few machines have, and `ctypes.util.find_library` starts a compiler and a
  linker up to ten times to be sure. The linker's cache says the same at once.
- The collector of cycles looks through all that was imported, again and again, and finds nothing (`cycles`).

Nothing of ours may import rich at the top of a file.
"""

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

from harvestd.cycles import uncollected

_NEEDLESS: Final = ("rich", "cryptography.x509")
_LINKER_CACHE: Final = Path("/etc/ld.so.cache")


def imported(module: str) -> ModuleType:
    """Import a module with all that it needs, without what it does not need."""
    with ExitStack() as stack:
        stack.enter_context(uncollected())
        for needless in _NEEDLESS:
            stack.enter_context(_without(needless))
        stack.enter_context(_asking_the_cache(_LINKER_CACHE))
        return import_module(module)


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let a module that was not imported yet look as if it were not installed."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # documented, but the table's type does not know it
    try:
        yield
    finally:
        del sys.modules[module]


@contextmanager
def _asking_the_cache(cache: Path) -> Iterator[None]:
    """Let `find_library` read the linker's cache; where there is none (musl), it stays what it is."""
    try:
        content = cache.read_bytes()
    except OSError:
        yield
        return
    usual = ctypes.util.find_library
    ctypes.util.find_library = lambda name: _in_cache(content, name)
    try:
        yield
    finally:
        ctypes.util.find_library = usual


def _in_cache(content: bytes, name: str) -> str | None:
    """Return the file name of a shared library that the linker knows and can load; None: there is none."""
    # Its texts are paths, each ended by NUL; a library's name is the end of one.
    start = f"/lib{name}.so".encode()
    at = content.find(start)
    while at >= 0:
        library = os.fsdecode(content[at + 1 : content.index(b"\0", at)])
        try:
            ctypes.CDLL(library)
        except OSError:  # of another architecture
            at = content.find(start, at + 1)
        else:
            return library
    return None
