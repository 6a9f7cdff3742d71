"""Files of targets while they change: what is published, what is told, and what a bad file leaves as it was."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import anyio
import pytest
import structlog.testing

from harvestd.inventory import file_sd
from harvestd.inventory.file_sd import BadTargets, TargetsFiles
from harvestd.inventory.host import Host
from harvestd.settings import Targets
from support.waiting import EventLog, events, until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again sooner than anybody has to."""
    monkeypatch.setattr("harvestd.settings.reload.QUIET", 50)
    monkeypatch.setattr(file_sd, "SECOND_CHECK", timedelta(seconds=0.2))


def text(*names: str) -> str:
    """Return the JSON of a file that names these boxes."""
    return json.dumps([{"targets": ["192.0.2.1"], "labels": {"name": name}} for name in names])


def put(file: Path, content: str) -> None:
    """Rename a file into place."""
    new = file.with_name("new")
    new.write_text(content)
    new.rename(file)


class Followed:
    """A provider that runs, and what it published and told."""

    def __init__(self, *files: Path) -> None:
        self.provider = TargetsFiles(Targets(files=files))
        self.sets: list[set[str]] = []
        self.event_log: EventLog = []

    def publish(self, hosts: frozenset[Host]) -> None:
        """Take a set, by its names."""
        self.sets.append({host.name for host in hosts})

    async def names(self, *names: str) -> None:
        """Wait until these were published last."""
        await until(lambda: self.sets[-1:] == [set(names)], 30)

    async def told(self, event: str, count: int) -> None:
        """Wait until an event was told so often."""
        await until(lambda: len(events(self.event_log, event)) == count, 30)


@asynccontextmanager
async def followed(*files: Path) -> AsyncIterator[Followed]:
    """Follow files for the body."""
    following = Followed(*files)
    with structlog.testing.capture_logs() as following.event_log:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(following.provider.run, following.publish)
            yield following
            tasks.cancel_scope.cancel()


async def test_a_file_is_followed_however_it_is_written(tmp_path: Path) -> None:
    """Renamed into place, written in place, behind a link that is turned: each time its boxes are published, once."""
    file = tmp_path / "targets.json"
    file.write_text(text("a"))
    async with followed(file) as following:
        await following.names("a")
        put(file, text("a", "b"))
        await following.names("a", "b")
        file.write_text(text("a", "b", "c"))
        await following.names("a", "b", "c")
        elsewhere = tmp_path / "elsewhere" / "first.json"
        elsewhere.parent.mkdir()
        elsewhere.write_text(text("a", "b", "c", "d"))
        link = tmp_path / "link"
        link.symlink_to(elsewhere)
        link.rename(file)
        await following.names("a", "b", "c", "d")
        elsewhere.write_text(text("a", "b", "c", "d", "e"))
        await following.names("a", "b", "c", "d", "e")
        put(file, "[]")
        await following.names()
    assert len(following.sets) == 6
    assert following.event_log == []


