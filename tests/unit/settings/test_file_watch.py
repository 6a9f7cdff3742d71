"""Files that somebody else writes: where nobody tells of their changes, who asks is told to look."""

from pathlib import Path

import anyio
import pytest
from watchfiles._rust_notify import WatchfilesRustInternalError

from harvestd.settings import reload
from support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("gone since we looked"),
        PermissionError("not to be listed"),
        ExceptionGroup("from the thread that watches", [WatchfilesRustInternalError("not to be listed")]),
    ],
    ids=["gone", "at once", "from its thread"],
)
async def test_what_can_not_be_watched_is_told_every_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A directory that may not be listed, by notices or by polling, ends nothing and leaves nobody without news."""
    told: list[int] = []

    def refused(*_: Path, **__: object) -> None:
        raise error

    monkeypatch.setattr("watchfiles.awatch", refused)
    monkeypatch.setattr(reload, "ASK_EVERY", 0.01)
    async with anyio.create_task_group() as tasks:
        await tasks.start(reload.watch, [tmp_path / "file"], lambda: told.append(1))
        await until(lambda: len(told) >= 3)
        tasks.cancel_scope.cancel()
