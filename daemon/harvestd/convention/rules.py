"""The operator's selection, and the exclusion rules: each exclusion has the reason that is recorded.

The operator's own patterns take precedence. What a built-in rule excludes is lost with the host, except litter and
offline runs of W&B that are marked as synced: `wandb sync` puts an empty file NAME.wandb.synced beside the NAME.wandb
of an offline run. A run that was uploaded while it was written has no mark.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase, translate
from functools import lru_cache
from typing import Final

from msgspec import field

from harvestd.convention.eval_names import DATASETS
from harvestd.convention.kinds import (
    LITTER_DIRECTORIES,
    LITTER_FILES,
    PRUNED_DIRECTORIES,
    UNFINISHED_FILES,
    LossKind,
)
from harvestd.convention.scan.snapshot import Entry, EntryType, Listing, Version
from harvestd.convention.structs import Immutable

WANDB: Final = "wandb"
_OFFLINE: Final = "offline-run-"
_HISTORY: Final = ".wandb"
_SYNCED_MARK: Final = ".wandb.synced"

_Parts = tuple[str, ...]


def synced_runs(entries: Iterable[Entry], depth: int = 0) -> frozenset[_Parts]:
    """Return the directories of offline runs in which no history is newer than its mark.

    Paths are relative to the directory that is `depth` components below the tree.
    """
    found: dict[_Parts, dict[str, Version]] = {}
    for entry in entries:
        parts = entry.path.parts
        if not parts[-1].endswith((_HISTORY, _SYNCED_MARK)) or entry.type is not EntryType.FILE:
            continue
        if len(parts) > depth + 2 and parts[-3] == WANDB and parts[-2].startswith(_OFFLINE):
            found.setdefault(parts[depth:-1], {})[parts[-1]] = entry.version
    return frozenset(run for run, files in found.items() if _is_synced(files))


def _is_synced(files: dict[str, Version]) -> bool:
    histories = [name for name in files if name.endswith(_HISTORY)]
    marks = [files.get(name + ".synced") for name in histories]
    # A run that was resumed after a sync has a newer history.
    both = zip(histories, marks, strict=True)
    return bool(histories) and all(mark is not None and files[name].mtime_ns <= mark.mtime_ns for name, mark in both)


_CORE_DUMP = r"core\.\d+"
_LITTER = re.compile("|".join(translate(pattern) for pattern in LITTER_FILES))
_UNFINISHED = re.compile("|".join([*map(translate, UNFINISHED_FILES), _CORE_DUMP]), re.ASCII)


class CheckpointPolicy(StrEnum):
    """Which checkpoints are wanted."""

    NONE = "none"
    FINAL = "final"
    FINAL_AND_LATEST = "final+latest"
    """The final one and, until it exists, the newest complete one."""
    ALL = "all"


class Selection(Immutable):
    """The operator's selection in the planner's form; made from the `[select]` and `[naming]` sections."""

    checkpoint: CheckpointPolicy = CheckpointPolicy.FINAL
    records: bool = False
    tensorboard: bool = True
    exclude: tuple[str, ...] = ()
    """Glob patterns for a path below its tree or for any single component; the first match wins."""
    include: tuple[str, ...] = ()
    """Glob patterns for a path below its run or eval directory: wanted although it is not part of the convention."""
    datasets: tuple[str, ...] = DATASETS
    models: Mapping[str, str] = field(default_factory=dict)
    """The operator's aliases for models, in addition to the built-in ones."""
    only: str | None = None
    """The directory name of the only run that is wanted, with its evals; None: all runs."""


class Exclusion(Immutable):
    """The reason for leaving something out, and how much of its path the reason covers."""

    reason: str
    depth: int | None = None
    """The reason is recorded once for all paths with the same first `depth` components; None: once for the topmost
    directory that contains nothing of the convention."""
    loss: LossKind | None = None
    """The kind of loss if the host ends; None: the operator excluded it, or it is litter."""


INCLUDED = "rule: select.include"
"""The reason for fetching a file that is not part of the convention."""
_WANDB_FILES = "rule: W&B's files are not fetched"
_SYNCED = "rule: W&B's files, marked as synced"


class _Ranked(Immutable):
    """An exclusion by the operator's patterns: the first matching pattern, at the topmost level that it matches."""

    rank: int
    exclusion: Exclusion


