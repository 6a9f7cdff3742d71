"""Named points in write operations at which a test may stop the process, or change the data root or the catalogue.

A point without a hook costs one lookup in an empty dict. The product never sets a hook. Tests do, to prove that a crash
at each point leaves whole files and that a second run converges.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

POINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "publish.started": "nothing was done yet; every temporary is written",
        "publish.staged_synced": "all temporaries are on disk, none has moved",
        "publish.directory_made": "the directory of one file exists, the file does not",
        "publish.compared": "the version that stands at the path is the expected one, and is still there",
        "publish.version_kept": "the version to replace also stands, synced, below versions/",
        "publish.renamed": "one file stands at its path, its directory is not synced",
        "publish.renamed_all": "every file stands at its path, no directory is synced",
        "publish.directories_synced": "everything is on disk; the caller was not told",
        "rename.linked": "where rename can't refuse to replace: the file has both names",
        "growing.appended": "bytes were appended, not synced",
        "growing.synced": "appended bytes are on disk; the caller was not told",
        "growing.kept": "a growing file with bytes that no journal knows also stands, synced, below versions/, uncut",
        "growing.recorded": "the catalogue knows the appended bytes; nothing else has been informed",
        "anew.kept": "a growing file to begin anew also stands, synced, below versions/",
        "anew.begun": "an empty file stands in its place; its directory is not synced, the catalogue was not told",
        "move.renamed": "what was filed has its new path, no directory is synced",
        "move.synced": "the new path is on disk; kept versions have not followed, the catalogue was not told",
        "refile.intended": "the catalogue knows which files are about to move; all of them are where they were",
        "experiment.intended": "the catalogue knows which directory is about to be renamed; it is not",
        "experiment.moved": "a directory has its new name; the catalogue and its manifest say the old one",
        "link.made": "a link stands; the catalogue was not told",
        "remove.given_up": "the catalogue gave up files that are to be removed; all of them stand",
        "remove.unlinked": "one of them is gone, its directory is not synced",
        "remove.emptied": "all are gone, their directories too; the catalogue still remembers that it was to be so",
        "own.staged": "the new content of a file of our own is on disk, without a name",
        "own.renamed": "a file of our own was replaced, its directory is not synced",
        "transfer.synced": "a part of a large file is on disk, not journalled",
        "transfer.journalled": "the journal knows that part",
        "catalogue.changed": "the statements of a transaction were made, none is on disk",
        "catalogue.committed": "a transaction is on disk; who asked for it was not told",
        "rebuild.read": "manifests and files of a lost catalogue were read back; nothing of them is recorded",
        "recovery.settled": "what stood of the last process's intents is recorded, its temporaries are still there",
        "recovery.cleaned": "temporaries without a journal are gone, journals without a temporary are not",
    }
)
"""The name of every point, and what is true when it is reached."""

_hooks: dict[str, Callable[[], None]] = {}


def reach(name: str) -> None:
    """Run the hook of the point called `name`, if it has one."""
    hook = _hooks.get(name)
    if hook is not None:
        hook()


@contextmanager
def armed(name: str, hook: Callable[[], None]) -> Iterator[None]:
    """Call `hook` whenever the point `name` is reached within the body.

    Raise `KeyError` for a name that is not in `POINTS`.
    """
    POINTS[name]
    _hooks[name] = hook
    try:
        yield
    finally:
        del _hooks[name]
