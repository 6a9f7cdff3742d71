"""The analysis scripts of an experiment: copies of ours, each telling by itself whether a person edited it.

A copy's last line holds the hash of what stands above it. While that is true the copy is ours, of whatever version, and
a newer one replaces it; once a person changed anything, that line included, it is theirs and stays. So no list of
earlier versions is kept, and a lost catalogue loses nothing.
"""

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from harvestd.convention.paths import LocalPath
from harvestd.convention.report_files import ANALYSIS
from harvestd.convention.structs import Immutable
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.ops.replace import write_inside
from harvestd.store.root import DataRoot

SOURCE: Final = files("harvestd.report") / "scripts"
"""Where the scripts lie that harvestd brought with it."""
_SHARED: Final = files("harvestd.convention")
SHARED_NAMES: Final = ("eval_names.py", "log_rows.py")
"""What the scripts share with the planner: modules that need nothing but Python."""
_SIBLING: Final = re.compile(rb"^from harvestd\.(?:report\.scripts|convention)\.(\w+) import", re.MULTILINE)
"""How a module here names one that stands beside it in the copy."""
_LIMIT: Final = 4 << 20
_SEAL: Final = re.compile(rb"# as harvestd wrote it; whoever edits it keeps it: ([0-9a-f]{64})\n\Z")
_MAIN: Final = b'if __name__ == "__main__":'


class Placed(Immutable):
    """How the scripts of an experiment stand."""

    edited: frozenset[str] = frozenset()
    """Names of those that a person changed."""
    written: tuple[str, ...] = ()
    """Names of those that were put there, or replaced."""


def scripts() -> Mapping[str, bytes]:
    """Return what is copied, by name: each script and the modules that they share, naming each other as siblings."""
    own = [each for each in SOURCE.iterdir() if each.name.endswith(".py") and each.name != "__init__.py"]
    found = {each.name: each.read_bytes() for each in own}
    found |= {name: (_SHARED / name).read_bytes() for name in SHARED_NAMES}
    return {name: _SIBLING.sub(rb"from \1 import", found[name]) for name in sorted(found)}


def startable(given: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the names of those that a person starts; the others are modules that these share."""
    return tuple(name for name, content in given.items() if _MAIN in content)


def mark(given: Mapping[str, bytes]) -> str:
    """Return a hash of all scripts."""
    return hashlib.sha256(b"\0".join(part for name in given for part in (name.encode(), given[name]))).hexdigest()


def sealed(content: bytes) -> bytes:
    """Return a script as it is copied."""
    whole = content if content.endswith(b"\n") else content + b"\n"
    return whole + f"# as harvestd wrote it; whoever edits it keeps it: {hashlib.sha256(whole).hexdigest()}\n".encode()


def is_ours(content: bytes) -> bool:
    """Return whether a copy is as some version of harvestd wrote it."""
    seal = _SEAL.search(content)
    return seal is not None and hashlib.sha256(content[: seal.start()]).hexdigest().encode() == seal[1]


def place(root: DataRoot, directory: LocalPath, given: Mapping[str, bytes]) -> Placed:
    """Bring the copies in `analysis/` to what is `given`; blocks.

    While a module that the scripts share is edited, what stands there stays: it was written for those beside it, and
    later ones may have other names.

    Raises FileNotFoundError where the experiment's directory is gone, `Conflict`, `Refused`, `DiskFull` and
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
    """Return what stands at the path, None for nothing; what can't be read there is somebody's, and not empty."""
    try:
        return root.read(path, _LIMIT)
    except FileNotFoundError:
        return None
    except (Conflict, Refused, Damaged):
        return b""
