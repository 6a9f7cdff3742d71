"""Detects one run on several storages: seen through a shared file system, or written in parts to several disks. Pure.

Two keys are views of one run only if their config.yaml *and* the first lines of their logs are identical; equal runs
that two hosts started in the same second differ in the second. Until there is a line, the later one waits.
A directory with checkpoints and without a log is a part of the one run with its name and config.yaml that has a log. If
there are several such runs, or none, it is not assigned: then a later scan or the operator decides.
"""

import hashlib
from collections.abc import Collection, Sequence
from typing import Final

from harvestd.convention.structs import Immutable
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import FileRecord, RunRecord

NO_LOG: Final = ""
"""Instead of the hash of a log's first line: the directory has checkpoints and no log."""
_LOG = ("training_run", "logs", "train_log.jsonl")
"""Relative to the experiment's directory."""


class Fingerprint(Immutable):
    """Distinguishes runs of the same name."""

    config: str
    """SHA-256 of its config.yaml."""
    head: str | None
    """SHA-256 of its log's first line; None while there is none; `NO_LOG` for a possible part of another run."""


class Undecidable(Immutable):
    """It is not known yet whether this is the same run as another one."""

    other: RunRecord


def head_of(beginning: bytes) -> str | None:
    """Return the SHA-256 of a log's first line, newline included, from its first bytes; None if it is incomplete."""
    end = beginning.find(b"\n") + 1
    return hashlib.sha256(beginning[:end]).hexdigest() if end else None


def twin_of(
    name: str, storage: str, seen: Fingerprint, knowledge: PlanningIndex, showing: Collection[str]
) -> RunRecord | Undecidable | None:
    """Return the run of another storage that equals this one or contains it as a part; None if it is a run of its own.

    `showing`: the storages whose hosts are connected now, where a first line may still appear.
    """
    alike = [
        run
        for run in knowledge.runs_named(name)
        if run.storage != storage and run.experiment and run.config_hash == seen.config
    ]
    if seen.head == NO_LOG:
        return _whole_of(alike)
    same = next((run for run in alike if seen.head is not None and run.head == seen.head), None)
    if same is not None:
        return same
    for run in alike:
        if seen.head is None or (run.head is None and run.storage in showing):
            return Undecidable(run)
    # Parts that were seen before the log; if an experiment has a log by now, its parts belong to another run.
    parts = {run.experiment: run for run in alike if not any(each.head for each in knowledge.runs_of(run.experiment))}
    joined = [run for run in parts.values() if run.head == NO_LOG]
    return joined[0] if len(joined) == 1 else None


def _whole_of(alike: Sequence[RunRecord]) -> RunRecord | Undecidable | None:
    """Return the run with a log of which a directory without one is a part; undecidable if it is ambiguous."""
    if not alike:
        return None
    first = next((run for run in alike if run.head), None)
    if first is not None and len({run.experiment for run in alike}) == 1:
        return first
    return Undecidable(first or alike[0])


def views_of(run: RunRecord, knowledge: PlanningIndex) -> list[RunRecord]:
    """Return the records of the same directory, including `run` itself, but without parts on other disks."""
    fellows = knowledge.runs_of(run.experiment) if run.experiment else []
    return [each for each in fellows if each.head == run.head] if run.head and len(fellows) > 1 else [run]


def principal(run: RunRecord, knowledge: PlanningIndex) -> RunRecord:
    """Return the record from which a run on several disks is named and evaluated: that of the local log's source."""
    fellows = knowledge.runs_of(run.experiment) if run.experiment else []
    if len(fellows) <= 1:
        return run
    log = _log_of(run, knowledge)
    return min(fellows, key=lambda each: (log is None or each.storage != log.storage, not each.head))


def is_part(run: RunRecord, knowledge: PlanningIndex) -> bool:
    """Return whether a record belongs to a disk that has only a part of a run, without its log."""
    first = principal(run, knowledge)
    return first.key != run.key and not (run.head and run.head == first.head)


def bringing(run: RunRecord, knowledge: PlanningIndex, showing: Collection[str]) -> list[RunRecord]:
    """Return the views from which a run may be fetched now, on its own storage or one of `showing`; the best first.

    The view that provided the log continues it, since two would write to one file when a disconnected host is back;
    otherwise the first view is the one that was seen first.
    """
    views = views_of(run, knowledge)
    if len(views) <= 1:
        return views
    log = _log_of(run, knowledge)
    there = [view for view in views if view.storage == run.storage or view.storage in showing]
    return sorted(there, key=lambda view: log is None or view.storage != log.storage)


def leader(run: RunRecord, knowledge: PlanningIndex, showing: Collection[str]) -> RunRecord | None:
    """Return the view from which the run is fetched now; None if that is `run` itself."""
    first = next(iter(bringing(run, knowledge, showing)), run)
    return None if first.key == run.key else first


def _log_of(run: RunRecord, knowledge: PlanningIndex) -> FileRecord | None:
    if not run.experiment:
        return None
    return knowledge.holder_at((knowledge.experiment(run.experiment).directory, *_LOG))
