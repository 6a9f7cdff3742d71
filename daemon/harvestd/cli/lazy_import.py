"""Import a command's own file, and the libraries that it needs; no other module does.

A command's libraries define a thousand classes, and some of their work at import is expensive and not used here. It is
avoided during the import by documented means of Python, and enabled again afterwards:

- structlog imports rich for tracebacks that are not used, and asyncssh what it needs for X.509 certificates, which
  OpenSSH does not accept. A module that is None in `sys.modules` counts as not installed; both libraries support that.
- asyncssh searches two C libraries that few machines have, and `ctypes.util.find_library` starts a compiler and a
  linker up to ten times for that. The linker's cache gives the same answer at once.
- The collector of cycles repeatedly searches everything that was imported, and finds nothing (`cycles`).

No module may import rich at the top of a file.
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
    """Import a module with everything that it needs, without the rest."""
    with ExitStack() as stack:
        stack.enter_context(uncollected())
        for needless in _NEEDLESS:
            stack.enter_context(_without(needless))
        stack.enter_context(asking_the_cache(_LINKER_CACHE))
        return import_module(module)


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Make a module that was not imported yet appear as not installed."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # documented, but missing in the table's type
    try:
        yield
    finally:
        del sys.modules[module]


@contextmanager
def asking_the_cache(cache: Path) -> Iterator[None]:
    """Make `find_library` read the linker's cache; without a cache (musl) it stays unchanged."""
    try:
        content = cache.read_bytes()
    except OSError:
        yield
        return
    usual = ctypes.util.find_library
    ctypes.util.find_library = lambda name: in_cache(content, name)
    try:
        yield
    finally:
        ctypes.util.find_library = usual


def in_cache(content: bytes, name: str) -> str | None:
    """Return the file name of a shared library that the linker lists and can load; None: there is none."""
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
