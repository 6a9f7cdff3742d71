"""Small files on their way to staging: what waits for its turn there ends at once when it is cancelled."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
import pytest

from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath, RemotePath
from harvestd.convention.scan.model import Source
from harvestd.convention.scan.snapshot import Tree, TreeKind, Version
from harvestd.harvest.context import Context
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.transfer.publish import Publisher
from harvestd.harvest.transfer.small import SmallFileFetcher
from harvestd.inventory.host import Host
from harvestd.planning.plan import FetchFile, FetchGroup, Target
from harvestd.remote.api import ReadEvent, ReadRequest, Whole
from harvestd.settings import Settings
from harvestd.store.root import DataRoot
from support.waiting import until

pytestmark = pytest.mark.anyio

TREE = Tree("/data", "eval_runs", TreeKind.EVAL)
HOSTS = 100
LONG = 20.0
"""Seconds for which others are at work on the disk."""


class Reader:
    """Sends every file that is asked for."""

    hashes_there = True

    @asynccontextmanager
    async def reading(self, requests: Sequence[ReadRequest]) -> AsyncIterator[AsyncIterator[ReadEvent]]:
        """Answer."""
        yield self._answers(requests)

    async def _answers(self, requests: Sequence[ReadRequest]) -> AsyncIterator[ReadEvent]:
        for request in requests:
            yield Whole(request, Version(1, 1), b"\0" * 32, b"x")


async def test_what_waits_for_its_turn_at_the_disk_ends_at_once(tmp_path: Path) -> None:
    """A hundred hosts wait with a batch each while others write: a cancellation does not wait for any of them."""
    context = Context.of(Settings.model_validate({"data_root": tmp_path}), NullListener())
    host = Host("static:gpu-a", "gpu-a", "192.0.2.1", "static")
    others = [object() for _ in range(int(context.budgets.storing.total_tokens))]
    source = Source(TREE, RemotePath(("leaf", "metrics.csv")), Version(1, 1))
    file = FetchFile(source, Kind.METRICS, (Target(LocalPath(("e", "metrics.csv")), None),), "")
    with DataRoot.open(tmp_path) as root:
        collecting = SmallFileFetcher(host, context, root, cast("Publisher", None), FailureTracker("gpu-a"))
        for each in others:
            context.budgets.storing.acquire_on_behalf_of_nowait(each)

        async def be_done() -> None:
            await anyio.sleep(LONG)
            for each in others:
                context.budgets.storing.release_on_behalf_of(each)

        async with anyio.create_task_group() as working:
            working.start_soon(be_done)
            async with anyio.create_task_group() as tasks:
                for _ in range(HOSTS):
                    tasks.start_soon(collecting.fetch, [FetchGroup("/data/leaf", (file,))], Reader())
                await until(lambda: context.budgets.storing.statistics().tasks_waiting == HOSTS)
                began = time.monotonic()
                tasks.cancel_scope.cancel()
            took = time.monotonic() - began
            working.cancel_scope.cancel()
        assert took < LONG / 2
        assert context.budgets.memory.has(context.budgets.memory.total)
