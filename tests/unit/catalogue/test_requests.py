"""Requests in the catalogue: written by a second process, noticed, taken, settled, and there after a restart."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from sqlalchemy import Connection, text

from harvestd.catalogue import queries
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.repository import Catalogue
from harvestd.catalogue.requests import record_request
from harvestd.catalogue.state_dir import FILE_NAME
from harvestd.convention.scan.model import LeftOut
from harvestd.planning.requests import Request, RequestKind
from support.command import environment

pytestmark = pytest.mark.anyio

RUN = ("fs-1", "/data/caf\udce9/run_2025-08-20_03-31-43")
OTHER = ("fs-1", "/data/run_2025-08-21_03-31-43")
RECORDS = {"thing": "records"}
_MANY = 40
_ASKING = """
import sys
from pathlib import Path
from harvestd.catalogue.requests import record_request
from harvestd.planning.requests import RequestKind
for number in range(int(sys.argv[2])):
    record_request(Path(sys.argv[1]), RequestKind.FETCH, ("fs-1", f"/data/{number}"), {"thing": "records"})
"""


def requests(state: Path) -> list[Request]:
    """Return all that is on record."""
    with queries.questions(state) as connection:
        return queries.requests(connection)


async def test_a_request_is_taken_once_and_settled(tmp_path: Path) -> None:
    """What a command wrote is learned by who has the catalogue open, and stays in force after it is settled."""
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        number = record_request(tmp_path, RequestKind.FETCH, RUN, RECORDS)
        (taken,) = await catalogue.requests.take()
        assert (taken.id, taken.run, taken.thing, taken.is_open) == (number, RUN, "records", True)
        assert await catalogue.requests.take() == []
        assert catalogue.knowledge.open_requests() == [taken]
        await catalogue.requests.settle(taken, "1 file is here")
        assert catalogue.knowledge.open_requests() == []
        assert catalogue.knowledge.requests_for(*RUN).records is not None
    (kept,) = requests(tmp_path)
    assert kept.taken_at is not None
    assert (kept.is_open, kept.outcome, kept.place) == (False, "1 file is here", RUN[1])


async def test_requests_are_there_after_a_restart(tmp_path: Path) -> None:
    """One that was never taken, one that is outstanding and one that is settled all count for planning."""
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        record_request(tmp_path, RequestKind.IGNORE, OTHER, {})
        record_request(tmp_path, RequestKind.FETCH, RUN, RECORDS)
        ignored, _ = await catalogue.requests.take()
        await catalogue.requests.settle(ignored, "done")
    record_request(tmp_path, RequestKind.FETCH, RUN, {"thing": "step_40"})
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        assert catalogue.knowledge.requests_for(*OTHER).ignored is not None
        assert set(catalogue.knowledge.requests_for(*RUN).things) == {"records", "step_40"}
        assert [each.thing for each in await catalogue.requests.take()] == ["step_40"]


async def test_changes_of_others_are_noticed(tmp_path: Path) -> None:
    """Who listens hears once of each time that anybody wrote, and of nothing while nobody does."""
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue, closing(catalogue.requests.changes()) as changes:
        assert changes.seen()
        assert not changes.seen()
        record_request(tmp_path, RequestKind.FETCH, RUN, RECORDS)
        assert changes.seen()
        assert not changes.seen()


async def _write_on(catalogue: Catalogue, scope: anyio.CancelScope) -> int:
    """Commit again and again, as a daemon does that brings much home; gives how often."""
    count = 0
    with scope:
        while True:
            count += 1
            await anyio.lowlevel.checkpoint()
            await catalogue.left_out.save("gpu-a", "i-gpu-a", {None: (LeftOut(f"/data/{count}", 1, 1, "rule"),) * 500})
    return count


async def test_two_processes_write_at_once(tmp_path: Path) -> None:
    """While one commits without a pause the other's requests wait for their turn; none fails, none is lost."""
    written: list[int] = []
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        scope = anyio.CancelScope()

        async def write() -> None:
            written.append(await _write_on(catalogue, scope))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            command = [sys.executable, "-c", _ASKING, str(tmp_path), str(_MANY)]
            done = await anyio.to_thread.run_sync(
                lambda: subprocess.run(
                    command, check=False, capture_output=True, text=True, env=environment(), timeout=60
                )
            )
            scope.cancel()
        assert (done.returncode, done.stderr) == (0, "")
        assert written[0] > _MANY
        assert len(await catalogue.requests.take()) == _MANY
    assert {each.place for each in requests(tmp_path)} == {f"/data/{number}" for number in range(_MANY)}


async def test_a_transaction_has_its_turn_from_its_begin(tmp_path: Path) -> None:
    """One that reads before it writes is not overtaken in between, which SQLite would not let it survive."""
    refused: list[str] = []

    def change(connection: Connection) -> None:
        connection.execute(text("SELECT count(*) FROM requests"))
        with closing(sqlite3.connect(tmp_path / FILE_NAME, timeout=0)) as other:
            try:
                other.execute("INSERT INTO meta VALUES ('a', 'b')")
            except sqlite3.OperationalError as e:
                refused.append(str(e))

    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        await catalogue.database.write(change)
    assert refused == ["database is locked"]
