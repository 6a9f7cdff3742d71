"""What the operator wants, and what nobody wants: each exclusion with the reason that goes on record."""

import re
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase, translate
from functools import lru_cache

from msgspec import field

from harvestd.convention.artifacts import DATASETS, PRUNED_DIRECTORIES, TEMPORARY_FILES
from harvestd.convention.values import Immutable

_TEMPORARY = re.compile("|".join(translate(pattern) for pattern in TEMPORARY_FILES))


class CheckpointPolicy(StrEnum):
    """Which checkpoints are wanted."""

    NONE = "none"
    FINAL = "final"
    FINAL_AND_LATEST = "final+latest"
    """The final one and, until it is there, the newest that is complete."""
    ALL = "all"


class Selection(Immutable):
    """The operator's choice, as the planner needs it; made from the `[select]` and `[naming]` sections."""

    checkpoint: CheckpointPolicy = CheckpointPolicy.FINAL
    records: bool = False
    tensorboard: bool = True
    exclude: tuple[str, ...] = ()
    """Glob patterns on a path below its tree or on any single name in it; the first match wins."""
    datasets: tuple[str, ...] = DATASETS
    models: Mapping[str, str] = field(default_factory=dict)
    """The operator's aliases for models, beside the built-in ones."""
    only: str | None = None
    """The directory name of the one run that is wanted, with its evals; None: all."""


class Exclusion(Immutable):
    """Why something is left out, and how much of its path the reason covers."""

    reason: str
    depth: int | None = None
    """The reason is recorded once for everything that shares this many leading components; None: once for the topmost
    directory that holds nothing which the convention knows."""


_Parts = tuple[str, ...]

_OTHER_TOOLS = -1
"""The rank of the rule on other tools' directories: it goes before the operator's patterns, which count from 0."""


class _Ranked(Immutable):
    """What excludes a path: of several rules the first one says it, and of several of its levels the topmost."""

    rank: int
    exclusion: Exclusion


class Exclusions:
    """The rules that hold at any place in a tree, for what lies below one directory of it; pure but for a memory.

    What is judged is a path below that directory, and depths are counted in it. What a directory is excluded by, all
    below it is, too; so each directory is judged once.
    """

    def __init__(self, selection: Selection, above: _Parts = ()) -> None:
        """`above` leads from the tree to the directory: judged already, but the operator's patterns may begin there."""
        self._patterns = selection.exclude
        self._above = above
        self._directories: dict[_Parts, _Ranked | None] = {(): None}

    def of_file(self, path: _Parts) -> Exclusion | None:
        """Apply the rules for a file: those for its directories and its own name, and temporaries."""
        if _is_temporary(path[-1]):
            return Exclusion("rule: temporary file", len(path))
        found = self._judged(path, self._of(path[:-1]))
        return found.exclusion if found else None

    def of_directory(self, path: _Parts) -> Exclusion | None:
        """Apply the rules that hold for whole directories: other tools' own, and the operator's."""
        found = self._of(path)
        return found.exclusion if found else None

    def _of(self, directory: _Parts) -> _Ranked | None:
        if directory not in self._directories:
            self._directories[directory] = self._judged(directory, self._of(directory[:-1]))
        return self._directories[directory]

    def _judged(self, path: _Parts, above: _Ranked | None) -> _Ranked | None:
        if above is not None and above.rank == _OTHER_TOOLS:
            return above
        if path[-1] in PRUNED_DIRECTORIES:
            return _Ranked(_OTHER_TOOLS, Exclusion(f"rule: {path[-1]} is never wanted", len(path)))
        if not self._patterns:
            return None
        whole = "/".join((*self._above, *path))
        for rank, pattern in enumerate(self._patterns[: above.rank if above else None]):
            if fnmatchcase(path[-1], pattern) or fnmatchcase(whole, pattern):
                return _Ranked(rank, Exclusion(f'rule: select.exclude "{pattern}"', len(path)))
        return above


@lru_cache(maxsize=4096)
def _is_temporary(name: str) -> bool:
    return _TEMPORARY.fullmatch(name) is not None
