"""Which of an experiment's evals may be on one line of a picture.

It is shared by the analysis scripts, beside which it is copied, and by harvestd's README, and needs nothing but Python.
Evals are on one line only where
dataset, temperature, top-p, answers a question and fraction of the questions are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from harvestd.report.scripts.evals import BASE, Eval, Setting
from harvestd.report.scripts.experiment import plain


@dataclass(frozen=True)
class Line:
    """Evals of equal settings, in order of steps, at most one a step."""

    setting: Setting
    evals: tuple[Eval, ...]
    apart: str = ""
    """Where they lie, if another line has the same settings."""

    @property
    def scored(self) -> list[Eval]:
        """Its evals that have a pass rate or a pass@k."""
        return [each for each in self.evals if each.rate or each.ks]

    @property
    def base(self) -> Eval | None:
        """The eval of the model before any training; None where there is none."""
        return next((each for each in self.scored if each.is_base), None)

    @property
    def last(self) -> Eval | None:
        """The eval of the greatest step after the start; None where there is none."""
        return next((each for each in reversed(self.scored) if not each.is_base), None)

    @property
    def best(self) -> Eval | None:
        """The eval with the highest pass rate after the start, of several the earliest; None where none has one."""
        return max((each for each in self.scored if each.rate and not each.is_base), key=_rate, default=None)

    def __str__(self) -> str:
        """Return a legend's words, with the number of questions."""
        counts = {each.n for each in self.evals}
        few, many = f"{min(counts):,}", f"{max(counts):,}"
        n = f"n = {many}" if few == many else f"n = {few} to {many}"
        return f"{self.setting}, {n}" + (f"\n{self.apart}" if self.apart else "")


def _rate(each: Eval) -> float:
    return each.rate.value if each.rate else 0.0


class Lines(NamedTuple):
    """All lines, and one sentence for each eval that is on none."""

    lines: list[Line]
    left_out: list[str]


def lines_of(evals: Iterable[Eval]) -> Lines:
    """Return a line for each setting at each place, the longest first, with the base model's eval of it as step 0."""
    evals = list(evals)
    bases = [each for each in evals if each.place == (BASE,)]
    groups: dict[tuple[Setting, tuple[str, ...]], list[Eval]] = {}
    left_out: list[str] = []
    for each in evals:
        if each.at is None:
            place = plain("/".join(each.place))
            left_out.append(
                f"Left out: the eval of step {each.step or '?'} in {place}: nothing says where that stands."
            )
        elif each.place != (BASE,):
            groups.setdefault((each.setting, each.place), []).append(each)
    bases = _with_datasets(bases, [each for group in groups.values() for each in group])
    for group in groups.values():
        group.extend([base for base in bases if _agree(base, group[0])])
    alone = [base for base in bases if not any(_agree(base, group[0]) for group in groups.values())]
    if groups:
        left_out.extend(
            f"Left out: the base model's eval ({base.setting}), whose settings no other has." for base in alone
        )
    else:
        for base in alone:
            groups.setdefault((base.setting, base.place), []).append(base)
    seen = Counter(setting for setting, _ in groups)
    lines = [
        Line(setting, _one_a_step(group), plain("/".join(place[1:]), 90) if seen[setting] > 1 else "")
        for (setting, place), group in groups.items()
    ]
    return Lines(sorted(lines, key=lambda line: -len(line.evals)), left_out)


def _with_datasets(bases: Iterable[Eval], others: Iterable[Eval]) -> list[Eval]:
    """Take a base eval that does not say its dataset for one of the only other dataset, where n is the same."""
    asked = {(other.setting.dataset, other.n) for other in others}
    datasets = {dataset for dataset, _ in asked}
    only = datasets.pop() if len(datasets) == 1 else None
    return [
        replace(base, setting=base.setting._replace(dataset=only))
        if base.setting.dataset is None and (only, base.n) in asked
        else base
        for base in bases
    ]


def _agree(base: Eval, other: Eval) -> bool:
    """Return whether a base eval is step 0 of another's line; what is not known agrees with nothing."""
    return None not in base.setting and base.setting == other.setting


def _one_a_step(group: Iterable[Eval]) -> tuple[Eval, ...]:
    """Keep of several evals at one step the one of the most questions; a number goes before "final"."""
    steps: dict[int, Eval] = {}
    for each in sorted(group, key=lambda each: (each.n, each.step != "final")):
        steps[each.at or 0] = each
    return tuple(steps[at] for at in sorted(steps))


MOST_KS = 10


def powers_first(ks: Iterable[int]) -> list[int]:
    """Return those k that are shown: where there are too many, powers of two go first, which people compare."""
    return sorted(sorted(ks, key=lambda k: (k & (k - 1) > 0, k))[:MOST_KS])
