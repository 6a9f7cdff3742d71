"""harvestd's own files beside the results (manifest.json, README.md): replaced whole, in one step.

Only for names that harvestd owns: what stands there is replaced without a look. What a box sent goes through
`publishing`, always.
"""

import os
from collections.abc import Sequence

from harvestd import failpoints
from harvestd.convention.paths import LocalPath, encoded
from harvestd.store.errors import translating
from harvestd.store.root import DataRoot
from harvestd.store.walking import Touched, made, sync_touched


def write_own(root: DataRoot, path: LocalPath, data: bytes) -> None:
    """Put `data` at `path`, synced when this returns; a crash leaves the old or the new content.

    A link that stands there is replaced, not followed. Raises `Conflict` for a directory there, `Refused`, `DiskFull`
    and `HaltedForSafety`.
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
    """As `write_own`, at `rest` inside a directory that is there already: one that is gone is not made again.

    A directory that is renamed meanwhile takes the file along. Raises FileNotFoundError where there is none.
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
