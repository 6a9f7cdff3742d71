"""An experiment's evals, read: what each metrics.csv says on the average, and how was evaluated.

It is shared by the analysis scripts, beside which it is copied, and by harvestd's README, and needs nothing but Python.
What a directory does not say is unknown, and never guessed.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from harvestd.convention.eval_names import DATASETS, LeafParts, StepParts, leaf_parts, run_parts, step_parts
from harvestd.convention.log_rows import GREATEST, number, whole
from harvestd.report.scripts.experiment import Experiment, plain, read_mapping, read_text, section

ANSWERS_OF_PASS_RATE = 8
"""The column pass_rate divides by this, however many answers there were."""
BASE = "base_eval"
"""Where the base model's evals are filed."""
RESULTS = "eval_results"
"""Where all others are."""
METRICS = "metrics.csv"
META = "run_meta.json"
_ROWS_LIMIT = 50_000
"""Of one file; the largest of these datasets has a quarter of it."""
TEXT_LIMIT = 8 << 20
"""Bytes of one metrics.csv; a longer one is no eval's, which has some hundred thousand."""
META_LIMIT = 1 << 20
"""Bytes of one run_meta.json, which has some hundred."""
_MOST_COLUMNS = 64
QUESTION = "q_idx"
"""The column with a question's number in its dataset."""
_COLUMNS = re.compile(r"pass_rate|pass@[1-9]\d{0,3}|entropy_mean", re.ASCII)


class Mean(NamedTuple):
    """A column's mean over the questions."""

    value: float
    error: float
    """One standard error; for a column of 0 and 1 that is the binomial one."""
    n: int
    """Questions that have a value."""


class Setting(NamedTuple):
    """How was evaluated, and on what; None is what nothing says."""

    dataset: str | None
    temperature: float | None
    top_p: float | None
    generations: int | None
    """Answers a question, r."""
    subset: float | None
    """The fraction of the dataset's questions."""

    def __str__(self) -> str:
        """Return a legend's words."""
        words = [plain(self.dataset or "", 40).lstrip("_") or "unknown dataset"]
        if self[1:] == (None, None, None, None):
            return f"{words[0]}, settings unknown"
        for name, value in (("T", self.temperature), ("top-p", self.top_p), ("r", self.generations)):
            words.append(f"{name} {'?' if value is None else format(value, 'g')}")
        if self.subset is None:
            words.append("unknown subset")
        elif self.subset != 1:
            words.append(f"{self.subset:.3g} of the questions")
        return ", ".join(words)


@dataclass(frozen=True)
class Eval:
    """One metrics.csv."""

    place: tuple[str, ...]
    """The directories above the step's, below the experiment."""
    step: str
    """A number, "final" or "base"."""
    at: int | None
    """Its place among the training's steps; None where nothing says when "final" was."""
    setting: Setting
    means: Mapping[str, Mean]
    leaf: tuple[str, ...] = ()
    """The directory of its metrics.csv, below the experiment."""

    @property
    def is_base(self) -> bool:
        """Whether it is of the model before any training."""
        return self.step.startswith("base")

    @property
    def n(self) -> int:
        """How many questions have a figure: a pass rate, else pass@k for the smallest k, else what there is."""
        first = self.rate or (self.passed(self.ks[0]) if self.ks else None)
        return first.n if first else max((mean.n for mean in self.means.values()), default=0)

    @property
    def rate_column(self) -> str:
        """The column that holds each question's pass rate; empty where there is none.

        It is pass_rate where its divisor is right, else pass@1, which estimates the same from one answer.
        """
        divided = ("pass_rate",) if self.setting.generations == ANSWERS_OF_PASS_RATE else ()
        return next((name for name in (*divided, "pass@1") if name in self.means), "")

    @property
    def rate(self) -> Mean | None:
        """The pass rate: the mean over the questions of the share of their answers that are right."""
        return self.means.get(self.rate_column)

    @property
    def ks(self) -> list[int]:
        """Every k that there is a column pass@k of."""
        return sorted(int(name[5:]) for name in self.means if name.startswith("pass@"))

    def passed(self, k: int) -> Mean | None:
        """Return the mean of pass@k; None where there is no such column."""
        return self.means.get(f"pass@{k}")


