"""Moving what is filed already: an experiment whose name follows its facts, an eval whose run has appeared.

A move is one rename: nothing is copied, nothing is replaced, and the kept versions follow. It must never be called for
a directory in which a file still grows; the store can't see that.
"""

from harvestd.convention.paths import LocalPath
from harvestd.store.failures import Conflict, Refused, translating
from harvestd.store.publishing import Result
from harvestd.store.renaming import rename_noreplace
from harvestd.store.root import DataRoot
from harvestd.store.walking import Touched, made, opened, sync_touched


def move(root: DataRoot, source: LocalPath, target: LocalPath) -> Result:
    """Move the file or directory at `source` to `target`; synced when this returns.

    PUBLISHED where it moved; ADOPTED where `source` is gone and `target` stands, as after a crash; CONFLICT where
    anything stands at `target` while `source` exists, or neither does; REFUSED where the file system says no.
    Raises `HaltedForSafety`.
    """
    touched: Touched = {source.parts[:-1], target.parts[:-1]}
    result = Result.PUBLISHED
    try:
        with (
            root.parent(source) as old,
            root.made_parent(target, touched) as new,
            translating("can't move"),
        ):
            rename_noreplace(old, source.name, new, target.name)
    except FileNotFoundError:
        result = Result.CONFLICT if root.stat(target) is None else Result.ADOPTED
    except Conflict:
        result = Result.CONFLICT
    except Refused:
        result = Result.REFUSED
    if result in {Result.PUBLISHED, Result.ADOPTED}:
        root.sync(touched)
        _move_versions(root, source, target)
    return result


def _move_versions(root: DataRoot, source: LocalPath, target: LocalPath) -> None:
    """Let the versions follow; where there are versions of the new path already, the old ones stay where they are."""
    touched: Touched = {source.parts[:-1], target.parts[:-1]}
    with translating("can't move kept versions"):
        try:
            with (
                opened(root.versions, source.parts[:-1]) as old,
                made(root.versions, target.parts[:-1], touched) as new,
            ):
                rename_noreplace(old, source.name, new, target.name)
        except (FileNotFoundError, FileExistsError):
            return
        sync_touched(root.versions, touched)
