"""Replaces harvestd's own files beside the results (manifest.json, README.md) in one atomic step.

Only for names that harvestd owns: existing content is replaced without a check. Files from a host always use `publish`.
"""

import os
from collections.abc import Sequence

from harvestd import failpoints
from harvestd.convention.paths import LocalPath, encoded
from harvestd.store.errors import translating
from harvestd.store.root import DataRoot
from harvestd.store.walking import Touched, made, sync_touched


def write_own(root: DataRoot, path: LocalPath, data: bytes) -> None:
    """Write `data` to `path`; it is synced when this returns, and a crash leaves the old or the new content.

    A link at `path` is replaced, not followed. Raise `Conflict` for a directory there, `Refused`, `DiskFull` and
    `HaltedForSafety`.
    """
    touched = {path.parts[:-1]}
    with root.stage() as staged:
        staged.write(data)
        staged.sync()
        failpoints.reach("own.staged")
        with root.made_parent(path, touched) as parent:
            os.rename(encoded(staged.name), encoded(path.name), src_dir_fd=root.staging.directory, dst_dir_fd=parent)
    failpoints.reach("own.renamed")
    root.sync(touched)


def write_inside(root: DataRoot, directory: LocalPath, rest: Sequence[str], data: bytes) -> None:
    """Write as `write_own` does, at `rest` inside an existing directory, which is not created if it is gone.

    If the directory is renamed meanwhile, the file is in the renamed one. Raise FileNotFoundError if there is none.
    """
    path = directory.child(*rest)
    parent = tuple(rest[:-1])
    touched: Touched = {parent}
    with root.directory(directory) as base, root.stage() as staged:
        staged.write(data)
        staged.sync()
        with translating(path):
            with made(base, parent, touched) as there:
                os.rename(encoded(staged.name), encoded(path.name), src_dir_fd=root.staging.directory, dst_dir_fd=there)
            sync_touched(base, touched)
