"""The two kinds of path that harvestd knows, each valid by construction.

`RemotePath` is the only door through which a name that a box sent enters the program; `LocalPath` is the only form in
which the store accepts a place below the data root. Both are tuples of single components, so that no later code joins
or splits strings. Names are `str` decoded with surrogateescape: any bytes a Linux box can hold make the round trip.
"""

from collections.abc import Iterable
from typing import Self

MAX_COMPONENT_BYTES = 255
MAX_DEPTH = 64
MAX_PATH_BYTES = 3800
"""Below PATH_MAX (4096), with room for the data root and a temporary's suffix."""

_NO_NAMES = frozenset({"", ".", ".."})
_LONGEST_CHARACTER = 4
"""Bytes of one in UTF-8."""
RESERVED = ".harvestd"
"""The data root's own directory; no remote name may lead into it."""


class RejectedPath(ValueError):
    """A path that harvestd will not use; the text says which rule it broke, without repeating the path."""


def encoded(text: str) -> bytes:
    """Return the bytes that `text` stands for in a file system (the inverse of `decoded`)."""
    return text.encode("utf-8", "surrogateescape")


def decoded(raw: bytes) -> str:
    """Return the `str` form of a name in a file system; bytes that are not UTF-8 become lone surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def _encoded_size(part: str) -> int:
    raw = encoded(part)
    # A box can spell valid UTF-8 in lone surrogates: two texts for one name, which would be one file and two paths.
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
    # Not an object that holds a tuple: there are three of these for each of hundreds of thousands of files.
    __slots__ = ()

    def __new__(cls, parts: Iterable[str]) -> Self:
        """Raise `RejectedPath` unless every component is one that a file system may hold."""
        made = super().__new__(cls, parts)
        _check(made)
        return made

    @property
    def parts(self) -> tuple[str, ...]:
        """The components: the path itself, where it is meant as these."""
        return self

    def __str__(self) -> str:
        """Return the path with slashes, for showing and for storing; `parse` reads it back."""
        return "/".join(self)

    def __repr__(self) -> str:
        """Return what `parse` reads, and the kind of path."""
        return f"{type(self).__name__}({str(self)!r})"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Make a path from its slashed form; raises `RejectedPath`."""
        return cls(text.split("/"))

    @property
    def name(self) -> str:
        """The last component."""
        return self[-1]

    def __truediv__(self, name: str) -> Self:
        """Return the path of the child called `name`; raises `RejectedPath`."""
        return self.child(name)

    def child(self, *names: str) -> Self:
        """Return the path of what lies at `names` below this one; raises `RejectedPath`."""
        if len(names) != 1:
            return type(self)((*self, *names))
        # By far the most paths are made here. This one is valid, so what is left to see is the name and the length.
        (name,) = names
        parts = (*self, name)
        plain = name.isascii() and name not in _NO_NAMES and "/" not in name and "\0" not in name
        small = len(name) <= MAX_COMPONENT_BYTES and len(parts) <= MAX_DEPTH
        if not plain or not small or _LONGEST_CHARACTER * len("/".join(parts)) > MAX_PATH_BYTES:
            return type(self)(parts)
        return tuple.__new__(type(self), parts)


class RemotePath(_Path):
    """A place below a tree on a box, relative to that tree."""

    __slots__ = ()

    def below(self, ancestor: "RemotePath") -> bool:
        """Return whether this path lies strictly below `ancestor`."""
        return len(self) > len(ancestor) and self[: len(ancestor)] == ancestor


class LocalPath(_Path):
    """A place below the data root, relative to it; never the reserved directory's inside."""

    __slots__ = ()

    def __new__(cls, parts: Iterable[str]) -> Self:
        """Raise `RejectedPath` for what `_Path` refuses and for anything in the reserved directory."""
        made = super().__new__(cls, parts)
        if made[0].casefold() == RESERVED:
            raise RejectedPath(f"a path into {RESERVED}, which is harvestd's own")
        return made
