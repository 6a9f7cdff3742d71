"""What is read of a scan is put on record together: a commit for each file would keep all other hosts waiting."""

from pathlib import Path
from typing import cast

import pytest

from harvestd.catalogue.engine import Change, Database
from harvestd.catalogue.open import open_catalogue
from harvestd.convention.rules import Selection
from harvestd.convention.scan.classify import survey
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.harvest.context import Context
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.host.indexer import RunIndexer
from harvestd.harvest.metrics import NullListener
from harvestd.inventory.host import Host
from harvestd.remote.api import BoxFacts, Reader
from harvestd.settings import Settings
from support.box_trees import Box, T

pytestmark = pytest.mark.anyio

HOST = Host("static:gpu-a", "gpu-a", "127.0.0.1", "static")


async def test_links_of_many_evals_are_recorded_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each eval directory has an eval_config.yaml, which names its run."""
    context = Context.of(Settings(), NullListener())
    context.catalogue = open_catalogue(tmp_path, "root")
    box, written = Box(), []
    for number in range(30):
        box.files(f"eval_runs/{T}_set{number}/eval_config.yaml", f"eval_runs/{T}_set{number}/greedy/metrics.csv")
    snapshot = box.snapshot()
    seen = survey(snapshot, Selection())
    early = {each.config: f"training_run: {T}".encode() for each in seen.evals if each.config is not None}
    write = Database.write

    async def counted(database: Database, change: Change) -> None:
        written.append(change)
        await write(database, change)

    monkeypatch.setattr(Database, "write", counted)
    facts = BoxFacts(hostname="node")
    indexer = RunIndexer(HOST, context, facts, FailureTracker(HOST.name))
    await indexer.index(seen, (seen, snapshot), cast("Reader", None), StabilityTracker(), 0.0, early)
    links = [context.catalogue.knowledge.eval_link(HOST.identity, config.place) for config in early]
    assert [link.training_run for link in links if link is not None] == [T] * 30
    assert len(written) < 5
    context.catalogue.close()
