"""What can go wrong on the local disk, as one class for each decision, and the way from `OSError` to them.

`errors.py` has the decisions that end or pause work; the three here concern one file and are answered on the spot:
`Conflict` (a person's file is in the way: leave it), `Refused` (this file can't be kept here: say why) and `Damaged`
(what is here is not what was recorded: start a new version). No other module of the store reads an errno for meaning,
apart from the fallbacks of `renaming` and `versions`.
"""

import errno
from types import TracebackType
from typing import Final

from harvestd.convention.paths import LocalPath
from harvestd.errors import DiskFull, HaltedForSafety, HarvestError, Retry


class Conflict(HarvestError):
    """Something that harvestd did not file stands at the path, or a link or a file stands in for a directory."""


class Refused(HarvestError):
    """The file system or its permissions don't allow a file of this name at this place."""


class Damaged(HarvestError):
    """A file of ours is not what was recorded: too short, altered, or unreadable as what it should be."""


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_IN_THE_WAY: Final = frozenset(
    {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENXIO, errno.ETXTBSY}
)
_REFUSED: Final = frozenset(
    {
        errno.ENAMETOOLONG,
        errno.EILSEQ,
        errno.EINVAL,
        errno.EACCES,
        errno.EPERM,
        errno.EXDEV,
        errno.EFBIG,
        errno.EMLINK,
    }
)
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EBUSY})
_OURS: Final = frozenset({errno.EBADF, errno.EFAULT})
"""Only a bug of harvestd gives these; they stay `OSError`, so that nobody takes them for the disk's fault."""


def shown(path: LocalPath | str) -> str:
    """Return `path` for a sentence: as it is where every character is printable, else escaped in quotes."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def _failure(error: OSError, doing: str) -> HarvestError:
    in_the_way = error.errno in {errno.ENOTDIR, errno.ELOOP}
    why = "a link or a file stands where a directory belongs" if in_the_way else error.strerror or str(error)
    sentence = f"{doing}: {why}"
    if error.errno in _FULL:
        return DiskFull(sentence, hint="make room on the data root's file system; fetching goes on by itself")
    if error.errno in _IN_THE_WAY:
        return Conflict(sentence, hint="move what stands there away")
    if error.errno in _REFUSED:
        return Refused(sentence)
    if error.errno in _PASSING:
        return Retry(sentence)
    return HaltedForSafety(sentence, hint="check the disk that holds the data root (dmesg, mount)")


class Translating:
    """What `translating` gives: a context manager without state, which may be used again and by many threads."""

    __slots__ = ("_doing",)

    def __init__(self, doing: LocalPath | str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        """Begin; nothing is needed before the body."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise what an `OSError` of the body means; everything else goes on up as it is."""
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and error.errno not in _OURS:
            raise _failure(error, shown(self._doing)) from error


def translating(doing: LocalPath | str) -> Translating:
    """Turn an `OSError` of the body into the class that says what to do; `doing` starts the sentence.

    `FileNotFoundError` passes through: whether absence is trouble is the caller's to say. A class and no generator,
    because it stands around every call that publishing makes.
    """
    return Translating(doing)
