"""The spool of notifications: each key once, each delivery until it is made, and receivers that come and go."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harvestd.catalogue import queries
from harvestd.catalogue.entries import Episode, Notification
from harvestd.catalogue.notifications import latest, waiting
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.repository import Catalogue
from harvestd.catalogue.state_dir import FILE_NAME
from support.older import make_empty

pytestmark = pytest.mark.anyio


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    """Provide a new catalogue."""
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        yield catalogue


def died(number: int, run: str = "run_1") -> Notification:
    """Return a notification about a run whose name is not Unicode."""
    return Notification(f"run.died:{run}:{number}", "run.died", run, {"run_id": f"{run}\udcff"}, 100.0 + number)


async def test_a_key_is_recorded_once(catalogue: Catalogue) -> None:
    """With a delivery for each receiver of its event; a second record changes nothing."""
    spool = catalogue.notifications
    receivers = {"run.died": ["webhook:1", "url:1"]}
    for _ in range(2):
        await spool.add([died(1)], receivers)
    await spool.add([Notification("disk.low:/:1", "disk.low", "/", {}, 1.0)], receivers)
    (one,) = await spool.open_deliveries("webhook:1")
    assert (one.notification.payload, one.attempts, one.next_try) == ({"run_id": "run_1\udcff"}, 0, 101.0)
    assert await spool.open_deliveries("command:1") == []
    assert await spool.episodes() == {
        ("run.died", "run_1"): Episode(1, 101.0, None),
        ("disk.low", "/"): Episode(1, 1.0, None),
    }
    await spool.add([died(2)], receivers)
    await spool.end([("disk.low", "/")], 5.0)
    assert (await spool.episodes())[("run.died", "run_1")].number == 2
    assert (await spool.episodes())[("disk.low", "/")].ended == 5.0


async def test_a_delivery_stays_until_it_is_made_or_given_up(catalogue: Catalogue, tmp_path: Path) -> None:
    """Each receiver has its own; what one answered is kept."""
    spool = catalogue.notifications
    await spool.add([died(1), died(2)], {"run.died": ["webhook:1", "url:1"]})
    first, second = (each.notification.id for each in await spool.open_deliveries("url:1"))
    await spool.failed("url:1", [first], "500", 160.0)
    failed = (await spool.open_deliveries("url:1"))[0]
    assert (failed.attempts, failed.next_try) == (1, 160.0)
    await spool.delivered("webhook:1", [first, second], 130.0)
    await spool.drop("url:1", [second])
    assert await spool.open_deliveries("webhook:1") == []
    with queries.questions(tmp_path) as connection:
        newest, oldest = latest(connection, 10)
        assert waiting(connection) == {"url:1": 1}
        assert len(latest(connection, 1)) == 1
    assert (newest.receivers, newest.delivered, newest.dropped, newest.error) == (2, 1, 1, "")
    assert (oldest.receivers, oldest.delivered, oldest.dropped, oldest.error) == (2, 1, 0, "500")


async def test_the_successor_of_a_receiver_gets_what_that_did_not(catalogue: Catalogue) -> None:
    """One of the same kind that was added at the same time; without one it is dropped."""
    spool = catalogue.notifications
    await spool.add([died(1)], {"run.died": ["webhook:1", "url:1"]})
    await spool.adopt(["webhook:1", "url:1"])
    assert len(await spool.open_deliveries("url:1")) == 1
    await spool.adopt(["webhook:2"])
    assert len(await spool.open_deliveries("webhook:2")) == 1
    assert await spool.open_deliveries("webhook:1") == await spool.open_deliveries("url:1") == []
    await spool.adopt(["webhook:2", "url:1"])
    assert await spool.open_deliveries("url:1") == []


async def test_a_catalogue_of_the_version_before_has_an_empty_spool(tmp_path: Path) -> None:
    """Its rows stay; alarms are possible from the first start with this version on."""
    make_empty(tmp_path, "0009")
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        database.execute("INSERT INTO meta VALUES ('data_root', 'root-1')")
        database.execute(
            "INSERT INTO hosts VALUES (1, 'static:gpu-a', 'gpu-a', 1, '192.0.2.1', 'lost', 'probe', 1.0, 2.0, '', 0)"
        )
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        spool = catalogue.notifications
        assert await spool.episodes() == {}
        assert [await spool.since(50.0), await spool.since(60.0)] == [50.0, 50.0]
        assert await spool.last_successes() == {"static:gpu-a": 2.0}
        assert await spool.last_arrival("gpu-a") is None
