"""What the operator wants, and what nobody wants: each exclusion with the reason that goes on record."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase, translate

from harvestd.convention.artifacts import DATASETS, PRUNED_DIRECTORIES, TEMPORARY_FILES

_TEMPORARY = re.compile("|".join(translate(pattern) for pattern in TEMPORARY_FILES))


class CheckpointPolicy(StrEnum):
    """Which checkpoints are wanted."""

    NONE = "none"
    FINAL = "final"
    FINAL_AND_LATEST = "final+latest"
    """The final one and, until it is there, the newest that is complete."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Selection:
    """The operator's choice, as the planner needs it; made from the `[select]` and `[naming]` sections."""

    checkpoint: CheckpointPolicy = CheckpointPolicy.FINAL
    records: bool = False
    tensorboard: bool = True
    exclude: tuple[str, ...] = ()
    """Glob patterns on a path below its tree or on any single name in it; the first match wins."""
    datasets: tuple[str, ...] = DATASETS
    models: Mapping[str, str] = field(default_factory=dict)
    """The operator's aliases for models, beside the built-in ones."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why something is left out, and how much of its path the reason covers."""

    reason: str
    depth: int | None = None
    """The reason is recorded once for everything that shares this many leading components; None: once for the topmost
    directory that holds nothing which the convention knows."""


def excluded_directory(path: tuple[str, ...], selection: Selection, above: tuple[str, ...] = ()) -> Exclusion | None:
    """Apply the rules that hold for whole directories: other tools' own, and the operator's.

    `path` is what is judged and what the depth is counted in, `above` are the components before it in its tree: those
    have been judged already, but the operator's patterns may begin with them.
    """
    for depth, name in enumerate(path, start=1):
        if name in PRUNED_DIRECTORIES:
            return Exclusion(f"rule: {name} is never wanted", depth)
    return _excluded_by_operator(path, selection, above)


def excluded_anywhere(path: tuple[str, ...], selection: Selection, above: tuple[str, ...] = ()) -> Exclusion | None:
    """Apply the rules that hold for a file at any place in a tree: those for its directories, and temporaries."""
    if _TEMPORARY.fullmatch(path[-1]):
        return Exclusion("rule: temporary file", len(path))
    return excluded_directory(path, selection, above)


def _excluded_by_operator(path: tuple[str, ...], selection: Selection, above: tuple[str, ...]) -> Exclusion | None:
    for pattern in selection.exclude:
        for depth, name in enumerate(path, start=1):
            if fnmatchcase(name, pattern) or fnmatchcase("/".join((*above, *path[:depth])), pattern):
                return Exclusion(f'rule: select.exclude "{pattern}"', depth)
    return None
