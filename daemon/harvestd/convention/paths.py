"""Remote and local paths, each valid by construction.

Every name from a host enters the program as part of a `RemotePath`; the store accepts places below the data root only
as `LocalPath`. Both are tuples of single components, so no later code joins or splits strings. Names are `str` decoded
with surrogateescape: any bytes that a Linux host can hold are restored exactly.

The places of an experiment's report: its README and `analysis/`, which harvestd writes and people may add to. No host
can put anything there: no rule of the convention maps a remote path to these places.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Self

MAX_COMPONENT_BYTES = 255
MAX_DEPTH = 64
MAX_PATH_BYTES = 3800
"""Below PATH_MAX (4096), so that the data root and the suffix of a temporary file fit."""

_NO_NAMES = frozenset({"", ".", ".."})
_LONGEST_CHARACTER = 4
"""Bytes in UTF-8."""
RESERVED = ".harvestd"
"""harvestd's own directory in the data root; no remote name may refer to it."""


SHARED: dict[str, str] = {}
_MOST_SHARED = 20_000


def shared(name: str) -> str:
    """Return one object for equal names: the same few names occur in thousands of directories.

    `sys.intern` would keep each name for good on Python 3.12; here the number of kept names is bounded.
    """
    if len(SHARED) >= _MOST_SHARED:
        SHARED.clear()
    return SHARED.setdefault(name, name)


class RejectedPath(ValueError):
    """A path that harvestd does not use; the message is the violated rule, without the path."""


def encoded(text: str) -> bytes:
    """Return the bytes of `text` in a file system (the inverse of `decoded`)."""
    return text.encode("utf-8", "surrogateescape")


def decoded(raw: bytes) -> str:
    """Return the `str` form of a name from a file system; bytes that are not UTF-8 become lone surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def _encoded_size(part: str) -> int:
    raw = encoded(part)
    # A host can encode valid UTF-8 as lone surrogates: two texts for one name would make two paths for one file.
    if decoded(raw) != part:
        raise RejectedPath("a second spelling of the same bytes")
    return len(raw)


def _check(parts: tuple[str, ...]) -> None:
    if not parts:
        raise RejectedPath("an empty path")
    if len(parts) > MAX_DEPTH:
        raise RejectedPath(f"deeper than {MAX_DEPTH} levels")
    total = 0
    for part in parts:
        if part in _NO_NAMES:
            raise RejectedPath(f"a component {part!r}")
        if "/" in part or "\0" in part:
            raise RejectedPath("a slash or NUL within a component")
        try:
            size = len(part) if part.isascii() else _encoded_size(part)
        except UnicodeEncodeError as e:
            raise RejectedPath("a name that no file system can hold") from e
        if size > MAX_COMPONENT_BYTES:
            raise RejectedPath(f"a component of more than {MAX_COMPONENT_BYTES} bytes")
        total += size + 1
    if total > MAX_PATH_BYTES:
        raise RejectedPath(f"a path of more than {MAX_PATH_BYTES} bytes")


class _Path(tuple[str, ...]):
    # A subclass of tuple, not an object with a tuple: there are three paths for each of hundreds of thousands of files.
    __slots__ = ()

    def __new__(cls, parts: Iterable[str]) -> Self:
        """Make a path; raise `RejectedPath` unless a file system can hold every component."""
        made = super().__new__(cls, parts)
        _check(made)
        return made

    @property
    def parts(self) -> tuple[str, ...]:
        """The components, that is, the path itself as a tuple."""
        return self

    def __str__(self) -> str:
        """Return the path with slashes, for display and storage; the inverse of `parse`."""
        return "/".join(self)

    def __repr__(self) -> str:
        """Return the kind of path and its form with slashes."""
        return f"{type(self).__name__}({str(self)!r})"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the path of a text with slashes; raise `RejectedPath` if it is invalid."""
        return cls(map(shared, text.split("/")))

    @property
    def name(self) -> str:
        """The last component."""
        return self[-1]

    def __truediv__(self, name: str) -> Self:
        """Return the path of the child called `name`; raise `RejectedPath` if it is invalid."""
        return self.child(name)

    def child(self, *names: str) -> Self:
        """Return the path of `names` below this one; raise `RejectedPath` if it is invalid."""
        if len(names) != 1:
            return type(self)((*self, *names))
        # Most paths are made here. This path is valid, so only the new name and the length need a check.
        (name,) = names
        parts = (*self, name)
        plain = name.isascii() and name not in _NO_NAMES and "/" not in name and "\0" not in name
        small = len(name) <= MAX_COMPONENT_BYTES and len(parts) <= MAX_DEPTH
        if not plain or not small or _LONGEST_CHARACTER * len("/".join(parts)) > MAX_PATH_BYTES:
            return type(self)(parts)
        return tuple.__new__(type(self), parts)


class RemotePath(_Path):
    """A path below a tree on a host, relative to that tree."""

    __slots__ = ()

    def below(self, ancestor: "RemotePath") -> bool:
        """Return whether this path is strictly below `ancestor`."""
        return len(self) > len(ancestor) and self[: len(ancestor)] == ancestor


class LocalPath(_Path):
    """A path below the data root, relative to it, and outside the reserved directory."""

    __slots__ = ()

    def __new__(cls, parts: Iterable[str]) -> Self:
        """Make a path; raise `RejectedPath` as `_Path` does, and for the reserved directory."""
        made = super().__new__(cls, parts)
        if made[0].casefold() == RESERVED:
            raise RejectedPath(f"a path into {RESERVED}, which is harvestd's own")
        return made


INDEX: Final = "index.md"
"""The list of all experiments, at the data root."""
README: Final = "README.md"
ANALYSIS: Final = "analysis"


def is_report(rest: Sequence[str]) -> bool:
    """Return whether `rest`, a path below an experiment's directory, is part of the report.

    Everything in `analysis/` is: people work there, and Python leaves caches.
    """
    return tuple(rest) == (README,) or tuple(rest[:1]) == (ANALYSIS,)
