"""Hashes files on the host whose times but not sizes changed: they are fetched again only if the content differs."""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from msgspec.structs import replace

from harvestd.convention.paths import LocalPath
from harvestd.harvest.context import Context
from harvestd.harvest.host.failures import FailureTracker
from harvestd.planning.plan import Check
from harvestd.planning.sections import section_of
from harvestd.remote.api import Closed, Failed, Opened, Reader, ReadRequest
from harvestd.remote.ssh.errors import Stuck


async def check_contents(checks: Sequence[Check], reader: Reader, context: Context, troubles: FailureTracker) -> None:
    """Hash these files on the host and record the results. Raise `Retry` when the link is lost."""
    await hash_there(checks, reader, troubles, partial(_conclude, context))


async def hash_there(
    checks: Sequence[Check],
    reader: Reader,
    troubles: FailureTracker,
    conclude: Callable[[Check, Opened], Awaitable[None]],
) -> None:
    """Hash these files on their host and call `conclude` with each hash as it arrives.

    Files that change, or can't be read, are noted in `troubles`. Raise `Retry` when the link is lost.
    """
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
                        await conclude(item, opened)
    except Stuck as e:
        for item in itertools.islice(waiting, 1):
            troubles.stuck(item.place, str(e))


async def _conclude(context: Context, item: Check, opened: Opened) -> None:
    """Record the host's hash of a file, unless its record changed since this was planned.

    Hashing takes minutes: the directory may be renamed by now, or the file was fetched again, moved or removed.
    """
    async with context.places.still():
        knowledge = context.catalogue.knowledge
        path = knowledge.placed(item.record.target, item.record.experiment)
        async with context.catalogue.files.loaded([section_of(path)]):
            await _conclude_at(path, context, item, opened)


async def _conclude_at(path: LocalPath, context: Context, item: Check, opened: Opened) -> None:
    knowledge = context.catalogue.knowledge
    if knowledge.holder(path) != replace(item.record, target=path):
        return  # the next plan handles it
    if item.asked_by is not None and opened.verified is not None:
        knowledge.learn_hash(
            item.asked_by, item.place, item.source.version, opened.verified, replace(item.record, target=path)
        )
    elif opened.verified == item.record.sha256:
        same = replace(item.record, target=path, version=item.source.version, differs=None)
        await context.catalogue.save_files([same])
        context.changes.touch([same.experiment])
    else:
        knowledge.learn_file(replace(item.record, target=path, differs=item.source.version))