class _DirectoryRule(Immutable):
    """The exclusions of a directory and everything below it."""

    chosen: _Ranked | None = None
    """By the operator's own patterns."""
    rule: Exclusion | None = None
    """By a built-in rule."""


_NOTHING = _DirectoryRule()


class Exclusions:
    """The exclusion rules for everything below one directory of a tree; pure except for a cache.

    Paths and depths are relative to that directory. An exclusion of a directory covers everything below it, so each
    directory is evaluated once.
    """

    def __init__(self, selection: Selection, above: _Parts = (), synced: Collection[_Parts] = ()) -> None:
        """Make the rules for the directory at `above` in its tree; `synced`: directories of W&B runs marked as synced.

        `above` is not excluded itself, but the operator's patterns are matched against paths that include it.
        """
        self._patterns = selection.exclude
        self._wanted = selection.include if above else ()
        self._above = above
        self._synced = synced
        self._directories: dict[_Parts, _DirectoryRule] = {(): _NOTHING}

    def of_file(self, path: _Parts) -> Exclusion | None:
        """Return the exclusion of a file: by a pattern of the operator, or by a rule unless the file is included."""
        above = self._of(path[:-1])
        chosen = self._chosen(path, above.chosen)
        if chosen is not None:
            return chosen.exclusion
        if self._wanted and self.includes(path):
            return None
        return above.rule or _rule_for_name(path) or self._rule(path)

    def of_directory(self, path: _Parts) -> Exclusion | None:
        """Return the exclusion of a whole directory, by the operator's patterns or by a rule for tools' directories."""
        found = self._of(path)
        return found.chosen.exclusion if found.chosen else found.rule

    def includes(self, path: _Parts) -> bool:
        """Return whether `select.include` matches a file below a run or eval directory."""
        below = "/".join(path)
        return any(fnmatchcase(below, pattern) for pattern in self._wanted)

    def _of(self, directory: _Parts) -> _DirectoryRule:
        found = self._directories.get(directory)
        if found is None:
            above = self._of(directory[:-1])
            chosen, rule = self._chosen(directory, above.chosen), self._rule(directory, above.rule)
            found = _DirectoryRule(chosen, rule) if chosen or rule else _NOTHING
            self._directories[directory] = found
        return found

    def _chosen(self, path: _Parts, above: _Ranked | None) -> _Ranked | None:
        if not self._patterns:
            return None
        whole = "/".join((*self._above, *path))
        for rank, pattern in enumerate(self._patterns[: above.rank if above else None]):
            if fnmatchcase(path[-1], pattern) or fnmatchcase(whole, pattern):
                return _Ranked(rank, Exclusion(f'rule: select.exclude "{pattern}"', len(path)))
        return above

    def _rule(self, path: _Parts, above: Exclusion | None = None) -> Exclusion | None:
        name = path[-1]
        if len(path) > 1 and path[-2] == WANDB and above is not None and above.loss is LossKind.WANDB:
            # Each W&B run is an entry of its own, and may be synced.
            return (
                Exclusion(_SYNCED, len(path))
                if path in self._synced
                else Exclusion(_WANDB_FILES, len(path), LossKind.WANDB)
            )
        if above is not None:
            return above
        if name == WANDB:
            return Exclusion(_WANDB_FILES, len(path), LossKind.WANDB)
        if name not in PRUNED_DIRECTORIES:
            return None
        loss = None if name in LITTER_DIRECTORIES else LossKind.OUTSIDE_FILES
        return Exclusion(f"rule: {name} is never wanted", len(path), loss)


def waived_places(listings: Iterable[Listing], selection: Selection) -> frozenset[str]:
    """Return the absolute paths of the unreadable directories that the operator's own patterns exclude."""
    exclusions = Exclusions(selection)
    return frozenset(
        f"{listing.tree}/{path}"
        for listing in listings
        for path in listing.unreadable
        if (found := exclusions.of_directory(path.parts)) is not None and found.loss is None
    )


def _rule_for_name(path: _Parts) -> Exclusion | None:
    name = path[-1]
    if _is_litter(name):
        return Exclusion("rule: temporary file", len(path))
    if _is_unfinished(name):
        return Exclusion("rule: unfinished file or core dump", len(path), LossKind.OUTSIDE_FILES)
    return None


@lru_cache(maxsize=4096)
def _is_litter(name: str) -> bool:
    return _LITTER.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _is_unfinished(name: str) -> bool:
    return _UNFINISHED.fullmatch(name) is not None
