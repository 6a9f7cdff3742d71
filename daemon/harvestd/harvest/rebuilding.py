"""Filling a new catalogue from the manifests of the data root, before any host is asked: nothing is fetched twice."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio.to_thread

from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

if TYPE_CHECKING:
    from harvestd.audit.rebuilding import Rebuilt, Unreadable
    from harvestd.catalogue.catalogue import Catalogue
    from harvestd.convention.layout import LeftOut


async def rebuild(catalogue: "Catalogue", root: DataRoot) -> None:
    """Record all that manifests name and that stands as they say; says so, once. Raises `HaltedForSafety`."""
    from harvestd.audit.remembering import remembered  # noqa: PLC0415  (a start needs it once a year)

    found, skipped = await anyio.to_thread.run_sync(_read, root)
    if not found and not skipped:
        return
    for each in found:
        if each.experiment is not None:
            first, *others = each.runs
            await catalogue.save_discovery(each.experiment, first)
            for run in others:
                await catalogue.save_run(run)
            await catalogue.keep_requests(remembered(first, each.files, [line for _, line in each.left_out]))
        await catalogue.save_files(each.files)
        for path, target in each.links.items():
            await catalogue.save_link(path, target)
    for host, left_out in _left_out(found).items():
        await catalogue.save_left_out(host, left_out)
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
    from harvestd.audit.rebuilding import read_back  # noqa: PLC0415  (a start needs it once a year)

    return read_back(root)


def _left_out(found: "Sequence[Rebuilt]") -> "dict[str, dict[str | None, tuple[LeftOut, ...]]]":
    """Give what is left out by host and experiment, as the catalogue takes it."""
    gathered: defaultdict[str, defaultdict[str | None, list[LeftOut]]] = defaultdict(lambda: defaultdict(list))
    for each in found:
        for host, entry in each.left_out:
            gathered[host][each.experiment.id if each.experiment else None].append(entry)
    return {
        host: {experiment: tuple(entries) for experiment, entries in by_experiment.items()}
        for host, by_experiment in gathered.items()
    }
