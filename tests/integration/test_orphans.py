"""Rows whose experiment is not on record: put right at a start, and nothing is fetched twice for it."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

import pytest

from harvestd import failpoints
from harvestd.catalogue.repository import Catalogue
from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import DiskFull
from harvestd.planning.records import ExperimentRecord, RunRecord
from support.house import Workstation
from support.older import write_as
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=8)


async def begun(workstation: Workstation) -> RunWriter:
    """Bring a run home that goes on."""
    writer = RunWriter(workstation.add_box().root, RUN)
    writer.start()
    writer.log_until(4)
    await workstation.once()
    return writer


def change(workstation: Workstation, *statements: str) -> None:
    """Change the catalogue as an earlier version left it: the present one's tables refuse such rows."""
    write_as(workstation.state, "0008")
    with closing(sqlite3.connect(workstation.state / "catalogue.sqlite")) as database, database:
        for statement in statements:
            assert database.execute(statement).rowcount > 0, statement


def directories(workstation: Workstation) -> list[str]:
    """Return the experiments' directories."""
    return sorted(path.name for path in workstation.data.iterdir() if path.is_dir() and not path.name.startswith("."))


async def test_full_disk_at_a_discovery_leaves_no_contradiction(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue has no room for a run that is found: it is found again when there is; every later start works."""
    writer = RunWriter(workstation.add_box().root, RUN)
    writer.start()
    writer.log_until(4)
    save = Catalogue.save_discovery
    refused: list[str] = []

    def full() -> None:
        refused.append("full")
        raise DiskFull("the catalogue can't be used: database or disk is full")

    async def saved(self: Catalogue, experiment: ExperimentRecord, run: RunRecord) -> None:
        if refused:
            await save(self, experiment, run)
            return
        with failpoints.armed("catalogue.changed", full):
            await save(self, experiment, run)

    monkeypatch.setattr(Catalogue, "save_discovery", saved)
    monkeypatch.setattr("harvestd.harvest.budgets.FIRST_PAUSE", 0.2)
    async with workstation.running() as event_log:
        await until(workstation.follows(writer), seconds=60)
        assert refused
        writer.log_until(6)
        await until(workstation.follows(writer))
        assert len(events(event_log, "run.discovered")) == 1
    (directory,) = directories(workstation)
    writer.log_until(7)
    await workstation.once()
    assert workstation.follows(writer)()
    assert directories(workstation) == [directory]
    workstation.audit()


LOST: dict[str, Sequence[str]] = {
    "the experiment's row": ["DELETE FROM experiments"],
    "the row of the experiment and of the run": ["DELETE FROM experiments", "DELETE FROM runs"],
    "another id in the files": ["UPDATE files SET experiment = 'lost'"],
    "another id in the run": ["UPDATE runs SET experiment = 'lost'"],
    "another id in both": ["UPDATE files SET experiment = 'lost'", "UPDATE runs SET experiment = 'lost'"],
}


@pytest.mark.parametrize(
    ("lost", "manifest"),
    [
        *((lost, manifest) for lost in LOST for manifest in ("there", "gone")),
        ("another id in the files", "of the lost one"),
        ("another id in both", "of the lost one"),
    ],
)
async def test_rows_without_an_experiment_are_put_right(workstation: Workstation, lost: str, manifest: str) -> None:
    """The daemon starts, the files stay where they are on record, and the run goes on in its directory."""
    writer = await begun(workstation)
    (directory,) = directories(workstation)
    before = workstation.catalogue("SELECT target, sha256 FROM files ORDER BY target")
    if manifest == "gone":
        (workstation.data / directory / "manifest.json").unlink()
    if manifest == "of the lost one":
        path = workstation.data / directory / "manifest.json"
        ((identifier,),) = workstation.catalogue("SELECT id FROM experiments")
        path.write_text(path.read_text().replace(str(identifier), "lost"))
    change(workstation, *LOST[lost])
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "catalogue.repaired"))
        writer.log_until(6)
        await until(workstation.follows(writer))
    assert directories(workstation) == [directory]
    after = workstation.catalogue("SELECT target, experiment FROM files ORDER BY target")
    assert [target for target, _ in before] == [target for target, _ in after]
    assert {(experiment,) for _, experiment in after} == set(workstation.catalogue("SELECT id FROM experiments"))
    (again,) = (await workstation.once()).values()
    assert again.files == 0
    workstation.audit()
