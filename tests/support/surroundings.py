"""What lies around a data root, seen before and after: nothing that a box sends may change any of it."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.house import Workstation
from support.lying import log_in_key

_OTHERS = frozenset({"sshd.log", "harvestd.toml", "output"})
"""What servers and the test itself write meanwhile."""
_FAR = tuple(map(Path, ("/etc", "/etc/passwd", "/etc/shadow", "/etc/hosts", "/dev", "/dev/null", "/")))
"""Where links and names of a box may lead."""


def surroundings(directory: Path, data: Path) -> dict[str, tuple[object, ...]]:
    """Return everything below `directory` but the inside of `data`: inode, mode, owner, size, time and content."""
    found = {str(path): _seen(path, far=True) for path in _FAR if path.exists()}
    for place, folders, files in os.walk(directory):
        here = Path(place)
        found[place] = _seen(here)
        if here == data:
            folders.clear()
            found[place] = ()
            continue
        for name in files:
            if name not in _OTHERS:
                found[str(here / name)] = _seen(here / name)
    return found


def _seen(path: Path, *, far: bool = False) -> tuple[object, ...]:
    s = path.lstat()
    seen: tuple[object, ...] = (s.st_ino, s.st_mode, s.st_uid, s.st_gid)
    if far and not stat.S_ISREG(s.st_mode):
        return seen
    content = stat.S_ISREG(s.st_mode) and not far and s.st_blocks * 512 >= s.st_size
    return (*seen, s.st_mtime_ns, s.st_size, hashlib.sha256(path.read_bytes()).hexdigest() if content else "")


@contextmanager
def untouched(workstation: Workstation) -> Iterator[None]:
    """Fail if the body changes anything in the directory that holds the data root, the data root's inside apart."""
    data = workstation.data
    directory = data.parent
    data.mkdir(exist_ok=True)
    log_in_key(workstation)
    workstation.settings()
    data.with_name("passwd").write_text("nobody writes here\n")
    before = surroundings(directory, data)
    yield
    after = surroundings(directory, data)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert not changed, sorted(changed)[:20]
    foreign = [path for path in data.rglob("*") if not _is_ours(path, data)]
    assert not foreign, foreign[:20]


def _is_ours(path: Path, data: Path) -> bool:
    """Return whether something in the data root is of a kind that harvestd makes, with modes of its own choice."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return path.resolve().is_relative_to(data.resolve())
    if stat.S_ISDIR(mode):
        return not mode & (stat.S_ISUID | stat.S_ISVTX | stat.S_IWOTH)
    return stat.S_ISREG(mode) and not mode & 0o7133
