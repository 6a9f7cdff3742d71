"""Whether two storages show one run."""

import pytest

from harvestd.convention.artifacts import Kind
from harvestd.convention.facts import ConfigFacts
from harvestd.convention.knowledge import Knowledge
from harvestd.convention.naming import ExperimentName, Part
from harvestd.convention.paths import LocalPath
from harvestd.convention.records import ExperimentRecord, FileRecord, RunRecord
from harvestd.convention.snapshot import Version
from harvestd.convention.twins import Fingerprint, Undecidable, head_of, leader, twin_of

NAME = "run_2025-08-20_03-31-43"


def record(storage: str, *, config: str = "c", head: str | None = "h", experiment: str = "e1") -> RunRecord:
    """Give the record of a run as one storage shows it."""
    return RunRecord(
        id=storage,
        storage=storage,
        place=f"/data/{NAME}",
        host=f"host of {storage}",
        name=NAME,
        config=ConfigFacts(),
        config_version=Version(1, 1),
        experiment=experiment,
        config_hash=config,
        head=head,
    )


def knowing(*records: RunRecord) -> Knowledge:
    """Give what is known."""
    knowledge = Knowledge()
    for number, each in enumerate(records):
        part = Part(str(number), "a test")
        knowledge.learn_experiment(
            ExperimentRecord(each.experiment or "", ExperimentName(part, part, part, part, part))
        )
        knowledge.learn_run(each)
    return knowledge


def log_from(storage: str, knowledge: Knowledge) -> FileRecord:
    """Give the log of the experiment e1 as one storage's host brought it."""
    place = (knowledge.experiment("e1").directory, "training_run", "logs", "train_log.jsonl")
    return FileRecord(
        storage=storage,
        place=f"/data/{NAME}/logs/train_log.jsonl",
        target=LocalPath(place),
        host=f"host of {storage}",
        experiment="e1",
        kind=Kind.TRAIN_LOG,
        version=Version(5, 1),
        size=5,
        sha256="0" * 64,
        fetched_at=0.0,
        reason="train_log is always wanted",
    )


@pytest.mark.parametrize(
    ("known", "seen", "showing", "answer"),
    [
        (record("a"), Fingerprint("c", "h"), {"a"}, "same"),
        (record("a"), Fingerprint("c", "h"), set(), "same"),
        (record("a"), Fingerprint("c", "other"), {"a"}, "own"),
        (record("a"), Fingerprint("other", "h"), {"a"}, "own"),
        (record("a"), Fingerprint("other", None), {"a"}, "own"),
        (record("a"), Fingerprint("c", None), {"a"}, "waits"),
        (record("a"), Fingerprint("c", None), set(), "waits"),
        (record("a", head=None), Fingerprint("c", "h"), {"a"}, "waits"),
        (record("a", head=None), Fingerprint("c", "h"), set(), "own"),
        (record("a", head=None), Fingerprint("c", None), {"a"}, "waits"),
        (record("b"), Fingerprint("c", "h"), {"a"}, "own"),
    ],
)
def test_two_keys_are_one_run(known: RunRecord, seen: Fingerprint, showing: set[str], answer: str) -> None:
    """Only where config and first line agree; without a line the later one waits, but not for a host that is gone."""
    found = twin_of(NAME, "b", seen, knowing(known), showing)
    expected = {"same": known, "own": None, "waits": Undecidable(known)}
    assert found == expected[answer]


def test_the_first_that_is_there_leads() -> None:
    """Whoever was seen first brings a run home, as long as its host is connected."""
    first, second, third = (record(storage) for storage in "abc")
    knowledge = knowing(first, second, third)
    assert leader(first, knowledge, {"b", "c"}) is None
    assert leader(second, knowledge, {"a", "c"}) == first
    assert leader(second, knowledge, {"c"}) is None
    assert leader(third, knowledge, {"b"}) == second


def test_who_carried_a_run_on_keeps_it() -> None:
    """The first one is back: it leaves the run to the one that goes on with its log, until that one is gone."""
    first, second, third = (record(storage) for storage in "abc")
    knowledge = knowing(first, second, third)
    knowledge.learn_file(log_from("b", knowledge))
    assert leader(second, knowledge, {"a", "c"}) is None
    assert leader(first, knowledge, {"b", "c"}) == second
    assert leader(third, knowledge, {"a", "b"}) == second
    assert leader(first, knowledge, {"c"}) is None


@pytest.mark.parametrize(
    ("beginning", "whole"), [(b"", False), (b"one", False), (b"one\n", True), (b"one\ntwo", True), (b"\n", True)]
)
def test_only_a_whole_line_counts(beginning: bytes, *, whole: bool) -> None:
    """A line that has no end yet may become another one."""
    assert (head_of(beginning) is not None) == whole
    assert head_of(b"one\n") == head_of(b"one\ntwo\n") != head_of(b"two\n")
