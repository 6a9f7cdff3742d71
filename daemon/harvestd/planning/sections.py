"""Sections of the data root, and what of them is in memory. Pure.

The records of files are too many to be all in memory. Those of one section are loaded and dropped together: an
experiment's directory without its base evals, its base evals, or the directory of one host in `_unfiled`. Base evals
are a section of their own because one has a copy in each experiment of its model.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from harvestd.planning.records import FileRecord

UNFILED: Final = "_unfiled"
BASE_EVAL: Final = "base_eval"

Section = tuple[str, ...]
"""The components of its directory below the data root."""


def section_of(target: tuple[str, ...]) -> Section:
    """Return the section of a file from the components of its local path."""
    if target[0] == UNFILED or (len(target) > 2 and target[1] == BASE_EVAL):  # noqa: PLR2004  (a file below base_eval)
        return tuple(target[:2])
    return (target[0],)


def sections_of(files: Iterable[FileRecord]) -> set[Section]:
    """Return the sections of these files."""
    return {section_of(file.target) for file in files}


def sections_in(directory: str) -> tuple[Section, Section]:
    """Return the sections of the experiment with this directory."""
    return (directory,), (directory, BASE_EVAL)


class NotLoaded(Exception):
    """Records that are needed are only in the database; the caller loads what is named here, and tries again.

    An answer from memory alone could be wrong, and a file fetched again or published over another one.
    """

    def __init__(self, sections: Iterable[Section] = (), storages: Iterable[str] = ()) -> None:
        self.sections: Final = frozenset(sections)
        self.storages: Final = frozenset(storages)
        """Storages of which all files are needed."""
        super().__init__(f"not loaded: {sorted(self.sections)}, all files from {sorted(self.storages)}")


class Missing:
    """Collects what several steps need, so that it is loaded at once."""

    def __init__(self) -> None:
        self._sections: set[Section] = set()
        self._storages: set[str] = set()
        self.steps = 0
        """How many steps need something."""

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Do one step, and note what it needs instead of raising `NotLoaded`."""
        try:
            yield
        except NotLoaded as e:
            self.steps += 1
            self._sections |= e.sections
            self._storages |= e.storages

    def require_none(self) -> None:
        """Raise `NotLoaded` if any step needs something."""
        if self.steps:
            raise NotLoaded(self._sections, self._storages)


class Loaded:
    """Tracks which sections and storages are completely in memory: all, unless they are marked as unloaded."""

    def __init__(self) -> None:
        self.sections: set[Section] = set()
        """The sections with files that are only in the database."""
        self.storages: set[str] = set()
        """The storages of which any file may be only in the database."""

    def require(self, sections: Collection[Section] = (), storages: Collection[str] = ()) -> None:
        """Raise `NotLoaded` unless all of these are in memory."""
        missing = self.sections.intersection(sections) if self.sections else ()
        incomplete = self.storages.intersection(storages) if self.storages else ()
        if missing or incomplete:
            raise NotLoaded(missing, incomplete)
