"""A configuration file that is followed: what is read, what is handed on, and what is told how often."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog.testing
from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError
from watchfiles.main import FileChange

from harvestd.settings import InvalidSettings, Poll, Problem, Settings
from harvestd.settings.reload import Reloading
from harvestd.telemetry.service_manager import ServiceManager
from support.waiting import events, until

pytestmark = pytest.mark.anyio


@dataclass
class Loader:
    """Reads what the test says, and counts."""

    problem: str = ""
    settings: Settings = field(default_factory=Settings)
    calls: int = 0
    adopted: list[Settings] = field(default_factory=list)

    def __call__(self, _: Path) -> Settings:
        """Return the settings, or raise as a file with one mistake does."""
        problem = self.problem
        self.calls += 1
        if problem:
            raise InvalidSettings([Problem("file", "key", problem)])
        return self.settings


@asynccontextmanager
async def following(loader: Loader, file: Path) -> AsyncIterator[Reloading]:
    """Follow a file for the body, from the moment at which it is watched."""
    reloading = Reloading(Settings(), file, loader, ServiceManager({}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reloading.run, loader.adopted.append)
        await until(lambda: loader.calls == 1)
        yield reloading
        tasks.cancel_scope.cancel()


async def test_the_same_mistake_is_told_once_and_again_to_who_asks(tmp_path: Path) -> None:
    """Saving a file that stays wrong in the same way is no news; another mistake is, and so is the answer to HUP."""
    loader = Loader(problem="is wrong")
    file = tmp_path / "harvestd.toml"
    with structlog.testing.capture_logs() as event_log:
        async with following(loader, file) as reloading:
            await until(lambda: len(events(event_log, "config.rejected")) == 1)
            file.write_text("again")
            await until(lambda: loader.calls == 2)
            loader.problem = "is wrong in another way"
            reloading.request()
            await until(lambda: len(events(event_log, "config.rejected")) == 2)
            reloading.request()
            await until(lambda: len(events(event_log, "config.rejected")) == 3)
    told = [one["problems"] for one in events(event_log, "config.rejected")]
    assert told == [["file: key: is wrong"], *[["file: key: is wrong in another way"]] * 2]
    assert loader.adopted == []


async def test_what_was_saved_before_it_was_watched_is_noticed(tmp_path: Path) -> None:
    """Between reading the file and watching it nothing is missed, and what is the same is not handed on twice."""
    loader = Loader(settings=Settings(poll=Poll(interval=timedelta(seconds=3))))
    file = tmp_path / "harvestd.toml"
    with structlog.testing.capture_logs() as event_log:
        async with following(loader, file):
            await until(lambda: loader.adopted == [loader.settings])
            file.write_text("a comment")
            (tmp_path / "another").write_text("of no interest")
            await until(lambda: loader.calls == 2)
    assert len(loader.adopted) == 1
    assert [one["changed"] for one in events(event_log, "config.reloaded")] == [("poll.interval",)]


@pytest.mark.parametrize("error", [OSError("quota"), WatchfilesRustInternalError("no descriptors")], ids=["os", "rust"])
async def test_without_notices_of_the_kernel_the_file_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Where other programs have taken all notices that a user may have, changes are seen all the same."""
    given: list[object] = []

    def limited(*paths: Path, **options: Any) -> AsyncGenerator[set[FileChange], None]:  # noqa: ANN401  (passed on)
        given.append(options["force_polling"])
        if not options["force_polling"]:
            raise error
        return awatch(*paths, **options)

    monkeypatch.setattr("watchfiles.awatch", limited)
    loader = Loader()
    file = tmp_path / "harvestd.toml"
    async with following(loader, file):
        file.write_text("changed")
        await until(lambda: loader.calls == 2)
    assert given == [None, True]


async def test_following_ends_at_once(tmp_path: Path) -> None:
    """The thread that watches holds up nobody who stops the daemon."""
    with anyio.fail_after(2):
        async with following(Loader(), tmp_path / "harvestd.toml"):
            pass
