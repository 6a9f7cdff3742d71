"""Compare the results and the configurations of experiments. Pure.

Two evals are compared only where their settings are equal: another dataset, temperature or fraction of the questions
makes other figures. Where both evals have the same questions, the difference is computed for each question and then
averaged: most questions are as hard for both, so this has a much smaller error than the difference of two means.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from harvestd.convention.structs import Immutable
from harvestd.report.scripts.evals import Eval, Mean, Setting, mean_of
from harvestd.report.scripts.lines import Line
from harvestd.telemetry.sanitize import HIDDEN, masked

_ERRORS: Final = 2.0
"""Standard errors below which a difference may be chance."""
_LEAST: Final = 2
"""Questions without which an error can't be estimated."""

Value = str | float | bool | None
"""A value of a configuration; a list is its text."""


class Word(StrEnum):
    """The meaning of a difference."""

    BETTER = "better"
    WITHIN_ERROR = "within error"
    """Less than two standard errors."""
    WORSE = "worse"


class Difference(Immutable):
    """The pass rate of an eval minus that of the first one."""

    step: int
    value: float
    error: float
    """One standard error."""
    n: int
    """Questions: the common ones where it is paired, else those of the eval that has fewer."""
    paired: bool
    """Whether it is the mean of the differences of equal questions."""

    @property
    def word(self) -> Word | None:
        """Its meaning; None for too few questions."""
        if self.n < _LEAST:
            return None
        if self.value == 0 or abs(self.value) < _ERRORS * self.error:
            return Word.WITHIN_ERROR
        return Word.BETTER if self.value > 0 else Word.WORSE


def last_in_both(first: Line, other: Line) -> tuple[Eval, Eval] | None:
    """Return the evals of the last step after the start at which both lines have a pass rate; None where none is."""
    ours, theirs = (
        {each.at: each for each in line.scored if each.rate and not each.is_base} for line in (first, other)
    )
    common = [at for at in ours.keys() & theirs.keys() if at is not None]
    return (ours[max(common)], theirs[max(common)]) if common else None


def difference(
    first: Eval, other: Eval, answers_of_first: Mapping[int, float], answers_of_other: Mapping[int, float]
) -> Difference | None:
    """Return how much higher the pass rate of `other` is; None where one of them has none.

    `answers_of_first` and `answers_of_other` hold each question's share of right answers by its number, as
    `evals.answers_of` reads them; where most questions are not common, the difference of the means is returned.
    """
    ours, theirs = first.rate, other.rate
    if ours is None or theirs is None:
        return None
    common = sorted(answers_of_first.keys() & answers_of_other.keys())
    paired = len(common) >= _LEAST and 2 * len(common) >= min(len(answers_of_first), len(answers_of_other))
    if paired:
        value, error, n = mean_of([answers_of_other[each] - answers_of_first[each] for each in common])
    else:
        value, error, n = _unpaired(ours, theirs)
    return Difference(other.at or 0, value, error, n, paired)


def _unpaired(ours: Mean, theirs: Mean) -> Mean:
    return Mean(theirs.value - ours.value, math.hypot(ours.error, theirs.error), min(ours.n, theirs.n))


def by_setting(experiments: Sequence[Iterable[Line]]) -> list[tuple[Setting, tuple[Line | None, ...]]]:
    """Return each setting with the line of each experiment, None where it has none.

    Settings of the most experiments come first, then those with the most evals. Of several lines of one experiment with
    equal settings the longest counts.
    """
    found: dict[Setting, list[Line | None]] = {}
    for place, lines in enumerate(experiments):
        for line in lines:
            row = found.setdefault(line.setting, [None] * len(experiments))
            row[place] = row[place] or line
    ordered = sorted(found.items(), key=lambda item: (-_lines(item[1]), -_evals(item[1])))
    return [(setting, tuple(row)) for setting, row in ordered]


def _lines(row: Sequence[Line | None]) -> int:
    return sum(line is not None for line in row)


def _evals(row: Sequence[Line | None]) -> int:
    return sum(len(line.evals) for line in row if line is not None)


_MOST_KEYS: Final = 2_000
"""Keys that are compared of one configuration, which has some hundred."""
_LONGEST: Final = 300
"""Characters of one value."""


def flattened(config: Mapping[str, object]) -> dict[str, Value]:
    """Return the values of a configuration by dotted key, without secrets; what is null is left out, as if not set."""
    found: dict[str, Value] = {}
    waiting: list[tuple[str, object]] = [("", config)]
    while waiting and len(found) < _MOST_KEYS:
        key, value = waiting.pop()
        if isinstance(value, Mapping) and (value or not key):
            waiting += [(f"{key}.{name}" if key else str(name), each) for name, each in value.items()]
        elif isinstance(value, bool | int | float):
            found[_cut(key)] = value
        elif value is not None:
            # A text that looks like a secret is known by the name before it.
            hidden = HIDDEN in masked(f"{key}={value}")
            found[_cut(key)] = HIDDEN if hidden else _cut(str(value))
    return found


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def different_keys(configurations: Sequence[Mapping[str, Value] | None]) -> list[tuple[str, tuple[Value, ...]]]:
    """Return the keys whose values differ, with each one's value, sorted; None where a configuration does not set one.

    Experiments without a configuration (None) take no part: it is unknown what they set.
    """
    known = [each for each in configurations if each is not None]
    keys = sorted({key for each in known for key in each})
    return [
        (key, tuple(None if each is None else each.get(key) for each in configurations))
        for key in keys
        if len({_compared(each.get(key)) for each in known}) > 1
    ]


def same_keys(configurations: Sequence[Mapping[str, Value] | None]) -> list[tuple[str, Value]]:
    """Return the keys that have one value in all known configurations, with it, sorted."""
    first, *others = [each for each in configurations if each is not None] or [{}]
    return [
        (key, value)
        for key, value in sorted(first.items())
        if all(key in each and _compared(each[key]) == _compared(value) for each in others)
    ]


def _compared(value: Value) -> tuple[bool, Value]:
    """Return a key for comparing: 64 and 64.0 are equal, 1 and true are not."""
    return isinstance(value, bool), value
