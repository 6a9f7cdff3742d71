"""Intents over a change of schema: what the last version was about to publish is not forgotten by the next."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import pytest
from alembic import command
from alembic.config import Config

from harvestd.catalogue.engine import open_engine
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.repository import Catalogue
from harvestd.catalogue.state_dir import FILE_NAME
from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath, decoded
from harvestd.convention.scan.snapshot import Version
from harvestd.planning.records import FileRecord

pytestmark = pytest.mark.anyio

NAMES = ("metrics.csv", decoded(b"caf\xe9.csv"))
COLUMNS = [
    "target",
    "storage",
    "place",
    "host",
    "experiment",
    "kind",
    "remote_size",
    "mtime_ns",
    "ctime_ns",
    "inode",
    "size",
    "sha256",
    "fetched_at",
]


def record(name: str) -> FileRecord:
    """Make the record of one file."""
    version = Version(3, 4, 5, 2**64 - 1)
    path = LocalPath(("exp", name))
    return FileRecord("fs-1", f"/data/{name}", path, "gpu-a", None, Kind.METRICS, version, 3, "1" * 64, 1.5, "whole")


def older_catalogue(directory: Path) -> sqlite3.Connection:
    """Make a catalogue as the first version had it, and open it."""
    engine = open_engine(directory)
    config = Config()
    config.set_main_option("script_location", "harvestd.catalogue:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO meta VALUES ('data_root', 'root-1')")
    engine.dispose()
    return sqlite3.connect(directory / FILE_NAME)


async def opened(directory: Path) -> Catalogue:
    """Open the catalogue."""
    return await anyio.to_thread.run_sync(open_catalogue, directory, "root-1")


async def test_intents_of_the_first_version_are_carried_over(tmp_path: Path) -> None:
    """One row a file becomes one intent for all, in any bytes."""
    with closing(older_catalogue(tmp_path)) as database, database:
        for name in NAMES:
            values = [f"exp/{name}", "fs-1", f"/data/{name}", "gpu-a", None, "metrics", 3, 4, 5, -1, 3, "1" * 64, 1.5]
            row = json.dumps(dict(zip([*COLUMNS, "reason", "marker"], [*values, "whole", False], strict=True)))
            target = f"exp/{name}".encode("utf-8", "surrogateescape")
            database.execute("INSERT INTO intents VALUES (?, ?)", (target, row))
    with closing(await opened(tmp_path)) as catalogue:
        (intent,) = await catalogue.intents()
        assert sorted(intent.files, key=str) == sorted(map(record, NAMES), key=str)
        await catalogue.save_files(intent.files, [intent])
    with closing(await opened(tmp_path)) as catalogue:
        assert await catalogue.intents() == []
        assert await catalogue.files.holder(LocalPath(("exp", NAMES[1]))) == record(NAMES[1])


async def test_a_catalogue_without_intents_gets_none(tmp_path: Path) -> None:
    """The usual case: nothing was under way when the older version ended."""
    older_catalogue(tmp_path).close()
    with closing(await opened(tmp_path)) as catalogue:
        assert await catalogue.intents() == []
        intent = await catalogue.intend([record(NAMES[1])])
        assert await catalogue.intents() == [intent]


async def test_what_is_given_up_is_remembered_until_it_is_gone(tmp_path: Path) -> None:
    """Its rows go and an intent comes, both or neither; the next process learns what was to be removed."""
    files = [record(name) for name in NAMES]
    catalogue = await opened(tmp_path)
    try:
        await catalogue.save_files(files)
        intent = await catalogue.give_up(files[:1])
        assert [await catalogue.files.holder(file.target) for file in files] == [None, files[1]]
        assert await catalogue.intents() == [intent]
    finally:
        catalogue.close()
    catalogue = await opened(tmp_path)
    try:
        assert [await catalogue.files.holder(file.target) for file in files] == [None, files[1]]
        assert await catalogue.intents() == [intent]
        assert intent.files == (files[0],)
        await catalogue.save_files([], [intent])
        assert await catalogue.intents() == []
    finally:
        catalogue.close()
