"""One run that several storages show: boxes of one shared file system that nobody told us of. Pure.

Two keys are one run only when their config.yaml *and* the first lines of their logs are the same bytes; equal runs that
two boxes started in the same second differ in the second. Until there is a line, the one that was seen later waits.
"""

import hashlib
from collections.abc import Collection

from harvestd.convention.knowledge import Knowledge
from harvestd.convention.records import RunRecord
from harvestd.convention.values import Immutable

_LOG = ("training_run", "logs", "train_log.jsonl")
"""In the experiment's directory."""


class Fingerprint(Immutable):
    """What tells one run from another of the same name."""

    config: str
    """SHA-256 of its config.yaml."""
    head: str | None
    """SHA-256 of its log's first line; None while there is none."""


class Undecidable(Immutable):
    """It can't be said yet whether this is another's run."""

    other: RunRecord


def head_of(beginning: bytes) -> str | None:
    """Give the SHA-256 of a log's first line, newline included, from how it begins; None where that is not whole."""
    end = beginning.find(b"\n") + 1
    return hashlib.sha256(beginning[:end]).hexdigest() if end else None


def twin_of(
    name: str, storage: str, seen: Fingerprint, knowledge: Knowledge, showing: Collection[str]
) -> RunRecord | Undecidable | None:
    """Give the run of another storage that this one is; None where it is a run of its own.

    `showing`: the storages whose hosts are connected now, so that they will tell of a first line.
    """
    alike = [
        run
        for run in knowledge.runs_named(name)
        if run.storage != storage and run.experiment and run.config_hash == seen.config
    ]
    same = next((run for run in alike if seen.head is not None and run.head == seen.head), None)
    if same is not None:
        return same
    for run in alike:
        if seen.head is None or (run.head is None and run.storage in showing):
            return Undecidable(run)
    return None


def bringing(experiment: str | None, storage: str, knowledge: Knowledge, showing: Collection[str]) -> list[RunRecord]:
    """Give the records of a run by which it may come home now, to `storage` or to one of `showing`; the best first.

    Who brings the log goes on with it, or two would write to one file when a host that was gone is back; otherwise it
    is the one that was seen first.
    """
    twins = knowledge.runs_of(experiment)
    if experiment is None or len(twins) <= 1:
        return twins
    log = knowledge.holder_at((knowledge.experiment(experiment).directory, *_LOG))
    there = [twin for twin in twins if twin.storage == storage or twin.storage in showing]
    return sorted(there, key=lambda twin: log is None or twin.storage != log.storage)


def leader(run: RunRecord, knowledge: Knowledge, showing: Collection[str]) -> RunRecord | None:
    """Give the record of the same run by which it is brought home now; None where that is `run` itself."""
    first = next(iter(bringing(run.experiment, run.storage, knowledge, showing)), run)
    return None if first.key == run.key else first
