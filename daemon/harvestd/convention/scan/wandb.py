"""Detects which offline runs of the W&B client are marked as synced. Pure.

`wandb sync` puts an empty file NAME.wandb.synced beside the NAME.wandb of an offline run. A run that was uploaded while
it was written has no mark.
"""

from collections.abc import Iterable
from typing import Final

from harvestd.convention.scan.snapshot import Entry, EntryType, Version

WANDB: Final = "wandb"
_OFFLINE: Final = "offline-run-"
_HISTORY: Final = ".wandb"
_SYNCED: Final = ".wandb.synced"

_Parts = tuple[str, ...]


def synced_runs(entries: Iterable[Entry], depth: int = 0) -> frozenset[_Parts]:
    """Return the directories of offline runs in which no history is newer than its mark.

    Paths are relative to the directory that is `depth` components below the tree.
    """
    found: dict[_Parts, dict[str, Version]] = {}
    for entry in entries:
        parts = entry.path.parts
        if not parts[-1].endswith((_HISTORY, _SYNCED)) or entry.type is not EntryType.FILE:
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
