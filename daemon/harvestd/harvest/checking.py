"""Files whose times changed but not their size: hashed on the box, and fetched again only where the content differs."""

import itertools
from collections.abc import Sequence

from msgspec.structs import replace

from harvestd.convention.plan import Check
from harvestd.harvest.house import House
from harvestd.harvest.troubles import Troubles
from harvestd.remote.box import Closed, Failed, Opened, Reader, ReadRequest
from harvestd.remote.failures import Stuck


async def check_contents(checks: Sequence[Check], reader: Reader, house: House, troubles: Troubles) -> None:
    """Hash these files on the box and record the result. Raises `Retry` when the link is lost."""
    requests = [
        ReadRequest(each.source.tree, each.source.path, each.source.version.size, length=0, verify_from=0)
        for each in checks
    ]
    waiting = iter(checks)
    opened: Opened | None = None
    try:
        async with reader.reading(requests) as events:
            async for event in events:
                match event:
                    case Opened():
                        opened = event
                    case Failed(_, reason):
                        troubles.failed(next(waiting).place, reason)
                    case Closed(_, version):
                        item = next(waiting)
                        if opened is None or not opened.version == version == item.source.version:
                            troubles.failed(item.place, "it changed on the box while it was hashed")
                            continue
                        troubles.cleared(item.place)
                        await _conclude(item, opened, house)
    except Stuck as e:
        for item in itertools.islice(waiting, 1):
            troubles.stuck(item.place, str(e))


async def _conclude(item: Check, opened: Opened, house: House) -> None:
    if opened.verified == item.record.sha256:
        await house.catalogue.save_files([replace(item.record, version=item.source.version, differs=None)])
        house.touch([item.record.experiment])
    else:
        house.catalogue.knowledge.learn_file(replace(item.record, differs=item.source.version))
