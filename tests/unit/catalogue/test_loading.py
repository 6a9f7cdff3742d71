"""Files are in memory only where something needs them, and no answer is given from memory without them."""

import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from harvestd.catalogue import stored_files
from harvestd.catalogue.loading import KEPT
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.repository import Catalogue
from harvestd.catalogue.state_dir import FILE_NAME
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Version
from harvestd.errors import HaltedForSafety
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import FileRecord, NotLoaded, section_of, sections_in
from support.history import experiment, files, loaded, run, write_history

pytestmark = pytest.mark.anyio

FIRST, SECOND = experiment(0), experiment(1)
OF_FIRST = sorted(files(0, 20), key=lambda file: file.target)
METRICS = OF_FIRST[-1]
BASE = OF_FIRST[0]
ODD = "caf\udcff\udce9"
UNFILED = [
    replace(METRICS, target=LocalPath(("_unfiled", host, "eval", name)), place=f"/u/{name}", experiment=None)
    for host in ("gpu-a", "gpu-b", ODD)
    for name in ("metrics.csv", ODD)
]


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Catalogue]:
    """Open the catalogue of a data root, and close it."""
    with closing(open_catalogue(directory, "root-1")) as catalogue:
        yield catalogue


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Make a catalogue with 30 experiments of 20 files from three hosts that are gone; return its directory."""
    write_history(tmp_path, "root-1", 30, 20)
    return tmp_path


def sizes(knowledge: PlanningIndex) -> dict[tuple[str, ...], int]:
    """Return how many files of each section are in memory."""
    return {section: len(knowledge.by_target[section]) for section in knowledge.sections_with_files()}


async def test_nothing_of_past_hosts_is_in_memory(history: Path) -> None:
    """A start reads no file; asking the index for one is an error and no answer."""
    async with opened(history) as catalogue:
        knowledge = catalogue.knowledge
        assert len(knowledge.runs()) == len(knowledge.experiments()) == 30
        assert sizes(knowledge) == {}
        for question in (
            partial(knowledge.holder, METRICS.target),
            partial(knowledge.holder, LocalPath((FIRST.directory, "no such file"))),
            partial(knowledge.files_of, FIRST.id),
            partial(knowledge.passing_of, FIRST.id),
            partial(knowledge.add_file, METRICS),
            partial(knowledge.forget_file, METRICS),
            partial(knowledge.copies, METRICS.storage, METRICS.place),
            partial(knowledge.copies, METRICS.storage, "/no/such/file"),
            partial(knowledge.file, METRICS.storage, METRICS.place, METRICS.target),
            partial(knowledge.alike, METRICS.storage, METRICS.version),
            partial(knowledge.any_below, METRICS.storage, "/data"),
            lambda: list(knowledge.files_from(METRICS.storage)),
        ):
            with pytest.raises(NotLoaded):
                question()
        # What was never on record is known to be nowhere.
        assert knowledge.copies("new", "/data/a") == []
        assert knowledge.holder(LocalPath(("new", "a"))) is None
        assert knowledge.holder(LocalPath(("_unfiled", "gpu-a", "a"))) is None


async def test_a_section_is_loaded_as_a_whole_and_no_other(history: Path) -> None:
    """Base evals are one of their own: all experiments of a model have them."""
    async with opened(history) as catalogue:
        lease = catalogue.files.lease()
        assert await lease.evaluated(partial(catalogue.knowledge.holder, BASE.target)) == BASE
        assert sizes(catalogue.knowledge) == {(FIRST.directory, "base_eval"): 10}
        assert await lease.evaluated(partial(catalogue.knowledge.holder, METRICS.target)) == METRICS
        assert sizes(catalogue.knowledge) == {(FIRST.directory, "base_eval"): 10, (FIRST.directory,): 10}
        assert sorted(catalogue.knowledge.files_of(FIRST.id), key=lambda file: file.target) == OF_FIRST
        with pytest.raises(NotLoaded):
            catalogue.knowledge.copies(METRICS.storage, METRICS.place)


async def test_a_storage_brings_the_sections_of_its_files_and_runs(history: Path) -> None:
    """Whoever looks at the storage then gets every file that came from it, and what lies beside them."""
    async with opened(history) as catalogue:
        lease = catalogue.files.lease()
        assert await lease.evaluated(partial(catalogue.knowledge.copies, METRICS.storage, METRICS.place)) == [METRICS]
        assert len(list(catalogue.knowledge.files_from(METRICS.storage))) == 200
        assert set(sizes(catalogue.knowledge)) == {
            section for number in range(10) for section in sections_in(experiment(number).directory)
        }
        with pytest.raises(NotLoaded):
            catalogue.knowledge.holder(LocalPath((experiment(10).directory, "a")))


async def test_a_lease_at_rest_drops_at_once_what_no_other_needs(history: Path) -> None:
    """What another one needs stays; what is needed again is loaded again."""
    async with opened(history) as catalogue:
        knowledge, lease, other = catalogue.knowledge, catalogue.files.lease(), catalogue.files.lease()
        await lease.load((), [METRICS.storage])
        assert [knowledge.is_light(METRICS.storage, most) for most in (199, 200)] == [False, True]
        await other.load([(FIRST.directory,)])
        await lease.rest()
        assert sizes(knowledge) == {(FIRST.directory,): 10}
        assert await lease.evaluated(partial(knowledge.copies, METRICS.storage, METRICS.place)) == [METRICS]
        assert len(list(knowledge.files_from(METRICS.storage))) == 200


async def test_reading_without_loading(history: Path) -> None:
    """Reports and manifests take the rows from the database, and nothing stays in memory."""
    async with opened(history) as catalogue:
        found = await catalogue.files.files_of(FIRST.id)
        assert sorted(found, key=lambda file: file.target) == OF_FIRST
        assert await catalogue.files.holder(METRICS.target) == METRICS
        assert await catalogue.files.holder(LocalPath((FIRST.directory, "no such file"))) is None
        expected = {(each.target, each.experiment, each.size) for number in range(30) for each in files(number, 20)}
        found_from = [
            await catalogue.files.sizes_from(storage) for storage in sorted({run(n).storage for n in range(30)})
        ]
        assert {(each.target, each.experiment, each.size) for found in found_from for each in found} == expected
        assert await catalogue.files.experiments_with_files() == {experiment(number).id for number in range(30)}
        assert await catalogue.files.experiment_below(METRICS.storage, "/data/eval_runs/run_7_gsm8k") == "e00007"
        assert await catalogue.files.experiment_below(METRICS.storage, "/data/eval_runs/run_") is None
        assert await catalogue.files.experiment_below("new", "/data") is None
        assert sizes(catalogue.knowledge) == {}


async def test_what_is_written_is_loaded_before(history: Path) -> None:
    """A section that is changed is in memory as it is on disk, with what was there before."""
    newer = replace(METRICS, sha256="f" * 64, version=Version(7, 7))
    async with opened(history) as catalogue:
        await catalogue.save_files([newer])
        assert sizes(catalogue.knowledge) == {(FIRST.directory,): 10}
        await catalogue.forget_files([BASE])
        expected = [newer if file == METRICS else file for file in OF_FIRST if file != BASE]
        assert sorted(catalogue.knowledge.files_of(FIRST.id), key=lambda file: file.target) == expected
        await catalogue.record_gone(SECOND)
        assert catalogue.knowledge.files_of(SECOND.id) == []
        moved = replace(experiment(2), moved_to="mine")
        await catalogue.move_experiment(moved)
        assert {file.target.parts[0] for file in catalogue.knowledge.files_of(moved.id)} == {"mine"}
    async with opened(history) as catalogue:
        assert sorted(await catalogue.files.files_of(FIRST.id), key=lambda file: file.target) == expected
        assert await catalogue.files.files_of(SECOND.id) == []
        assert len((await loaded(catalogue)).files_of("e00002")) == 20


async def test_names_of_any_bytes(tmp_path: Path) -> None:
    """A directory or a file whose name is not UTF-8 is found in its section."""
    odd = replace(FIRST, moved_to=ODD)
    of_first = [replace(METRICS, target=LocalPath((ODD, *below))) for below in (("a",), (ODD,), ("base_eval", ODD))]
    of_second = [
        replace(METRICS, target=LocalPath((SECOND.directory, *below)), experiment=SECOND.id)
        for below in (("a", ODD), ("base_eval", ODD), ("base_eval",), ("base_eval-x", "a"), ("base_evaly", ODD))
    ]
    # Other directories sort between the files of one, or have its name and more.
    names = [f"{SECOND.directory}{end}" for end in ("-", "0", "z")]
    others = [replace(METRICS, target=LocalPath((name, "a")), experiment=None) for name in names]
    async with opened(tmp_path) as catalogue:
        for number, each in enumerate((odd, SECOND)):
            await catalogue.save_discovery(each, run(number))
        await catalogue.save_files([*of_first, *of_second, *others, *UNFILED])
    everything = {file.target: file for file in (*of_first, *of_second, *others, *UNFILED)}
    async with opened(tmp_path) as catalogue:
        for target, file in everything.items():
            async with catalogue.files.loaded([section_of(target)]) as lease:
                assert catalogue.knowledge.holder(target) == file
                wanted = {each for each in everything if section_of(each) in lease.sections}
                assert set().union(*(catalogue.knowledge.by_target[each] for each in lease.sections)) == wanted
            await catalogue.files.drop_unused(0.0)
            await catalogue.files.drop_unused(KEPT)
            assert sizes(catalogue.knowledge) == {}
            assert await catalogue.files.holder(target) == file
        assert sorted(await catalogue.files.files_of(SECOND.id), key=str) == sorted(of_second, key=str)
        assert {file.target for file in await catalogue.files.files_of(None)} == {
            file.target for file in (*UNFILED, *others)
        }


async def test_more_than_is_read_at_a_time(tmp_path: Path) -> None:
    """Thousands of files of a section, and of a storage with copies of one file, are read in pieces."""
    write_history(tmp_path, "root-1", 3, 4_500)
    async with opened(tmp_path) as catalogue:
        lease = catalogue.files.lease()
        await lease.load((), ["gone-0"])
        for number in range(3):
            found = catalogue.knowledge.files_of(experiment(number).id)
            assert sorted(found, key=str) == sorted(files(number, 4_500), key=str)
        assert len(list(catalogue.knowledge.files_from("gone-0"))) == 13_500
        lease.release()
        await catalogue.files.drop_unused(0.0)
        await catalogue.files.drop_unused(KEPT)
        assert len(await catalogue.files.files_of(FIRST.id)) == 4_500


async def test_what_nothing_needs_is_dropped_after_a_while(history: Path) -> None:
    """What a lease keeps stays, with all that came from its storages; the rest can be loaded again."""
    async with opened(history) as catalogue:
        knowledge = catalogue.knowledge
        host, report = catalogue.files.lease(), catalogue.files.lease()
        await host.load((), ["gone-0"])
        await report.load([(experiment(20).directory,)])
        await catalogue.files.drop_unused(0.0)
        await catalogue.files.drop_unused(10 * KEPT)
        assert len(sizes(knowledge)) == 21
        host.release()
        await catalogue.files.drop_unused(20 * KEPT)
        assert len(sizes(knowledge)) == 21, "it may be needed again soon"
        await catalogue.files.drop_unused(21 * KEPT)
        assert list(sizes(knowledge)) == [(experiment(20).directory,)]
        assert not knowledge._files["gone-0"]
        with pytest.raises(NotLoaded):
            knowledge.copies(METRICS.storage, METRICS.place)
        with pytest.raises(NotLoaded):
            knowledge.holder(METRICS.target)
        assert len(list((await loaded(catalogue)).files_from("gone-0"))) == 200


async def test_a_file_that_comes_from_a_storage_in_use_keeps_its_section(history: Path) -> None:
    """An answer about the storage must have it, although its host never needed the section before."""
    copy = replace(BASE, target=LocalPath((experiment(20).directory, "base_eval", "b")), experiment="e00020")
    async with opened(history) as catalogue:
        host = catalogue.files.lease()
        await host.load((), [BASE.storage])
        await catalogue.save_files([copy])
        await catalogue.files.drop_unused(0.0)
        await catalogue.files.drop_unused(KEPT)
        assert copy in catalogue.knowledge.copies(BASE.storage, BASE.place)


async def test_a_loading_that_is_cancelled_is_none(tmp_path: Path) -> None:
    """The section counts as unloaded, and is whole when it is loaded again."""
    write_history(tmp_path, "root-1", 1, 9_000)
    async with opened(tmp_path) as catalogue:
        lease = catalogue.files.lease()
        for turns in range(1, 12):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lease.load, [(FIRST.directory,)])
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            if sum(sizes(catalogue.knowledge).values()) < 8_990:
                with pytest.raises(NotLoaded):
                    catalogue.knowledge.holder(METRICS.target)
        await lease.load([(FIRST.directory,), (FIRST.directory, "base_eval")])
        assert sorted(catalogue.knowledge.files_of(FIRST.id), key=str) == sorted(files(0, 9_000), key=str)


async def test_a_row_that_is_not_ours_stops_the_daemon_when_it_is_read(history: Path) -> None:
    """Nothing is planned from a catalogue that something else wrote to."""
    with closing(sqlite3.connect(history / FILE_NAME)) as database, database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute("UPDATE files SET kind = 'cake' WHERE path = ?", ("/".join(METRICS.target[1:]),))
    async with opened(history) as catalogue:
        with pytest.raises(HaltedForSafety, match="did not write"):
            await catalogue.files.lease().load([(FIRST.directory,)])
        with pytest.raises(HaltedForSafety, match="did not write"):
            await catalogue.files.holder(METRICS.target)


class Everything:
    """A catalogue, and what is on record in a dictionary: what it must answer, whatever is in memory."""

    def __init__(self, directory: Path, dice: random.Random) -> None:
        self.directory = directory
        self.dice = dice
        self.files: dict[LocalPath, FileRecord] = {}
        self.experiments = {f"e{number:05}": experiment(number) for number in range(4)}
        self.now = 0.0
        self.start()

    def start(self) -> None:
        """Open the catalogue."""
        self.catalogue = open_catalogue(self.directory, "root-1")
        self.lease = self.catalogue.files.lease()

    async def save(self, turn: int) -> None:
        """Record some files."""
        for file in _some(self.dice, self, turn):
            self.files[file.target] = file
            await self.catalogue.save_files([file])

    async def forget(self, _turn: int) -> None:
        """Delete a record."""
        if self.files:
            gone = self.files.pop(self.dice.choice(list(self.files)))
            await self.catalogue.forget_files([gone])

    async def move(self, turn: int) -> None:
        """Rename an experiment."""
        before = self.catalogue.knowledge.experiment(self.dice.choice(list(self.experiments)))
        after = replace(before, moved_to=f"moved-{turn}", aliases=())
        self.experiments[after.id] = after
        for file in self.of(after.id):
            del self.files[file.target]
            target = LocalPath((after.directory, *file.target.parts[1:]))
            self.files[target] = replace(file, target=target)
        await self.catalogue.move_experiment(after)

    async def drop(self, _turn: int) -> None:
        """Let time pass."""
        self.now += self.dice.choice([1.0, KEPT])
        await self.catalogue.files.drop_unused(self.now)

    async def need(self, _turn: int) -> None:
        """Load something."""
        sections = [section_of(target) for target in self.files if self.dice.random() < 0.1]
        await self.lease.load(sections, self.dice.sample(["s0", "s1"], self.dice.randrange(2)))

    async def rest(self, _turn: int) -> None:
        """Need nothing for now."""
        await self.lease.rest()

    async def release(self, _turn: int) -> None:
        """Need nothing any more."""
        self.lease.release()
        self.lease = self.catalogue.files.lease()

    async def restart(self, _turn: int) -> None:
        """Open the catalogue again."""
        self.catalogue.close()
        self.start()

    def of(self, identifier: str | None) -> list[FileRecord]:
        """Return the files of an experiment."""
        return sorted((file for file in self.files.values() if file.experiment == identifier), key=str)

    def copies(self, storage: str, place: str) -> list[FileRecord]:
        """Return the files from one remote path."""
        found = (file for file in self.files.values() if (file.storage, file.place) == (storage, place))
        return sorted(found, key=str)


@pytest.mark.parametrize("seed", range(25))
async def test_any_order_of_changes_and_drops_leaves_what_is_on_record(tmp_path: Path, seed: int) -> None:
    """Random changes, drops, leases and starts, compared with a dictionary of everything after each."""
    dice = random.Random(seed)  # noqa: S311
    model = Everything(tmp_path, dice)
    deeds = [model.save] * 3 + [
        model.forget,
        model.move,
        model.drop,
        model.need,
        model.rest,
        model.release,
        model.restart,
    ]
    try:
        for number in range(4):
            await model.catalogue.save_discovery(experiment(number), replace(run(number), storage=f"s{number % 2}"))
        for turn in range(60):
            await dice.choice(deeds)(turn)
            await _compare(model.catalogue, model, dice)
    finally:
        model.catalogue.close()


def _some(dice: random.Random, model: Everything, turn: int) -> list[FileRecord]:
    """Return some new files, or new versions of known ones: of experiments, base evals and unfiled evals."""
    place = f"/data/{dice.randrange(6)}"
    file = replace(METRICS, storage=f"s{dice.randrange(3)}", place=place, version=Version(turn, turn))
    kind = dice.choice(["one", "base", "unfiled"])
    if kind == "unfiled":
        target = LocalPath(("_unfiled", f"gpu-{dice.randrange(2)}", str(dice.randrange(4)), dice.choice(["a", ODD])))
        return [replace(file, target=target, experiment=None)]
    homes = list(model.experiments.values()) if kind == "base" else [dice.choice(list(model.experiments.values()))]
    below = ("base_eval", "t") if kind == "base" else ("eval_results", str(dice.randrange(4)))
    return [
        replace(file, target=LocalPath((each.directory, *below, dice.choice(["a", ODD]))), experiment=each.id)
        for each in homes
    ]


async def _compare(catalogue: Catalogue, model: Everything, dice: random.Random) -> None:
    """Ask in a random way: from memory if that answers, or else by loading, or by reading alone."""
    knowledge = catalogue.knowledge
    targets = [*model.files, LocalPath(("nowhere", "a"))]
    for target in dice.sample(targets, min(3, len(targets))):
        expected = model.files.get(target)
        try:
            assert knowledge.holder(target) == expected
        except NotLoaded:
            assert await catalogue.files.holder(target) == expected
    for storage in ("s0", "s1", "s2"):
        place = f"/data/{dice.randrange(6)}"
        try:
            assert sorted(knowledge.copies(storage, place), key=str) == model.copies(storage, place)
        except NotLoaded:
            if dice.random() < 0.3:
                lease = catalogue.files.lease()
                found = await lease.evaluated(partial(knowledge.copies, storage, place))
                assert sorted(found, key=str) == model.copies(storage, place)
                lease.release()
    identifier = dice.choice([None, *model.experiments])
    assert sorted(await catalogue.files.files_of(identifier), key=str) == model.of(identifier)


async def test_the_queries_use_indexes(history: Path) -> None:
    """None of them reads the whole table."""
    with closing(sqlite3.connect(history / FILE_NAME)) as database:
        for statement, values in {
            stored_files.IN_RANGE: ("a", "a", "b", 1),
            stored_files.AT: ("a", "a"),
            stored_files.FORGET: ("a", "a"),
            stored_files.FROM_STORAGE: ("a", "b", 1, 1),
            stored_files.SIZES_FROM: ("a",),
            stored_files.BELOW_PLACE: ("a", "b", "c"),
        }.items():
            plan = [row[-1] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert any(step.startswith("SEARCH files USING INDEX") for step in plan), plan
            assert not any("SCAN" in step or "TEMP B-TREE FOR ORDER" in step for step in plan), plan
