"""Hashes files on the host whose times but not sizes changed: they are fetched again only if the content differs.

After a `chown -R` these are all files of a host, so they are recorded in batches.
"""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace

from harvestd.harvest.context import Context
from harvestd.harvest.host.failures import FailureTracker
from harvestd.planning.plan import Check
from harvestd.planning.records import FileRecord
from harvestd.planning.sections import section_of
from harvestd.remote.api import Closed, Failed, Opened, Reader, ReadRequest
from harvestd.remote.ssh.errors import Stuck

_AT_ONCE: Final = 1000
"""Files in one transaction; the event loop is held for a few milliseconds."""

Hashed = Sequence[tuple[Check, Opened]]
"""Files with the host's answers about them."""


async def check_contents(checks: Sequence[Check], reader: Reader, context: Context, troubles: FailureTracker) -> None:
    """Hash these files on the host and record the results. Raise `Retry` when the link is lost."""
    await hash_there(checks, reader, troubles, partial(_conclude, context))


async def hash_there(
    checks: Sequence[Check],
    reader: Reader,
    troubles: FailureTracker,
    conclude: Callable[[Hashed], Awaitable[None]],
) -> None:
    """Hash these files on their host and call `conclude` with the hashes, in batches as they arrive.

    Files that change, or can't be read, are noted in `troubles`. Raise `Retry` when the link is lost.
    """
    requests = [
        ReadRequest(each.source.tree, each.source.path, each.source.version.size, length=0, verify_from=0)
        for each in checks
    ]
    waiting = iter(checks)
    opened: Opened | None = None
    hashed: list[tuple[Check, Opened]] = []
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
                        hashed.append((item, opened))
                        if len(hashed) == _AT_ONCE:
                            full, hashed = hashed, []
                            await conclude(full)
    except Stuck as e:
        for item in itertools.islice(waiting, 1):
            troubles.stuck(item.place, str(e))
    if hashed:
        await conclude(hashed)


async def _conclude(context: Context, hashed: Hashed) -> None:
    """Record the host's hashes of files, except those whose record changed since this was planned.

    Hashing takes minutes: the directory may be renamed by now, or the file was fetched again, moved or removed.
    """
    async with context.places.still():
        knowledge = context.catalogue.knowledge
        paths = [knowledge.placed(item.record.target, item.record.experiment) for item, _ in hashed]
        async with context.catalogue.files.loaded(set(map(section_of, paths))):
            same: list[FileRecord] = []
            for path, (item, opened) in zip(paths, hashed, strict=True):
                record = replace(item.record, target=path)
                if knowledge.holder(path) != record:
                    continue  # the next plan handles it
                if item.asked_by is not None and opened.verified is not None:
                    knowledge.learn_hash(item.asked_by, item.place, item.source.version, opened.verified, record)
                elif opened.verified == record.sha256:
                    same.append(replace(record, version=item.source.version, differs=None))
                    if record.version.mtime_ns != item.source.version.mtime_ns:
                        context.changes.touch([record.experiment])  # the manifest has the time
                else:
                    knowledge.learn_file(replace(record, differs=item.source.version))
            await context.catalogue.save_files(same)