async def test_a_directory_may_come_later_go_and_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is there the provider has nothing to publish; while it is gone, what it held is believed."""
    monkeypatch.setattr("harvestd.settings.reload.ASK_EVERY", 0.1)
    file = tmp_path / "a" / "b" / "targets.json"
    async with followed(file) as following:
        await following.told("inventory.failed", 1)
        assert following.sets == []
        file.parent.parent.mkdir()
        file.parent.mkdir()
        file.write_text(text("a"))
        await following.names("a")
        await following.told("inventory.recovered", 1)
        shutil.rmtree(file.parent.parent)
        await following.told("inventory.failed", 2)
        assert following.sets == [{"a"}]
        file.parent.mkdir(parents=True)
        file.write_text(text("a", "b"))
        await following.names("a", "b")


async def test_a_bad_file_changes_nothing_and_every_problem_is_told_once(tmp_path: Path) -> None:
    """Torn, wrong, missing: the boxes stay; saving the same mistakes again is no news, another one is."""
    file = tmp_path / "targets.json"
    file.write_text(text("a", "b"))
    async with followed(file) as following:
        await following.names("a", "b")
        file.write_text(text("a", "b")[:-9])
        await following.told("inventory.failed", 1)
        put(file, text("a b", "../c"))
        await following.told("inventory.failed", 2)
        (_, wrong) = events(following.event_log, "inventory.failed")
        assert [str(each).split(": ")[:2] for each in wrong["problems"]] == [
            [str(file), "[0].labels.name"],
            [str(file), "[1].labels.name"],
        ]
        assert (wrong["source"], wrong["hosts"]) == ("targets", 2)
        put(file, text("a b", "../c"))
        file.unlink()
        await following.told("inventory.failed", 3)
        os.mkfifo(file)
        await following.told("inventory.failed", 4)
        file.unlink()
        file.write_text(text("a", "b"))
        await following.told("inventory.recovered", 1)
    assert following.sets == [{"a", "b"}]


async def test_one_bad_file_holds_up_no_other_and_a_name_belongs_to_the_first(tmp_path: Path) -> None:
    """Each file is its own: what the second says of a box of the first is told, and not believed."""
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    first.write_text("[")
    second.write_text(text("b"))
    async with followed(first, second) as following:
        await following.names("b")
        put(first, text("a"))
        await following.names("a", "b")
        await following.told("inventory.recovered", 1)
        put(second, text("a", "b", "c"))
        await following.names("a", "b", "c")
        await following.told("inventory.failed", 2)
        assert f"stands in {first}, too" in str(events(following.event_log, "inventory.failed")[1]["problems"])


async def test_who_is_gone_is_told_by_a_second_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is written slowly, line by line, is whole YAML all the time: nobody leaves over it."""
    monkeypatch.setattr(file_sd, "SECOND_CHECK", timedelta(seconds=30))
    file = tmp_path / "targets.yaml"
    lines = [f"- {{targets: [192.0.2.1], labels: {{name: {name}}}}}\n" for name in "abc"]
    file.write_text("".join(lines))
    async with followed(file) as following:
        await following.names("a", "b", "c")
        with file.open("w") as writing:
            for line in [*lines, "- {targets: [192.0.2.1], labels: {name: d}}\n"]:
                looks = following.provider._files[0]
                writing.write(line)
                writing.flush()
                if line in lines[:2]:
                    await until(partial(doubts, looks, file.read_bytes()))
        await following.names("a", "b", "c", "d")
        assert following.sets == [{"a", "b", "c"}, {"a", "b", "c", "d"}]
        monkeypatch.setattr(file_sd, "SECOND_CHECK", timedelta(seconds=0.1))
        put(file, lines[0])
        await following.names("a")


def doubts(file: file_sd.File, content: bytes) -> bool:
    """Return whether this content was seen, and not believed yet."""
    return file._doubted == sha256(content).digest()


async def test_a_reload_changes_the_files_and_keeps_what_both_name(tmp_path: Path) -> None:
    """A file that is named no more takes its boxes along; one that stays is not forgotten, bad as it may be now."""
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    first.write_text(text("a"))
    second.write_text(text("b"))
    async with followed() as following:
        await following.names()
        following.provider.replace(Targets(files=(first, second)))
        await following.names("a", "b")
        second.write_text("")
        await following.told("inventory.failed", 1)
        following.provider.replace(Targets(files=(second,)))
        await following.names("b")
        following.provider.replace(Targets())
        await following.names()


async def test_who_asks_once_learns_what_can_be_learned(tmp_path: Path) -> None:
    """The boxes of the good file are known beside the problems of the bad one."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(text("a"))
    provider = TargetsFiles(Targets(files=(good, bad)))
    with pytest.raises(BadTargets, match="can't be read: No such file"):
        await provider.query()
    assert {host.name for host in provider.hosts} == {"a"}
