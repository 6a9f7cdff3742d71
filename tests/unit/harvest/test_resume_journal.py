"""What is on record of a partly fetched file, when its transfer ends while the database is slow."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest

from harvestd.catalogue.entries import Transfer
from harvestd.errors import Retry
from harvestd.harvest.context import Context
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.startup import open_context
from harvestd.harvest.transfer import resume
from harvestd.harvest.transfer.pool import FIRST
from harvestd.harvest.transfer.resume import ResumeJournal
from harvestd.inventory.host import Host
from harvestd.remote.api import ReadRequest
from harvestd.settings.load import load
from harvestd.store.root import DataRoot
from support.far_box import FarBox, lanes_to

pytestmark = pytest.mark.anyio

HOST = Host("static:gpu-a", "gpu-a", "192.0.2.1", "static")


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[tuple[Context, DataRoot]]:
    """Open a context on an empty data root."""
    config = tmp_path / "harvestd.toml"
    config.write_text(f'version = 1\ndata_root = "{tmp_path / "data"}"\n')
    async with open_context(load(config, env={}), NullListener()) as (context, root):
        await context.catalogue_opened.wait()
        yield context, root


async def fetch_until_lost(context: Context, root: DataRoot, box: FarBox) -> None:
    """Fetch the box's file until all links are lost."""

    async def cut_all(request: ReadRequest, _sent: int) -> None:
        await anyio.lowlevel.checkpoint()
        if request.offset >= 2 * FIRST:
            raise Retry("the link is lost")

    box.moment = cut_all
    async with lanes_to(box) as lanes:
        with pytest.raises(Retry, match="lost"):
            await ResumeJournal(HOST, context, root).bring(box.file, lanes, lambda _: None, lambda _: None)


def assert_kept(root: DataRoot, transfers: list[Transfer]) -> None:
    """Check that what the journal counts is in staging."""
    staging = root.path / ".harvestd" / "staging"
    for each in transfers:
        assert (staging / each.name).stat().st_size >= each.synced


async def test_what_is_recorded_stays_in_staging(tmp_path: Path) -> None:
    """A transfer that ends with its links is journalled, and goes on from there."""
    async with opened(tmp_path) as (context, root):
        await fetch_until_lost(context, root, FarBox())
        (transfer,) = await context.catalogue.transfers.all()
        assert transfer.synced > 0
        assert_kept(root, [transfer])


async def test_record_that_is_committed_too_late_to_be_seen_has_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit goes on when its wait is broken off: the staged file must be there then."""
    monkeypatch.setattr(resume, "LAST_MESSAGES", 0.1)
    async with opened(tmp_path) as (context, root):
        save = context.catalogue.transfers.save

        async def slow(transfer: Transfer) -> None:
            with anyio.CancelScope(shield=True):
                await save(transfer)
            await anyio.sleep_forever()

        monkeypatch.setattr(context.catalogue.transfers, "save", slow)
        await fetch_until_lost(context, root, FarBox())
        (transfer,) = await context.catalogue.transfers.all()
        assert_kept(root, [transfer])


async def test_transfer_that_starts_over_has_no_record_of_what_was_dropped(tmp_path: Path) -> None:
    """What the host does not confirm is dropped, and its record as well: a later process must not count on it."""
    async with opened(tmp_path) as (context, root):
        box = FarBox()
        await fetch_until_lost(context, root, box)
        box.content[:] = bytes(len(box.content))
        await fetch_until_lost(context, root, box)
        assert_kept(root, await context.catalogue.transfers.all())
