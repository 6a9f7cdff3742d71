"""Parse a path argument: a path below the data root, or one on a host."""

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from harvestd.convention.structs import Immutable

_REMOTE = re.compile(r"(?P<host>[^/:]+):(?P<place>/.*)", re.DOTALL)


class RemotePlace(Immutable):
    """A path on a host."""

    place: str
    """An absolute path."""
    host: str | None = None
    """None: on any host that has it."""

    def __str__(self) -> str:
        return f"{self.host}:{self.place}" if self.host else self.place


class LocalPlace(Immutable):
    """A path below the data root."""

    path: str
    """Relative to it; empty for the data root itself."""
    exists: bool


def place_of(text: str, data_root: Path) -> RemotePlace | LocalPlace:
    """Return the meaning of `text`: `HOST:/PATH`, an absolute path here or on a host, or a relative one.

    A relative path starts in the working directory where that is below the data root, otherwise in the data root
    itself.
    """
    remote = _REMOTE.fullmatch(text)
    if remote:
        return RemotePlace(posixpath.normpath(remote["place"]), remote["host"])
    found = list(_local(text, data_root, (Path.cwd(), data_root)))
    if not found:
        return RemotePlace(posixpath.normpath(text))
    return next((place for place in found if place.exists), found[0])


def local_place(path: str, data_root: Path) -> LocalPlace:
    """Return the place at `path`, which is relative to the data root."""
    return next(_local(path, data_root, (data_root,)))


def _local(text: str, data_root: Path, starts: Iterable[Path]) -> Iterator[LocalPlace]:
    for start in starts:
        path = Path(os.path.normpath(start / text))
        # For a link the link itself is meant, so only its parent is resolved.
        for candidate, root in ((path, data_root), (path.parent.resolve() / path.name, data_root.resolve())):
            if candidate.is_relative_to(root):
                relative = candidate.relative_to(root).as_posix()
                yield LocalPlace("" if relative == "." else relative, os.path.lexists(candidate))
