"""The kinds of files and of losses, the transfer order of kinds, and the file names that rules refer to."""

from enum import IntEnum, StrEnum


class Kind(StrEnum):
    """The kind of a wanted file."""

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
    """Not part of the convention, but wanted because of `select.include`."""


class LossKind(StrEnum):
    """What would be lost with a host; the values are those of the setting `verdict.accept_loss`."""

    CHECKPOINTS = "checkpoints"
    """Checkpoints without a local copy that no eval refers to yet."""
    EVALUATED_CHECKPOINTS = "evaluated_checkpoints"
    """Checkpoints without a local copy that have a local eval. Accepting `CHECKPOINTS` accepts these too."""
    RECORDS = "records"
    ROLLOUTS = "rollouts"
    """Output generated during training: logs/rollouts* and logs/ratios.jsonl."""
    WANDB = "wandb"
    """W&B's own files, except offline runs that are marked as synced."""
    LINKS = "links"
    """Targets of symbolic links outside the watched trees."""
    OUTSIDE_FILES = "outside_files"
    """Recently changed files outside the roots, and files inside them that are not part of the convention."""
    UNCOMMITTED_WORK = "uncommitted_work"
    """Uncommitted work in git checkouts of the home directory."""


class Value(IntEnum):
    """The order in which wanted files are fetched; lower goes first."""

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
"""Kinds that are appended to, remotely and locally; a file of any other kind is published as a whole."""

LITTER_DIRECTORIES = frozenset({".ipynb_checkpoints", "__pycache__"})
LITTER_FILES = ("*.tmp", "*.sw[nop]", "#*#", ".#*")
"""With `LITTER_DIRECTORIES`, the only files that may be lost without the operator's consent: caches and swap files."""

PRUNED_DIRECTORIES = LITTER_DIRECTORIES | {".git", ".cache"}
"""Directories that the host only counts and does not list."""

UNFINISHED_FILES = ("*.part", "*~", ".nfs*", "core")
"""Names of files that are being written or that a crash left. They are not fetched, but they are not litter either.

`core.PID` is such a name too; core.py and core.yaml are not.
"""
