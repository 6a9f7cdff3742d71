"""What is known, indexed."""

from msgspec.structs import replace

from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Version
from harvestd.planning.file_index import LARGE
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import FileRecord, RunRecord
from support.box_trees import QWEN


def record(target: str, place: str = "/r/a", *, storage: str = "s", experiment: str | None = "e") -> FileRecord:
    """Make a file's record."""
    path = LocalPath.parse(target)
    return FileRecord(storage, place, path, "h", experiment, Kind.METRICS, Version(1, 2), 1, "0" * 64, 0.0, "wanted")


def test_a_file_is_found_by_source_target_and_experiment() -> None:
    """One record answers under each of its keys, and under no other."""
    knowledge = PlanningIndex()
    one, two = record("d/a"), record("d/b")
    knowledge.add_file(one)
    knowledge.add_file(two)
    assert knowledge.file("s", "/r/a", one.target) == one
    assert knowledge.file("s", "/r/other", one.target) is None
    assert knowledge.copies("s", "/r/a") == [one, two]
    assert knowledge.copies("other", "/r/a") == []
    assert knowledge.holder(two.target) == two
    assert knowledge.files_of("e") == [one, two]
    assert knowledge.files_of(None) == []


def test_a_newer_record_takes_the_place_of_the_older() -> None:
    """Learning the same file again changes one record and adds none."""
    knowledge = PlanningIndex()
    knowledge.add_file(record("d/a"))
    newer = replace(record("d/a"), version=Version(5, 6), experiment="f")
    knowledge.add_file(newer)
    assert knowledge.copies("s", "/r/a") == [newer]
    assert knowledge.files_of("e") == []
    assert knowledge.files_of("f") == [newer]


def test_a_place_at_home_has_one_record() -> None:
    """When another source's file is adopted at a place, the record of the first one is gone, as it is on disk."""
    knowledge = PlanningIndex()
    knowledge.add_file(record("d/a", "/r/a"))
    second = record("d/a", "/r/b", storage="t")
    knowledge.add_file(second)
    assert knowledge.holder(second.target) == second
    assert knowledge.copies("s", "/r/a") == []
    assert knowledge.files_of("e") == [second]


def test_forgetting_an_outdated_record_forgets_the_file() -> None:
    """What is forgotten is the file's record as it stands by now, in every index."""
    knowledge = PlanningIndex()
    old = record("d/a")
    knowledge.add_file(old)
    knowledge.add_file(replace(old, version=Version(9, 9)))
    knowledge.forget_file(old)
    assert knowledge.holder(old.target) is None
    assert knowledge.copies("s", "/r/a") == []
    assert knowledge.files_of("e") == []
    knowledge.forget_file(old)


def test_forgetting_does_not_touch_who_stands_there_by_now() -> None:
    """A record of another source at the same place stays."""
    knowledge = PlanningIndex()
    old, other = record("d/a", "/r/a"), record("d/a", "/r/b")
    knowledge.add_file(old)
    knowledge.add_file(other)
    knowledge.forget_file(old)
    assert knowledge.holder(other.target) == other


def test_questions_leave_no_traces() -> None:
    """Asking for what is not there must not make memory grow."""
    knowledge = PlanningIndex()
    for i in range(3):
        place = f"/r/{i}"
        assert knowledge.file("s", place, LocalPath.parse("d/a")) is None
        assert knowledge.copies("s", place) == []
        assert knowledge.runs_named(place) == []
        assert knowledge.files_of(place) == []
        knowledge.forget_file(record("d/a", place))
    assert not knowledge._files
    assert not knowledge._runs_by_name
    assert not knowledge.by_target
    assert not knowledge._filed_in


def test_a_large_file_is_found_by_its_version() -> None:
    """Wherever it is on its host now: by size and time, the same inode first; a small one, or a forgotten, is not."""
    knowledge = PlanningIndex()
    version = Version(LARGE, 7, 8, 1)
    other = replace(record("d/a", "/r/a"), version=replace(version, inode=2))
    same = replace(record("d/b", "/r/b"), version=version)
    small = replace(record("d/c", "/r/c"), version=replace(version, size=LARGE - 1))
    for each in (other, same, small, replace(record("d/d", "/r/d", storage="t"), version=version)):
        knowledge.add_file(each)
    assert knowledge.alike("s", replace(version, ctime_ns=9)) == [same, other]
    assert knowledge.alike("s", small.version) == []
    assert knowledge.alike("u", version) == []
    knowledge.add_file(replace(same, version=replace(version, mtime_ns=9)))
    assert knowledge.alike("s", version) == [other]
    knowledge.forget_file(other)
    assert knowledge.alike("s", version) == []


def test_a_run_that_moves_to_another_experiment_leaves_the_first() -> None:
    """It is found by its present experiment and name alone."""
    knowledge = PlanningIndex()
    run = RunRecord("e", "s", "/r/run", "h", "run", QWEN, Version(1, 1), None)
    knowledge.add_run(run)
    moved = replace(run, experiment="e", name="run_new")
    knowledge.add_run(moved)
    assert (knowledge.runs_of(None), knowledge.runs_of("e")) == ([], [moved])
    assert (knowledge.runs_named("run"), knowledge.runs_named("run_new")) == ([], [moved])
