"""Moves files within the data root, consistently with the catalogue: intent, move, record.

A process that ends in between leaves each file at one of its two paths, and the intent names them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from harvestd import failpoints
from harvestd.convention.structs import Immutable
from harvestd.errors import HarvestError
from harvestd.harvest.startup.recovery import settle
from harvestd.planning.records import FileRecord
from harvestd.store.ops.move import move
from harvestd.store.publish import Result
from harvestd.store.root import DataRoot

if TYPE_CHECKING:
    from harvestd.catalogue.repository import Catalogue

_MOVED = frozenset({Result.PUBLISHED, Result.ADOPTED})


class Refiling(Immutable):
    """One file, with its present and its future record."""

    before: FileRecord
    after: FileRecord


async def refile(catalogue: "Catalogue", root: DataRoot, files: Sequence[Refiling]) -> list[Result]:
    """Move files to their new paths; return the results in the same order.

    The caller holds the directory lock. Files that are not moved keep their records. Raise `HaltedForSafety`,
    `DiskFull` and `Retry` if the disk fails; what was moved by then is on record.
    """
    if not files:
        return []
    with anyio.CancelScope(shield=True):
        intent = await catalogue.intend([each.after for each in files], [each.before.target for each in files])
        failpoints.reach("refile.intended")
        try:
            results = await anyio.to_thread.run_sync(_move_all, root, files)
        except HarvestError:
            await settle(catalogue, root, [intent])
            raise
        moved = [each for each, result in zip(files, results, strict=True) if result in _MOVED]
        await catalogue.save_files([each.after for each in moved], [intent], [each.before for each in moved])
    return results


def _move_all(root: DataRoot, files: Sequence[Refiling]) -> list[Result]:
    return [move(root, each.before.target, each.after.target) for each in files]
