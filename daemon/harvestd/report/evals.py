"""What an experiment's evals came to, from the bytes of metrics.csv and run_meta.json. Pure, and bounded.

The files are a box's: what is no number between 0 and 1 is no result. Evals are put side by side only where everything
that they were made with is the same.
"""

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO
from itertools import islice
from typing import Final

from harvestd.convention.patterns import eval_step, run_name
from harvestd.convention.values import Immutable

MAX_METRICS: Final = 8 << 20
"""Bytes of a metrics.csv; a full eval has some hundred KiB."""
_MOST_ROWS: Final = 50_000
"""Of one file; the largest of these datasets has a quarter of it."""
_MOST_COLUMNS: Final = 12
_PASS: Final = re.compile(r"pass@([1-9]\d{0,3})", re.ASCII)
_LEAF: Final = re.compile(r"temp([\d.]{1,8}|NA)_p([\d.]{1,8}|NA)_r(\d{1,6}|NA)", re.ASCII)
BASE: Final = "base"
FINAL: Final = "final"


class Setting(Immutable):
    """What an eval was made with; None for what nobody says."""

    dataset: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    answers: int | None = None
    """A question's, r."""
    subset: float | None = None
    """The fraction of the questions that was asked."""


class EvalFigures(Immutable):
    """One eval."""

    setting: Setting
    step: str
    """A number, "final", "base", or "" where nothing says it."""
    questions: int
    passes: Mapping[int, float]
    """The mean of each pass@k, by k."""

    @property
    def order(self) -> float:
        """Where it stands among the others: the base before all steps, the final one after them."""
        if self.step == BASE:
            return -1
        return float(self.step) if self.step.isascii() and self.step.isdigit() else math.inf

    @property
    def score(self) -> float:
        """What the best one has most of: pass@k for the smallest k there is."""
        return self.passes[min(self.passes)]


def figures_of(place: str, metrics: bytes, meta: Callable[[], bytes]) -> EvalFigures | None:
    """Give an eval's figures; None where its metrics hold none, and `meta` is not asked for run_meta.json.

    `place` is where metrics.csv lies on its box.
    """
    questions, passes = _means(metrics)
    if not passes:
        return None
    step, dataset = _step_and_dataset(place)
    return EvalFigures(_setting(place, dataset, meta()), step, questions, passes)


def _means(metrics: bytes) -> tuple[int, dict[int, float]]:
    rows = csv.reader(StringIO(metrics.decode("utf-8", "replace"), newline=""))
    try:
        columns = _columns(next(rows, []))
        # Most of a run's evals are small and many: without a result nobody asks how many questions there were.
        if not columns:
            return 0, {}
        questions, found = 0, [list[float]() for _ in columns]
        for row in islice(filter(None, rows), _MOST_ROWS):
            questions += 1
            for (_, place), numbers in zip(columns, found, strict=True):
                number = _share(row[place]) if place < len(row) else None
                if number is not None:
                    numbers.append(number)
    except csv.Error:
        return 0, {}
    means = {k: math.fsum(numbers) / len(numbers) for (k, _), numbers in zip(columns, found, strict=True) if numbers}
    return questions, means


def _columns(names: Sequence[str]) -> list[tuple[int, int]]:
    """Give k and the place of each pass@k column, the smallest k first; of two with one name the last one counts."""
    places = {int(match[1]): place for place, name in enumerate(names) if (match := _PASS.fullmatch(name))}
    return sorted(places.items())[:_MOST_COLUMNS]


def _share(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number <= 1 else None


def _step_and_dataset(place: str) -> tuple[str, str | None]:
    """Read the names on the way to a leaf, from the leaf up."""
    step, dataset = "", None
    for component in reversed(place.split("/")):
        found = eval_step(component)
        if found and not step:
            step, dataset = found.step, found.dataset or None
        run = run_name(component)
        if run:
            return step, dataset or run.dataset
    return step, dataset


def _setting(place: str, dataset: str | None, meta: bytes) -> Setting:
    try:
        said = json.loads(meta) if meta else {}
    except (ValueError, RecursionError):
        said = {}
    said = said if isinstance(said, dict) else {}
    decoding = said.get("decoding_cfg")
    decoding = decoding if isinstance(decoding, dict) else {}
    named = next(filter(None, map(_LEAF.fullmatch, reversed(place.split("/")))), None)
    temperature, top_p, answers = (named[1], named[2], named[3]) if named else (None, None, None)
    count = _number(decoding.get("num_return_sequences", answers))
    return Setting(
        dataset=dataset,
        temperature=_number(decoding.get("temperature", temperature)),
        top_p=_number(decoding.get("top_p", top_p)),
        answers=None if count is None else int(count),
        subset=_number(said.get("subset_frac")),
    )


def _number(said: object) -> float | None:
    if isinstance(said, bool) or not isinstance(said, int | float | str):
        return None
    try:
        number = float(said)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= 1e6 else None  # noqa: PLR2004  (beyond it nothing is a setting)


class Line(Immutable):
    """Evals of one setting, in the order of their steps."""

    setting: Setting
    evals: tuple[EvalFigures, ...]

    @property
    def notable(self) -> list[tuple[str, EvalFigures]]:
        """Give what a reader looks for first: the base, the best and the last one, each with its word."""
        found = [("base", each) for each in self.evals[:1] if each.step == BASE]
        trained = [each for each in self.evals if each.step != BASE]
        if trained:
            best = max(trained, key=lambda each: each.score)
            found += [("best", best), ("last", trained[-1])] if best is not trained[-1] else [("last and best", best)]
        return found


def lines_of(evals: Iterable[EvalFigures]) -> list[Line]:
    """Put evals of equal settings together: the longest line first."""
    groups: dict[Setting, list[EvalFigures]] = {}
    for each in evals:
        groups.setdefault(each.setting, []).append(each)
    lines = [Line(setting, tuple(sorted(group, key=lambda one: one.order))) for setting, group in groups.items()]
    return sorted(lines, key=lambda line: (-len(line.evals), str(line.setting)))
