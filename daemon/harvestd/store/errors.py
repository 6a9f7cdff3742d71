"""Errors of the local disk, one class for each decision, and the conversion of `OSError` to them.

`harvestd.errors` has the errors that end or pause work. The three here concern one file and are handled at once:
`Conflict` (a person's file is in the way: leave it), `Refused` (this file can't be stored here: report why) and
`Damaged` (the file differs from its record: start a new version). No other module of the store interprets an errno,
except the checks of `checks` and the fallbacks of `versions` and `walking`.
"""

import errno
from types import TracebackType
from typing import Final

from harvestd.convention.paths import LocalPath
from harvestd.errors import DiskFull, HaltedForSafety, HarvestError, Retry


class Conflict(HarvestError):
    """Something that harvestd did not publish is at the path, or a link or a file is in place of a directory."""


class Refused(HarvestError):
    """The file system or its permissions don't allow a file of this name at this place."""


class Damaged(HarvestError):
    """One of our files differs from its record: too short, changed, or unreadable in its format."""


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
"""Only a defect of harvestd causes these; they stay `OSError`, so that they are not attributed to the disk."""


def shown(path: LocalPath | str) -> str:
    """Return `path` for a message: unchanged if every character is printable, else quoted and escaped."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def failure(error: OSError, doing: str) -> HarvestError:
    """Return the error of ours for a failed call, by its number; `doing` begins its text."""
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
    """The context manager of `translating`; it has no state and may be reused and shared by threads."""

    __slots__ = ("_doing",)

    def __init__(self, doing: LocalPath | str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise the class for an `OSError` of the body; all other exceptions pass unchanged."""
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and error.errno not in _OURS:
            raise failure(error, shown(self._doing)) from error


def translating(doing: LocalPath | str) -> Translating:
    """Convert an `OSError` of the body to one of the classes above; `doing` is the beginning of the message.

    `FileNotFoundError` passes unchanged: only the caller can decide whether absence is an error. It is a class instead
    of a generator for speed, since every call of publishing uses it.
    """
    return Translating(doing)