def read_means(path: Path) -> dict[str, Mean]:
    """Return what `means_of` does of a metrics.csv; empty where it can't be read."""
    return means_of(read_text(path, TEXT_LIMIT))


def means_of(text: str) -> dict[str, Mean]:
    """Return the means of a metrics.csv's columns that are drawn, over the cells that hold a number.

    A share that is not between 0 and 1 is none. Of two columns of one name the last one counts. Empty where there is no
    row, and for a text that is too long.
    """
    head, rows = _table(text)
    places = {name: n for n, name in enumerate(head) if _COLUMNS.fullmatch(name)}
    known = sorted(places.items(), key=lambda each: (len(each[0]), each[0]))[:_MOST_COLUMNS]
    columns: list[tuple[str, int, list[str]]] = [(name, n, []) for name, n in known]
    try:
        for row in rows:
            for _, n, cells in columns:
                if n < len(row):
                    cells.append(row[n])
    except csv.Error:
        return {}
    found = {name: _values(cells, name) for name, _, cells in columns}
    return {name: mean_of(values) for name, values in found.items() if values}


def _values(cells: list[str], column: str) -> list[float]:
    """Return the numbers in a column's cells, without shares that are not between 0 and 1."""
    try:
        # Nearly always each cell holds a number, and this takes a fifth of the time.
        values = list(map(float, cells))
    except ValueError:
        values = [value for cell in cells if (value := number(cell)) is not None]
    low, high = (0.0, 1.0) if column.startswith("pass") else (-GREATEST, GREATEST)
    if values and low <= min(values) and max(values) <= high and math.isfinite(math.fsum(values)):
        return values
    return [value for value in values if low <= value <= high]


def answers_of(text: str, column: str) -> dict[int, float]:
    """Return the value of each question in one column of a metrics.csv, by q_idx: those that `means_of` averages.

    Empty where the questions can't be told apart: without q_idx, and where one stands twice.
    """
    head, rows = _table(text)
    if QUESTION not in head or column not in head:
        return {}
    places = {name: n for n, name in enumerate(head)}
    found: dict[int, float] = {}
    try:
        for row in rows:
            question = whole(row[places[QUESTION]]) if places[QUESTION] < len(row) else None
            if question in found:
                return {}
            values = _values(row[places[column] : places[column] + 1], column)
            if question is not None and values:
                found[question] = values[0]
    except csv.Error:
        return {}
    return found


