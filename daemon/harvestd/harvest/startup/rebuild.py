"""Fills a new catalogue from the manifests of the data root before any host is scanned: nothing is fetched twice."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio.to_thread

from harvestd import failpoints
from harvestd.planning.records import RunRecord
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.audit.rebuilding import Rebuilt, Unreadable
    from harvestd.catalogue.repository import Catalogue
    from harvestd.catalogue.restore import ReadBack


async def rebuild(catalogue: "Catalogue", root: DataRoot) -> None:
    """Record all files that match their manifests, in one transaction, and log it once.

    A process that ends in between has recorded nothing, and the next one starts over. Raise `HaltedForSafety`.
    """
    found, skipped = await anyio.to_thread.run_sync(_read, root)
    failpoints.reach("rebuild.read")
    await catalogue.restoring.restore(_read_back(found))
    if not found and not skipped:
        return
    files = [file for each in found for file in each.files]
    get_logger().warning(
        Event.CATALOGUE_REBUILT,
        path=root.path,
        experiments=sum(each.experiment is not None for each in found),
        runs=sum(len(each.runs) for each in found),
        files=len(files),
        bytes=sum(file.size for file in files),
        skipped=[f"{one.directory}: {one.reason}" for one in skipped]
        + [f"{each.directory}: {each.lost} files are not as its manifest says" for each in found if each.lost],
        hint="host keys were in it too: compare the ones that are pinned now, or put the old catalogue back",
    )


def _read(root: DataRoot) -> "tuple[list[Rebuilt], list[Unreadable]]":
    from harvestd.audit.rebuilding import read_back  # noqa: PLC0415  (rarely needed at start-up)

    return read_back(root)


def _read_back(found: "Sequence[Rebuilt]") -> "ReadBack":
    from harvestd.audit.remembering import remembered  # noqa: PLC0415  (rarely needed at start-up)
    from harvestd.catalogue.restore import ReadBack  # noqa: PLC0415  (imported by a thread of `startup.open`)

    known: set[tuple[str, str]] = set()
    runs: list[RunRecord] = []
    for run in (run for each in found for run in each.runs):
        # Two manifests name one run if the operator copied more than a directory: the first one keeps it.
        if run.key not in known:
            known.add(run.key)
            runs.append(run)
    requests = [
        request
        for each in found
        if each.runs
        for request in remembered(each.runs[0], each.files, [line for _, line in each.left_out])
    ]
    return ReadBack(
        experiments=[each.experiment for each in found if each.experiment is not None],
        runs=runs,
        files=[file for each in found for file in each.files],
        links={path: target for each in found for path, target in each.links.items()},
        requests=requests,
        left_out=[
            (host, each.experiment.id if each.experiment else None, entry)
            for each in found
            for host, entry in each.left_out
        ],
    )
