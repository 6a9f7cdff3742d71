"""An experiment's evals, read: what each metrics.csv says on the average, and how was evaluated.

It stands beside the analysis scripts, which share it, and needs nothing but Python. What a directory does not say is
unknown, and never guessed.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from experiment import Experiment, configured, number, plain, read_mapping, read_text, whole

ANSWERS_OF_PASS_RATE = 8
"""The column pass_rate divides by this, however many answers there were."""
BASE = "base_eval"
"""Where the base model's evals are filed."""
_ROWS_LIMIT = 1_000_000
_COLUMNS = re.compile(r"pass_rate|pass@[1-9]\d{0,3}|entropy_mean", re.ASCII)
_EVAL = re.compile(r"run_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(?:_(?P<dataset>.+))?", re.ASCII)
_STEP = re.compile(r"step_(?P<step>\d+|final|base)(?:_(?P<tail>.+))?", re.ASCII)
_LEAF = re.compile(r"temp(?P<temperature>[\d.]+|NA)_p(?P<top_p>[\d.]+|NA)_r(?P<generations>\d+|NA)", re.ASCII)
_DATASETS = ("gsm8k_r1_template", "gsm8k_latex", "gsm8k", "mathmix", "math", "short")


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
        """Give a legend's words."""
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
    """Where it stands among the training's steps; None where nothing says when "final" was."""
    setting: Setting
    means: Mapping[str, Mean]

    @property
    def n(self) -> int:
        """How many questions were asked."""
        return max((mean.n for mean in self.means.values()), default=0)

    @property
    def rate(self) -> Mean | None:
        """The share of right answers: pass_rate where its divisor is right, else pass@1, which estimates the same."""
        divided = self.setting.generations == ANSWERS_OF_PASS_RATE and self.means.get("pass_rate")
        return divided or self.means.get("pass@1")

    @property
    def ks(self) -> list[int]:
        """Every k that there is a column pass@k of."""
        return sorted(int(name[5:]) for name in self.means if name.startswith("pass@"))

    def passed(self, k: int) -> Mean | None:
        """Give the mean of pass@k; None where there is no such column."""
        return self.means.get(f"pass@{k}")


def read_means(path: Path) -> dict[str, Mean]:
    """Give the means of a metrics.csv's columns that are drawn, over the cells that hold a number.

    A share that is not between 0 and 1 is none. Empty where there is no row.
    """
    columns: dict[str, list[float]] = {}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.reader(file)
            known = [(n, name) for n, name in enumerate(next(rows, [])) if _COLUMNS.fullmatch(name)]
            for row in islice(rows, _ROWS_LIMIT):
                for n, name in known:
                    value = number(row[n]) if n < len(row) else None
                    if value is not None and (0 <= value <= 1 or not name.startswith("pass")):
                        columns.setdefault(name, []).append(value)
    except (OSError, csv.Error):
        return {}
    return {name: _mean(values) for name, values in columns.items()}


def _mean(values: list[float]) -> Mean:
    n = len(values)
    mean = math.fsum(values) / n
    return Mean(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values)) / n, n)


def read_evals(experiment: Experiment) -> list[Eval]:
    """Read every metrics.csv below eval_results and base_eval that has figures, in order of places and steps."""
    sources = _sources(experiment.directory)
    datasets = _datasets(experiment.directory)
    found = []
    for top in ("eval_results", BASE):
        for directory, below, files in os.walk(experiment.directory / top):
            below.sort()
            means = read_means(Path(directory, "metrics.csv")) if "metrics.csv" in files else {}
            if means:
                found.append(_eval(experiment, Path(directory), sources, datasets, means))
    found.sort(key=lambda each: (each.place, each.at is None, each.at or 0, each.step))
    return found


def _sources(directory: Path) -> dict[str, tuple[str, ...]]:
    """Tell from manifest.json what each file's path was on its box: a base eval's is shorter here."""
    files = read_mapping(directory / "manifest.json").get("files")
    known = [each for each in files if isinstance(each, dict)] if isinstance(files, list) else []
    return {str(each.get("path")): tuple(str(each.get("remote_path")).split("/")) for each in known}


def _datasets(directory: Path) -> list[str]:
    """Give the datasets that are known by name, the longest first: one may end as another does."""
    found = {*_DATASETS}
    for eval_directory in (directory / "eval_results").glob("run_*"):
        match = _EVAL.fullmatch(eval_directory.name)
        if match and match["dataset"]:
            found.add(match["dataset"])
    return sorted(found, key=lambda name: (-len(name), name))


def _eval(
    experiment: Experiment,
    directory: Path,
    sources: Mapping[str, tuple[str, ...]],
    datasets: Sequence[str],
    means: Mapping[str, Mean],
) -> Eval:
    parts = directory.relative_to(experiment.directory).parts
    meta = read_mapping(directory / "run_meta.json")
    is_base = parts[0] == BASE
    there = sources.get("/".join((*parts, "metrics.csv")), ())[:-1] if is_base else ()
    depth, said = _step(there or parts)
    step = said["step"] if said else "base" if is_base else plain(str(meta.get("step", "")), 20)
    tail = said["tail"] if said else None
    at = 0 if step.startswith("base") else experiment.last_step if step == "final" else whole(step)
    return Eval(
        place=parts[:1] if is_base else parts[:depth],
        step=step,
        at=at,
        setting=_setting(experiment.directory.joinpath(*parts[:2]), parts, meta, _dataset(step, tail, datasets)),
        means=means,
    )


def _step(parts: tuple[str, ...]) -> tuple[int, re.Match[str] | None]:
    """Find the directory that is named after a step, the innermost one, and how deep it lies."""
    for depth in reversed(range(len(parts))):
        match = _STEP.fullmatch(parts[depth])
        if match:
            return depth, match
    return len(parts) - 1, None


def _dataset(step: str, tail: str | None, datasets: Sequence[str]) -> str | None:
    """Tell the dataset from what follows the step; "base_full_gsm8k" says more than the dataset's name."""
    if step != "base" or not tail:
        return tail
    return next((name for name in datasets if f"_{tail}".endswith(f"_{name}")), tail)


def _setting(top: Path, parts: tuple[str, ...], meta: Mapping[str, object], dataset: str | None) -> Setting:
    """Put together what run_meta.json, the path, and the eval's own configuration say, in this order."""
    decoding = meta.get("decoding_cfg")
    cfg = decoding if isinstance(decoding, dict) else {}
    leaf = next((match for part in reversed(parts) if (match := _LEAF.fullmatch(part))), None)
    named = leaf.groupdict() if leaf else {}
    texts = (
        [read_text(top / name) for name in ("eval_config.yaml", "config.yaml")] if parts[0] == "eval_results" else []
    )

    def first(*answers: object) -> float | None:
        return next((value for each in answers if (value := number(each)) is not None), None)

    def of_configs(key: str) -> list[str]:
        return [configured(text, key) for text in texts]

    above = _EVAL.fullmatch(parts[1]) if parts[0] == "eval_results" and len(parts) > 1 else None
    return Setting(
        dataset=dataset
        or (above["dataset"] if above else None)
        or next(filter(None, of_configs("eval_dataset")), None),
        temperature=first(cfg.get("temperature"), named.get("temperature"), *of_configs("temperature")),
        top_p=first(cfg.get("top_p"), named.get("top_p"), *of_configs("top_p")),
        generations=whole(
            first(cfg.get("num_return_sequences"), named.get("generations"), *of_configs("num_return_sequences"))
        ),
        subset=first(meta.get("subset_frac"), *of_configs("subset_frac")),
    )
