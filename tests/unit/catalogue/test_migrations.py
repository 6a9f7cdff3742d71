"""Catalogues of earlier versions, as they were written then, opened by this one: nothing of them is lost."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from harvestd.catalogue import queries
from harvestd.catalogue.engine import reading
from harvestd.catalogue.entries import Orphans
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.schema import HEAD
from harvestd.catalogue.state_dir import FILE_NAME, InconsistentRows
from harvestd.convention.paths import decoded
from harvestd.convention.scan.model import LeftOut
from support.older import make_empty

pytestmark = pytest.mark.anyio

NAME = {part: {"value": "x", "source": "test"} for part in ("experiment_name", "date", "model", "hardware", "steps")}
EXPERIMENTS = [
    ("e1", "x_x_x_x_xsteps", json.dumps(NAME), 1.0, None, "[]", 0, None),
    ("e2", "deleted", json.dumps(NAME), 2.0, "deleted", '["before"]', 1, None),
    ("e3", "moved", json.dumps(NAME), 3.0, "moved", "[]", 0, json.dumps(NAME)),
]


def written_at(directory: Path, revision: str) -> None:
    """Make the catalogue of an earlier version, with three experiments of which one is gone."""
    make_empty(directory, revision)
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


def row(target: str | bytes, experiment: str | None, place: str | bytes = "/data/a") -> tuple[object, ...]:
    """Return a row of files as earlier versions wrote it."""
    return (target, "fs-1", place, "gpu-a", experiment, "metrics", 3, 4, 5, -1, 3, "1" * 64, 1.5, "whole", 0)


async def test_files_are_recorded_below_their_experiments(tmp_path: Path) -> None:
    """Each keeps its local path, in any bytes and wherever it is; one of no known experiment waits to be assigned."""
    written_at(tmp_path, "0008")
    odd = b"caf\xe9"
    paths: dict[str | bytes, tuple[str | None, str | None]] = {
        "moved/a": ("e3", "e3"),
        "moved/b/c": ("e3", "e3"),
        b"moved/" + odd: ("e3", "e3"),
        "deleted/a": ("e2", "e2"),
        "_unfiled/gpu-a/e/a": (None, None),
        b"_unfiled/gpu-a/" + odd: (None, None),
        "moved/of another": ("e1", "e3"),
        "nowhere/a": ("e1", None),
        b"nowhere/" + odd: ("e1", None),
        "movedx/a": ("e3", None),
    }
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        rows = [row(path, before) for path, (before, _) in paths.items()]
        rows += [row("moved/lost", "lost"), row(b"moved/lost/" + odd, "lost", b"/" + odd)]
        database.executemany(f"INSERT INTO files VALUES ({', '.join('?' * 15)})", rows)  # noqa: S608
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        found = [file for each in ("e1", "e2", "e3", None) for file in await catalogue.files.files_of(each)]
        assert {str(file.target): file.experiment for file in found} == {
            path if isinstance(path, str) else decoded(path): after for path, (_, after) in paths.items()
        }
        for file in found:
            assert await catalogue.files.holder(file.target) == file
        assert [str(file.target) for file in catalogue.restoring.orphans.files] == [
            "moved/lost",
            decoded(b"moved/lost/" + odd),
        ]
        assert catalogue.restoring.orphans.files[1].place == decoded(b"/" + odd)
        await catalogue.restoring.adopt(Orphans(), [])
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        assert catalogue.restoring.orphans == Orphans()


async def test_rows_that_refer_to_what_is_not_on_record_are_kept(tmp_path: Path) -> None:
    """A run of an unknown experiment, a verdict on an unknown host, a line of one: none of them ends the migration."""
    written_at(tmp_path, "0008")
    facts = json.dumps({"config": {}, "config_version": {"size": 1, "mtime_ns": 2}, "final": None} | {"tunings": []})
    facts = facts.replace('"tunings"', '"final_version": null, "tunings"')
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        for number, experiment in enumerate(("e1", "lost", None)):
            values = (f"r{number}", "fs-1", f"/data/{number}", "gpu-a", f"run_{number}", experiment, facts, None, None)
            database.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        database.execute("INSERT INTO verdicts VALUES ('i-9', 'gpu-z', '{}', 1.0, NULL, NULL)")
        database.execute(
            "INSERT INTO requests (asked_at, kind, storage, place, detail, outcome)"
            " VALUES (1.0, 'judge', 'i-8', 'gpu-y', '{}', ''), (2.0, 'ignore', 'fs-2', '/data/9', '{}', '')"
        )
        columns = "host, experiment, place, entries, reason, identity"
        database.execute(f"INSERT INTO left_out ({columns}) VALUES ('gpu-z', 'lost', '/b', 1, 'rule', NULL)")  # noqa: S608
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        assert [run.id for run in catalogue.knowledge.runs()] == ["r0", "r2"]
        assert [run.id for run in catalogue.restoring.orphans.runs] == ["r1"]
        assert [request.run for request in catalogue.knowledge.open_requests()] == [
            ("i-8", "gpu-y"),
            ("fs-2", "/data/9"),
        ]
        assert catalogue.left_out.on("gpu-z", "i-9") == {None: (LeftOut("/b", None, 1, "rule"),)}
    with reading(tmp_path) as connection:
        assert connection is not None
        assert [host.name for host in queries.hosts(connection)] == ["gpu-a"]


async def test_names_that_differ_in_case_only(tmp_path: Path) -> None:
    """A person may have made such directories: both stay; a new experiment gets none of them."""
    written_at(tmp_path, "0008")
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        values = ("e4", "Moved", json.dumps(NAME), 4.0, "Moved", "[]", 0, None)
        columns = "id, directory, name, created, moved_to, aliases, gone, renaming"
        database.execute(f"INSERT INTO experiments ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        assert {each.directory for each in catalogue.knowledge.experiments()} >= {"moved", "Moved"}
        first = catalogue.knowledge.experiment("e1")
        await catalogue.move_experiment(replace(first, moved_to="MOVED"))
        await catalogue.move_experiment(replace(catalogue.knowledge.experiment("e1"), moved_to="other"))
        with pytest.raises(InconsistentRows):
            await catalogue.move_experiment(replace(catalogue.knowledge.experiment("e1"), moved_to="Moved"))
