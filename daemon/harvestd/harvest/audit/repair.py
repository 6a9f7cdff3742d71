"""Repairs what an audit found, without deleting any of the operator's files.

A damaged file moves to `.harvestd/versions/` and its record is removed: the next pass fetches it again if a host still
has it. A missing one is copied from where the operator moved it within an experiment, and fetched again only if it is
nowhere. A catalogue that can't be read is set aside and rebuilt from the manifests. The operator's own files stay.
"""

from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread

from harvestd.audit.findings import Finding, Kind
from harvestd.catalogue.open import move_aside
from harvestd.convention.paths import LocalPath
from harvestd.errors import unwrapped
from harvestd.harvest.audit.copy_back import Strangers
from harvestd.harvest.context import Context
from harvestd.harvest.monitor import NullListener
from harvestd.harvest.startup.open import open_context
from harvestd.settings import Settings
from harvestd.store.errors import Conflict
from harvestd.store.lock import DataRootLock
from harvestd.store.root import DataRoot
from harvestd.store.versions import set_aside

_GONE = frozenset({Kind.MISSING, Kind.CHANGED})
_SETTLED_AT_START = frozenset({Kind.TEMPORARY, Kind.CATALOGUE})


def set_catalogue_aside(settings: Settings) -> Path:
    """Move a damaged catalogue out of the way; return its new path. Raise `Fatal` (exit code 7) while a daemon runs."""
    with DataRoot.open(settings.data_root) as root, DataRootLock.take(root):
        return move_aside(settings.state)


async def repair(settings: Settings, found: Sequence[Finding]) -> list[Finding]:
    """Repair what can be repaired; return the other findings.

    Opening the context rebuilds a lost catalogue, settles unfinished work and clears staging; closing it writes the
    manifests. Raise `Fatal` (exit code 7) while a daemon runs, `HaltedForSafety`.
    """
    with unwrapped():
        async with open_context(settings, NullListener()) as (context, root):
            await context.knows.wait()
            damaged = [finding for finding in found if finding.is_damage]
            strangers = await anyio.to_thread.run_sync(Strangers, root, found if damaged else ())
            return [finding for finding in damaged if not await _repaired(context, root, strangers, finding)]


async def _repaired(context: Context, root: DataRoot, strangers: Strangers, finding: Finding) -> bool:
    knowledge = context.catalogue.knowledge
    if finding.kind in _SETTLED_AT_START:
        return True
    path = LocalPath.parse(finding.path)
    record = await context.catalogue.files.holder(path)
    if finding.kind is Kind.MANIFEST:
        places: dict[str, str | None] = {each.directory: each.id for each in knowledge.experiments()}
        context.changes.touch([places.get(path.parts[0])])
        return True
    if finding.kind not in _GONE:
        return False
    if record is None:
        await context.catalogue.forget_links([path])
        return True
    if finding.kind is Kind.MISSING and await anyio.to_thread.run_sync(strangers.put_back, record):
        return True
    try:
        await anyio.to_thread.run_sync(set_aside, root, path)
    except Conflict:
        return False
    await context.catalogue.forget_files([record])
    context.changes.touch([record.experiment])
    return True
