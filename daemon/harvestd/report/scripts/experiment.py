"""An experiment's directory, read: its training log, what harvestd found in its configurations, and its last step.

It is shared by the analysis scripts, beside which it is copied, and by harvestd's README, and needs nothing but Python.
It never writes. What lies in the directory came from a rented machine: a line, a number or a file that makes no sense
is left out, and counted where that matters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harvestd.convention.log_rows import lines_in, measured, row_of, step_of

LOG = ("training_run", "logs", "train_log.jsonl")
"""Where a run's log lies, below the experiment's directory."""
CONFIGURED = ("analysis", "configured.json")
"""What harvestd read in the experiment's configurations, which are YAML: these scripts need no YAML library."""
_TEXT_LIMIT = 64 << 20


class Series(NamedTuple):
    """One quantity over the training's steps, in order; where it has no value there is no point."""

    steps: list[int]
    values: list[float]

    def averaged(self, width: int) -> Series:
        """Return the mean of the `width` points (an odd number) around each point that has so many around it."""
        half = width // 2
        middle = range(half, len(self.values) - half)
        means = [math.fsum(self.values[n - half : n + half + 1]) / width for n in middle]
        return Series([self.steps[n] for n in middle], means)


@dataclass(frozen=True)
class TrainingLog:
    """The rows of train_log.jsonl, one a step, in order of steps."""

    rows: tuple[dict[str, float], ...] = ()
    unread: int = 0
    """Whole lines that are no rows; a torn last one is not counted, it is only not finished yet."""
    diluted: int = 0
    """Rows that the gradient-noise probe's values were taken out of, since its window was not filled."""

    @property
    def last_step(self) -> int | None:
        """The greatest step; None while there is none."""
        return int(self.rows[-1]["step"]) if self.rows else None

    def series(self, key: str) -> Series:
        """Return the finite values of `key`; empty where the log has none."""
        rows = [row for row in self.rows if key in row]
        return Series([int(row["step"]) for row in rows], [row[key] for row in rows])

    def undiluted(self, window: int | None) -> TrainingLog:
        """Return the log without the probe's values in every row whose window was not filled.

        `window`: as it is configured; None takes the greatest one that the log shows. The older probe knows no window:
        its values stay.
        """
        if window is None:
            window = int(max(self.series("gns_window_size").values, default=0)) or None
        rows = tuple(_without_diluted(row, window) for row in self.rows)
        diluted = sum(len(after) < len(before) for after, before in zip(rows, self.rows))
        return TrainingLog(rows, self.unread, diluted)


_OLDER_PROBE = frozenset(
    f"gns_{name}"
    for name in (
        *("y_small", "y_large", "y_small_ema", "y_large_ema", "B_small", "B_large", "a_hat", "c_hat", "B_simple"),
    )
)


def _without_diluted(row: dict[str, float], window: int | None) -> dict[str, float]:
    if window is None or row.get("gns_window_size") == window:
        return row
    return {key: value for key, value in row.items() if not key.startswith("gns_") or key in _OLDER_PROBE}


def read_log(path: Path) -> TrainingLog:
    """Read train_log.jsonl; empty where there is none.

    A step may have a second line, from the older probe, which adds to the first. A line that says again what its step
    said already comes from a resumed run that trained the step anew: it replaces what was there.
    NaN and Infinity are no values.
    """
    return log_of(_lines(path))


def log_of(lines: Iterable[bytes]) -> TrainingLog:
    """Return what the lines of train_log.jsonl say, as `read_log` does."""
    steps: dict[int, dict[str, float]] = {}
    unread = 0
    for line in lines:
        said = row_of(line)
        if said is None:
            unread += line.endswith(b"\n") and bool(line.strip())
            continue
        row = {key: value for key, given in said.items() if (value := measured(given)) is not None}
        step = int(row["step"])
        before = steps.get(step, {})
        repeated = (before.keys() & row.keys()) - {"step"}
        steps[step] = row if repeated else {**before, **row}
    return TrainingLog(tuple(steps[step] for step in sorted(steps)), unread)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from lines_in(file)
    except OSError:
        return


def read_text(path: Path, limit: int = _TEXT_LIMIT) -> str:
    """Return a file's text; empty where it can't be read, and where it has more than `limit` bytes."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError:
        return ""
    return content.decode("utf-8", errors="replace") if len(content) <= limit else ""


def read_mapping(path: Path, limit: int = _TEXT_LIMIT) -> dict[str, object]:
    """Return what a JSON file says, if that is a mapping; empty where `read_text` is, and where it is none."""
    return mapping_of(read_text(path, limit))


def mapping_of(text: str) -> dict[str, object]:
    """Return what JSON says, if that is a mapping; empty where it is none."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def plain(text: str, longest: int = 100) -> str:
    """Return a name as one that can be shown: what is not printable is marked, and too much is cut off."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


@dataclass(frozen=True)
class Experiment:
    """What the scripts draw from."""

    directory: Path
    log: TrainingLog
    """Without the probe's diluted values."""
    last_step: int | None
    """Where an eval of "final" belongs; None where nothing says it."""
    configured: Mapping[str, object]
    """What configured.json says; empty where there is none."""

    @property
    def name(self) -> str:
        """The directory's own name."""
        return plain(self.directory.name)

    def trouble(self) -> Iterator[str]:
        """Return a note on what of the log is left out."""
        if self.log.diluted:
            yield f"Left out: the gradient-noise probe's values of {self.log.diluted} steps whose window was not full."
        if self.log.unread:
            yield f"Left out: {self.log.unread} lines of train_log.jsonl that are no rows."


def read_experiment(directory: Path) -> Experiment:
    """Read the experiment in `directory`; what is not there (yet) is simply missing."""
    configured = read_mapping(directory.joinpath(*CONFIGURED))
    run = section(configured, "run")
    log = read_log(directory.joinpath(*LOG)).undiluted(step_of(run.get("gns_window")) or None)
    return Experiment(directory, log, last_step_of(run, log.last_step), configured)


def last_step_of(run: Mapping[str, object], logged: int | None) -> int | None:
    """Return the step at which an eval of "final" belongs: step_final's, else the log's last, else the planned one.

    `run` is what configured.json says of the run.
    """
    answers = (step_of(run.get("final_step")), logged, step_of(run.get("total_steps")))
    return next((answer for answer in answers if answer is not None), None)


def section(said: Mapping[str, object], *names: str) -> Mapping[str, object]:
    """Return the mapping under these names, one inside the other; empty where there is none."""
    for name in names:
        found = said.get(name)
        said = found if isinstance(found, Mapping) else {}
    return said
