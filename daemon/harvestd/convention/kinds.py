"""The artifacts that the convention knows: their kinds, how each becomes complete, and which come first."""

from enum import IntEnum, StrEnum


class Kind(StrEnum):
    """What a wanted file is."""

    CONFIG = "config"
    TRAIN_LOG = "train_log"
    TENSORBOARD = "tensorboard"
    CHECKPOINT = "checkpoint"
    EVAL_CONFIG = "eval_config"
    METRICS = "metrics"
    RUN_META = "run_meta"
    SUMMARY = "summary"
    RECORDS = "records"
    INCLUDED = "included"
    """Not part of the convention, and wanted by `select.include`."""


class LossKind(StrEnum):
    """What would end with a box; the names are those of `verdict.accept_loss`."""

    CHECKPOINTS = "checkpoints"
    """Checkpoints that are not here and that no eval refers to yet."""
    EVALUATED_CHECKPOINTS = "evaluated_checkpoints"
    """Checkpoints that are not here and of which an eval is. Accepted with `CHECKPOINTS`, too."""
    RECORDS = "records"
    ROLLOUTS = "rollouts"
    """What a run generated while it trained: logs/rollouts* and logs/ratios.jsonl."""
    WANDB = "wandb"
    """W&B's own files, but for offline runs that are marked as synced."""
    LINKS = "links"
    """What symbolic links lead to outside the watched trees."""
    OUTSIDE_FILES = "outside_files"
    """Files outside the roots that changed lately, and those within that the convention does not know."""
    UNCOMMITTED_WORK = "uncommitted_work"
    """In git checkouts of the home directory."""


class Value(IntEnum):
    """The order in which wanted things are brought home; lower goes first."""

    CONFIG = 0
    METRICS = 1
    TRAIN_LOG = 2
    TENSORBOARD = 3
    CHECKPOINT = 4
    BY_HAND = 5


VALUE: dict[Kind, Value] = {
    Kind.CONFIG: Value.CONFIG,
    Kind.EVAL_CONFIG: Value.METRICS,
    Kind.METRICS: Value.METRICS,
    Kind.RUN_META: Value.METRICS,
    Kind.SUMMARY: Value.METRICS,
    Kind.TRAIN_LOG: Value.TRAIN_LOG,
    Kind.TENSORBOARD: Value.TENSORBOARD,
    Kind.CHECKPOINT: Value.CHECKPOINT,
    Kind.RECORDS: Value.BY_HAND,
    Kind.INCLUDED: Value.BY_HAND,
}

RECORDS_FILES = ("records.jsonl.gz", "predictions.jsonl", "completions.jsonl")
"""The names of an eval's records."""

GROWING = frozenset({Kind.TRAIN_LOG, Kind.TENSORBOARD})
"""Kinds that are appended to and grow in place at home; every other kind moves into place whole."""

LITTER_DIRECTORIES = frozenset({".ipynb_checkpoints", "__pycache__"})
LITTER_FILES = ("*.tmp", "*.sw[nop]", "#*#", ".#*")
"""With `LITTER_DIRECTORIES` all that is given up without a word of the operator's: caches and editors' swap files."""

PRUNED_DIRECTORIES = LITTER_DIRECTORIES | {".git", ".cache"}
"""Directories that a host is asked to count but not to list."""

UNFINISHED_FILES = ("*.part", "*~", ".nfs*", "core")
"""Names of files that a program is in the middle of writing, or left behind by a crash. Not fetched, but no litter.

`core.PID` is one, too; core.py and core.yaml are not.
"""