def _table(text: str) -> tuple[list[str], Iterator[list[str]]]:
    """Return the head of a metrics.csv and its rows, whose iteration may raise `csv.Error`; empty if it is too long."""
    rows = csv.reader(io.StringIO(text if len(text) <= TEXT_LIMIT else "", newline=""))
    try:
        head = next(rows, [])
    except csv.Error:
        return [], iter(())
    return head, islice(rows, _ROWS_LIMIT)


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of at least one value, with its standard error."""
    n = len(values)
    mean = math.fsum(values) / n
    return Mean(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values)) / n, n)


def read_evals(experiment: Experiment) -> list[Eval]:
    """Read every metrics.csv below eval_results and base_eval that has figures, in order of places and steps."""
    sources = _sources(experiment.directory)
    results = os.walk(experiment.directory / RESULTS)
    datasets = datasets_of(name for _, directories, _ in results for name in directories)
    found = []
    for top in (RESULTS, BASE):
        for directory, below, files in os.walk(experiment.directory / top):
            below.sort()
            means = read_means(Path(directory, METRICS)) if METRICS in files else {}
            if means:
                parts = Path(directory).relative_to(experiment.directory).parts
                meta = meta_of(read_mapping(Path(directory, META), META_LIMIT))
                there = sources.get("/".join((*parts, METRICS)), ())
                found.append(eval_of(parts, there, means, meta, experiment.configured, datasets, experiment.last_step))
    return in_order(found)


def in_order(evals: Iterable[Eval]) -> list[Eval]:
    """Return evals by their places and steps."""
    return sorted(evals, key=lambda each: (each.place, each.at is None, each.at or 0, each.step))


def _sources(directory: Path) -> dict[str, tuple[str, ...]]:
    """Return each file's path on its host, from manifest.json: a base eval's is shorter here."""
    files = read_mapping(directory / "manifest.json").get("files")
    known = [each for each in files if isinstance(each, dict)] if isinstance(files, list) else []
    return {str(each.get("path")): tuple(str(each.get("remote_path")).split("/")) for each in known}


def datasets_of(directories: Iterable[str]) -> list[str]:
    """Return the datasets that are known by name: those of the convention, and what names in eval_results say.

    `directories` are the names of all directories there, at whatever depth. "base_full_math" anchors on one of these.
    """
    found = set(DATASETS)
    for name in directories:
        run, step = run_parts(name), step_parts(name, ())
        if run and run.suffix:
            found.add(run.suffix)
        elif step and step.step != "base" and step.dataset:
            found.add(step.dataset)
    return sorted(found)


class Meta(NamedTuple):
    """What a run_meta.json says of an eval; None for what it does not."""

    step: str = ""
    temperature: float | None = None
    top_p: float | None = None
    generations: float | None = None
    subset: float | None = None


def meta_of(said: Mapping[str, object]) -> Meta:
    """Return what the mapping of a run_meta.json says of its eval."""
    decoding = said.get("decoding_cfg")
    cfg = decoding if isinstance(decoding, dict) else {}
    return Meta(
        step=plain(str(said.get("step", "")), 20),
        temperature=number(cfg.get("temperature")),
        top_p=number(cfg.get("top_p")),
        generations=number(cfg.get("num_return_sequences")),
        subset=number(said.get("subset_frac")),
    )


def eval_of(
    parts: Sequence[str],
    remote: Sequence[str],
    means: Mapping[str, Mean],
    meta: Meta,
    configured: Mapping[str, object],
    datasets: Sequence[str],
    last_step: int | None,
) -> Eval:
    """Put together what is known of one metrics.csv.

    `parts` lead to its directory from the experiment's, `remote` to the file on its host. `meta` is what its
    run_meta.json says, `configured` is what configured.json says, `datasets` are those of `datasets_of`, `last_step` is
    where "final" belongs.
    """
    is_base = parts[0] == BASE
    there = tuple(remote[:-1]) if is_base else ()
    depth, named = _step(there or parts, datasets)
    step = named.step if named else "base" if is_base else meta.step
    return Eval(
        place=tuple(parts[:1] if is_base else parts[:depth]),
        step=step,
        at=0 if step.startswith("base") else last_step if step == "final" else whole(step),
        setting=_setting(parts, meta, configured, named.dataset if named else ""),
        means=means,
        leaf=tuple(parts),
    )


def _step(parts: Sequence[str], datasets: Sequence[str]) -> tuple[int, StepParts | None]:
    """Find the directory that is named after a step, the innermost one, and how deep it lies."""
    for depth in reversed(range(len(parts))):
        named = step_parts(parts[depth], datasets)
        if named:
            return depth, named
    return len(parts) - 1, None


def _setting(parts: Sequence[str], meta: Meta, configured: Mapping[str, object], dataset: str) -> Setting:
    """Put together what run_meta.json, the path, and the eval's own configuration say, in this order."""
    leaf = next((found for part in reversed(parts) if (found := leaf_parts(part))), LeafParts(None, None, None))

    def first(*answers: object) -> float | None:
        return next((value for each in answers if (value := number(each)) is not None), None)

    # An eval's own directory lies in one of its host's name where two hosts made it.
    inside = parts[1:] if parts[0] == RESULTS else ()
    above = next(filter(None, map(run_parts, inside)), None)
    places = ("/".join(inside[:depth]) for depth in range(len(inside), 0, -1))
    config = next(filter(None, (section(configured, "evals", place) for place in places)), {})
    named = config.get("dataset")
    return Setting(
        dataset=dataset or (above.suffix if above else None) or (named if isinstance(named, str) else None),
        temperature=first(meta.temperature, leaf.temperature, config.get("temperature")),
        top_p=first(meta.top_p, leaf.top_p, config.get("top_p")),
        generations=whole(first(meta.generations, leaf.answers, config.get("generations"))),
        subset=first(meta.subset, config.get("subset")),
    )
