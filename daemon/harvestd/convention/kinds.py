"""The kinds of files, and parsers for the remote names of the convention."""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum, StrEnum

from harvestd.convention.eval_names import DATASETS, run_parts, step_parts
from harvestd.convention.structs import Immutable


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


# ASCII, since `re` also matches digits of other scripts, and local names are made of these.
_TIME = "%Y-%m-%d_%H-%M-%S"
_CHECKPOINT = re.compile(r"step_(?P<step>\d+|final)", re.ASCII)
_FINETUNED = "_finetuned"
_EVENTS = re.compile(
    r"events\.out\.tfevents\.(?P<epoch>\d{1,12})\.(?P<host>.+?)(?:\.\d+\.\d+)?(?:\.v2)?", re.DOTALL | re.ASCII
)


class RunName(Immutable):
    """The parsed name of a run directory, or of a directory with a run's evals."""

    name: str
    """`run_2025-08-20_03-31-43`, without a suffix."""
    timestamp: str
    """`2025-08-20_03-31-43`, in the host's local time."""
    dataset: str | None
    """The text after the time; an eval dataset in eval trees."""

    @property
    def date(self) -> str:
        """`2025-08-20`."""
        return self.timestamp[:10]

    @property
    def started(self) -> datetime | None:
        """The time in the name, in the host's local time; None if it is invalid, such as `2026-13-45_99-99-99`."""
        try:
            return datetime.strptime(self.timestamp, _TIME)  # noqa: DTZ007  (a name holds no zone)
        except ValueError:
            return None


def run_name(component: str) -> RunName | None:
    """Parse `run_%Y-%m-%d_%H-%M-%S[_suffix]`; return None for any other name."""
    parts = run_parts(component)
    return RunName(f"run_{parts.timestamp}", parts.timestamp, parts.suffix) if parts else None


def checkpoint_step(component: str) -> str | None:
    """Return "40" for `step_40`, "final" for `step_final`; None for any other name."""
    match = _CHECKPOINT.fullmatch(component)
    return match["step"] if match else None


class EventsName(Immutable):
    """The parsed name of a TensorBoard file."""

    epoch: int
    """Unix seconds at which its writer was started."""
    host: str
    """The hostname of the machine that wrote it."""


def events_name(component: str) -> EventsName | None:
    """Parse `events.out.tfevents.{epoch}.{hostname}[.{pid}.{n}][.v2]`; return None for any other name."""
    match = _EVENTS.fullmatch(component)
    return EventsName(int(match["epoch"]), match["host"]) if match else None


class EvalStep(Immutable):
    """The parsed name of an eval's step directory."""

    step: str
    """A number, "final" or "base"."""
    variant: str
    """The text between the step and the dataset: "full" in `step_base_full_gsm8k`, else empty."""
    dataset: str


def eval_step(component: str, datasets: Sequence[str] = DATASETS) -> EvalStep | None:
    """Parse `step_{N|final}_{dataset}` and `step_base*_{dataset}`; return None for any other name.

    The longest known dataset at the end of the name is the dataset; if none fits, everything after the step is.
    """
    parts = step_parts(component, datasets)
    return EvalStep(parts.step, parts.variant, parts.dataset) if parts else None


class Finetuned(Immutable):
    """The parsed name of a `{backbone}_{fine-tuning dataset}_finetuned` directory."""

    backbone: str
    dataset: str


def is_finetuned(component: str) -> bool:
    """Return whether this is a `…_finetuned` directory of any backbone and dataset."""
    return component.endswith(_FINETUNED)


def finetuned(component: str, datasets: Sequence[str] = DATASETS) -> Finetuned | None:
    """Parse `{backbone}_{dataset}_finetuned`; return None for any other name and for an unknown dataset."""
    if not is_finetuned(component):
        return None
    stem = component.removesuffix(_FINETUNED)
    for dataset in sorted(datasets, key=len, reverse=True):
        backbone = stem.removesuffix("_" + dataset)
        if backbone and backbone != stem:
            return Finetuned(backbone, dataset)
    return None
