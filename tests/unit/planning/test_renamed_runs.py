"""By what a run is known again under another name, and when it is not."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.rules import Selection
from harvestd.convention.scan.classify import survey
from harvestd.convention.scan.model import RunDir
from harvestd.convention.scan.snapshot import Snapshot
from harvestd.planning.identity import Fingerprint
from harvestd.planning.records import RunRecord
from harvestd.planning.renamed import moved_events, renamed_from, vanished_runs
from support.box_trees import Box, Home, T

SEEN = Fingerprint("config", "head")


def shown(box: Box) -> RunDir:
    """Return the only run that a host shows."""
    (run,) = survey(box.snapshot(), Selection()).runs
    return run


def before(run: RunDir, **fields: object) -> RunRecord:
    """Return the record of a run as `run` was at another place."""
    assert run.config is not None
    record = RunRecord(
        id="1",
        storage="static:gpu-a",
        place=f"{run.place}_old",
        host="gpu-a",
        name=run.name.name,
        config=ConfigFacts(),
        config_version=replace(run.config.version, inode=7, ctime_ns=1),
        experiment="e",
        config_hash=SEEN.config,
        head=SEEN.head,
    )
    return replace(record, **fields)


@pytest.fixture
def run() -> RunDir:
    """Return the run at its new place."""
    box = Box()
    box.add_run()
    found = shown(box)
    assert found.config is not None
    return replace(found, config=replace(found.config, version=replace(found.config.version, inode=7)))


def test_content_or_inode_tell_the_same_run(run: RunDir) -> None:
    """The log's first line decides where both are known, else the inode of config.yaml, where there is one."""
    record = before(run)
    other = replace(record.config_version, inode=8)
    none = replace(record.config_version, inode=0)
    assert renamed_from(run, SEEN, [record]) == record
    assert renamed_from(run, SEEN, [before(run, config_version=other)]) is not None
    assert renamed_from(run, SEEN, [before(run, head="another")]) is None
    assert renamed_from(run, replace(SEEN, head=None), [record]) == record
    assert renamed_from(run, replace(SEEN, head=None), [before(run, config_version=other)]) is None
    assert renamed_from(run, replace(SEEN, head=None), [before(run, config_version=none)]) is None


@pytest.mark.parametrize("field", ["size", "mtime_ns"])
def test_another_config_is_another_run(run: RunDir, field: str) -> None:
    """Its hash, its size and its time are the same after a rename."""
    version = before(run).config_version
    assert renamed_from(run, SEEN, [before(run, config_version=replace(version, **{field: 1}))]) is None
    assert renamed_from(run, replace(SEEN, config="another"), [before(run)]) is None


def test_nothing_is_guessed_where_several_may_be_meant(run: RunDir) -> None:
    """Two copies of a run vanished, and one is there."""
    assert renamed_from(run, SEEN, [before(run), before(run, id="2", place="/elsewhere")]) is None


def test_only_what_a_scan_surely_does_not_show_has_vanished() -> None:
    """A tree that is not there, or that can't be read to its end, says nothing of what was in it."""
    box, home = Box(), Home()
    box.add_run()
    home.learn(box)
    (record,) = home.knowledge.runs()
    home.knowledge.add_run(replace(record, config_hash="config"))

    def vanished(snapshot: Snapshot) -> Sequence[RunRecord]:
        found = vanished_runs(survey(snapshot, Selection()), snapshot, box.storage, home.knowledge)
        return found.get("config", [])

    assert not vanished(box.snapshot())
    renamed = Box()
    renamed.add_run(f"training_runs/{T}_new")
    assert [each.place for each in vanished(renamed.snapshot())] == [record.place]
    renamed.shut("training_runs/closed")
    assert not vanished(renamed.snapshot())
    assert not vanished(replace(renamed.snapshot(), listings=()))


NAME = "events.out.tfevents.1755660703.gpu-a"
EVENTS = f"training_runs/{T}/tensorboard"


@pytest.mark.parametrize(
    ("inode", "size", "age", "known"),
    [(7, 150, 0.0, 1), (8, 100, 60.0, 1), (8, 150, 0.0, 0), (7, 50, 0.0, 0)],
    ids=["grown", "copied", "another", "shorter"],
)
def test_moved_events_are_known(inode: int, size: int, age: float, known: int) -> None:
    """By their name, and by the inode, or by size and time where the inode differs."""
    box, home = Box(), Home()
    box.add_run()
    box.file(f"{EVENTS}/{NAME}", 100, age=60.0, inode=7)
    home.settle_all([box])
    (record,) = home.knowledge.runs()
    assert not moved_events(shown(box), record, home.knowledge)
    box.remove(f"{EVENTS}/{NAME}")
    box.file(f"{EVENTS}/main/{NAME}", size, age=age, inode=inode)
    found = moved_events(shown(box), record, home.knowledge)
    assert [file.place for file in found] == [f"{record.place}/tensorboard/main/{NAME}"] * known
    assert all(file.version.ctime_ns == 0 for file in found)
    box.file(f"{EVENTS}/other/{NAME}", size, age=age, inode=inode)
    assert not moved_events(shown(box), record, home.knowledge), "either may be meant"
