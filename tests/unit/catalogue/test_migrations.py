"""Catalogues of earlier versions, as they were written then, opened by this one: nothing of them is lost."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from msgspec.structs import replace

from harvestd.catalogue.engine import open_engine
from harvestd.catalogue.host_keys import FILE_NAME
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.schema import HEAD
from harvestd.convention.scan.model import LeftOut

pytestmark = pytest.mark.anyio

NAME = {part: {"value": "x", "source": "test"} for part in ("experiment_name", "date", "model", "hardware", "steps")}
EXPERIMENTS = [
    ("e1", "x_x_x_x_xsteps", json.dumps(NAME), 1.0, None, "[]", 0, None),
    ("e2", "deleted", json.dumps(NAME), 2.0, "deleted", '["before"]', 1, None),
    ("e3", "moved", json.dumps(NAME), 3.0, "moved", "[]", 0, json.dumps(NAME)),
]


def written_at(directory: Path, revision: str) -> None:
    """Make the catalogue of an earlier version, with three experiments of which one is gone."""
    engine = open_engine(directory)
    config = Config()
    config.set_main_option("script_location", "harvestd.catalogue:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with closing(sqlite3.connect(directory / FILE_NAME)) as database, database:
        database.execute("INSERT INTO meta VALUES ('data_root', 'root-1')")
        columns = "id, directory, name, created, moved_to, aliases, gone, renaming"
        database.executemany(f"INSERT INTO experiments ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", EXPERIMENTS)  # noqa: S608
        database.execute(
            "INSERT INTO left_out (host, experiment, place, size, entries, reason) VALUES (?, ?, ?, ?, ?, ?)",
            ("gpu-a", "e1", "/data/run_1/step_10", 5, 1, "rule"),
        )
        database.execute(
            "INSERT INTO hosts VALUES ('gpu-a', 'i-1', '192.0.2.1', 'connected', 'probe', 1.0, 2.0, '', 0)"
        )


async def test_experiments_are_kept_and_a_name_that_was_given_up_is_free(tmp_path: Path) -> None:
    """What is on record stays so; an experiment that is here may get the name of one that was taken away."""
    written_at(tmp_path, "0006")
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        first, gone, moved = catalogue.knowledge.experiments()
        assert (first.id, gone.id, moved.id) == ("e1", "e2", "e3")
        assert (gone.gone, gone.directory, gone.aliases) == (True, "deleted", ("before",))
        assert list(await catalogue.intended_renames()) == ["e3"]
        await catalogue.move_experiment(replace(first, moved_to="deleted"))
        assert not catalogue.restoring.is_pending
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
        found = database.execute("SELECT id, directory, created FROM experiments ORDER BY id").fetchall()
    assert found == [("e1", "deleted", 1.0), ("e2", "deleted", 2.0), ("e3", "moved", 3.0)]


async def test_what_was_left_out_belongs_to_the_host_that_was_called_so(tmp_path: Path) -> None:
    """Lines of a known host are its own under any name; those of a name that no host has wait for one."""
    written_at(tmp_path, "0006")
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        database.execute(
            "INSERT INTO left_out (host, experiment, place, size, entries, reason) VALUES (?, ?, ?, ?, ?, ?)",
            ("gpu-z", "e1", "/data/run_1/step_20", 7, 1, "rule"),
        )
    first, second = LeftOut("/data/run_1/step_10", 5, 1, "rule"), LeftOut("/data/run_1/step_20", 7, 1, "rule")
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        assert catalogue.left_out.of("e1") == [("gpu-a", first), ("gpu-z", second)]
        assert await catalogue.left_out.save("renamed", "i-1", {"e1": (first,)}) == {"e1"}
        assert not await catalogue.left_out.save("gpu-z", "i-9", {"e1": (second,)})
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        assert catalogue.left_out.of("e1") == [("gpu-z", second), ("renamed", first)]
        assert catalogue.left_out.on("other", "i-9") == {"e1": (second,)}
