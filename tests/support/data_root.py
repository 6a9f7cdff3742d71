"""Short ways to fill a data root and to see what it holds, for tests of the store."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from harvestd.convention.paths import LocalPath
from harvestd.store.publish import Outcome, Publication, publish
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged

RENAMEAT2 = "harvestd.store.walking.renameat2"
"""What a test sets to None for a file system that can't refuse to replace."""


def staged(root: DataRoot, content: bytes) -> Staged:
    """Return an anonymous temporary that holds `content`."""
    temporary = root.stage()
    temporary.write(content)
    return temporary


def publish_one(root: DataRoot, path: str, content: bytes, replaces: str | None = None) -> Outcome:
    """Publish `content` at `path` and give the outcome."""
    (outcome,) = publish(root, [Publication(staged(root, content), LocalPath.parse(path), replaces)])
    return outcome


def tree(directory: Path) -> dict[str, bytes | str]:
    """Return all files below `directory` but harvestd's own: content, or "-> target" for a link.

    A file that goes while they are read is left out: a daemon may be at work.
    """
    found: dict[str, bytes | str] = {}
    for place, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if name != ".harvestd"]
        for name in files + [name for name in directories if (Path(place) / name).is_symlink()]:
            path = Path(place) / name
            key = str(path.relative_to(directory))
            with suppress(FileNotFoundError):
                found[key] = f"-> {path.readlink()}" if path.is_symlink() else path.read_bytes()
    return found


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory, sorted."""
    return sorted(path.name for path in directory.iterdir())


def temporaries(directory: Path) -> list[str]:
    """Return the names in the staging directory of the data root at `directory`."""
    return names_in(directory / ".harvestd" / "staging")


def descriptors() -> list[str]:
    """Return this process's open file descriptors."""
    return names_in(Path("/proc/self/fd"))


def watch_syncs(monkeypatch: pytest.MonkeyPatch, directory: Path) -> list[str]:
    """Return a list that fills with what is fsynced from now on, as paths below `directory` that start with a slash."""
    synced: list[str] = []
    real = os.fsync

    def watched(file: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{file}").readlink()).removeprefix(str(directory)))
        real(file)

    monkeypatch.setattr(os, "fsync", watched)
    return synced
