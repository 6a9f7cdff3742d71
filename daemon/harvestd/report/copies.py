"""The analysis scripts of an experiment: copies of harvestd's, each of which records whether a person edited it.

A copy's last line holds the hash of the content above it. While that matches the copy is harvestd's, of any version,
and a newer one replaces it. Once a person changed anything, that line included, the copy is theirs and is kept. So no
list of earlier versions is needed, and a lost catalogue loses nothing.
"""

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from harvestd.convention.paths import ANALYSIS, LocalPath
from harvestd.convention.structs import Immutable
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.ops.remove import write_inside
from harvestd.store.root import DataRoot

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
    there = {name: _standing(root, directory.child(ANALYSIS, name)) for name in given}
    edited = frozenset(name for name, found in there.items() if found is not None and not is_ours(found))
    stays = bool(edited.difference(startable(given)))
    written: list[str] = []
    for name, content in given.items():
        copy, found = sealed(content), there[name]
        if found is None or (name not in edited and found != copy and not stays):
            write_inside(root, directory, (ANALYSIS, name), copy)
            written.append(name)
    return Placed(edited, tuple(written))


def _standing(root: DataRoot, path: LocalPath) -> bytes | None:
    """Return the content of the path, None where there is none; an unreadable file counts as a person's."""
    try:
        return root.read(path, _LIMIT)
    except FileNotFoundError:
        return None
    except (Conflict, Refused, Damaged):
        return b""
