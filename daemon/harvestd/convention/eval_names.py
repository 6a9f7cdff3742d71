"""Parsers for the names of eval directories, used by the planner and the README; the analysis scripts get a copy.

Imports only Python's standard library and runs on Python 3.9. Forms: `run_T[_dataset]`, `step_{S}_{dataset}`,
`temp{T}_p{P}_r{R}`; digits are ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

DATASETS = ("gsm8k_r1_template", "gsm8k_latex", "gsm8k", "mathmix", "math", "short")
"""Datasets that the parsers recognise at the end of a name; the operator can add more."""

_RUN = re.compile(r"run_(?P<time>\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:_(?P<suffix>.+))?", re.DOTALL | re.ASCII)
_STEP = re.compile(r"step_(?P<step>\d+|final|base)(?P<tail>.*)", re.DOTALL | re.ASCII)
_LEAF = re.compile(r"temp([\d.]{1,8}|NA)_p([\d.]{1,8}|NA)_r(\d{1,6}|NA)", re.ASCII)


class RunParts(NamedTuple):
    """The parts of `run_2025-08-20_03-31-43_gsm8k`."""

    timestamp: str
    suffix: str | None
    """The text after the time: in eval trees the dataset."""


def run_parts(component: str) -> RunParts | None:
    """Parse the name of a run directory or of an eval directory of a run; return None for any other name."""
    match = _RUN.fullmatch(component) if component.startswith("run_") else None
    return RunParts(match["time"], match["suffix"]) if match else None


class StepParts(NamedTuple):
    """The parts of `step_base_full_gsm8k`."""

    step: str
    """A number, "final" or "base"."""
    variant: str
    """The text between the step and the dataset: "full", else empty."""
    dataset: str
    """Empty if nothing follows the step."""


def step_parts(component: str, datasets: Sequence[str] = DATASETS) -> StepParts | None:
    """Parse `step_{N|final}_{dataset}` and `step_base*_{dataset}`; return None for any other name.

    The longest known dataset at the end of the name is the dataset; if none fits, everything after the step is.
    """
    match = _STEP.fullmatch(component)
    if match is None:
        return None
    step, tail = match["step"], match["tail"]
    if step != "base":
        return StepParts(step, "", tail[1:]) if not tail or tail.startswith("_") else None
    for dataset in sorted(datasets, key=len, reverse=True):
        if tail.endswith("_" + dataset):
            return StepParts(step, tail[: -len(dataset) - 1].strip("_"), dataset)
    return StepParts(step, "", tail.strip("_"))


class LeafParts(NamedTuple):
    """The parts of `temp0.7_p1.0_r8` as written; "NA" is None."""

    temperature: str | None
    top_p: str | None
    answers: str | None


def leaf_parts(component: str) -> LeafParts | None:
    """Parse the name of a leaf directory, which holds the decoding settings; return None for any other name."""
    match = _LEAF.fullmatch(component)
    return LeafParts(*(None if part == "NA" else part for part in match.groups())) if match else None
