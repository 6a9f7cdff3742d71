"""Updates an experiment's name from newer facts. Pure.

The parts that a person or a rule chose, and the day, do not change; model, hardware and steps take their present
values, but a known value never becomes unknown again.
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from harvestd.convention.metadata.naming import UNKNOWN, ExperimentName, Part, free_name
from harvestd.convention.patterns import RunName
from harvestd.planning.records import ExperimentRecord

BY_HAND: Final = "harvestd name"
"""The source of a name chosen by a person: facts never change it."""

IsTaken = Callable[[str], bool]
"""Returns whether another experiment has, or had, a directory of this name."""


def followed(
    experiment: ExperimentRecord, facts: ExperimentName, run: RunName, host: str, is_taken: IsTaken
) -> ExperimentName:
    """Return the name that the experiment of `run` should have; `facts` is the run's name computed anew."""
    now = experiment.name
    if experiment.moved_to is not None or now.experiment_name.source == BY_HAND:
        return now
    after = replace(
        now,
        model=_newer(now.model, facts.model),
        hardware=_newer(now.hardware, facts.hardware),
        steps=_newer(now.steps, facts.steps),
    )
    if after.directory == now.directory:
        return after
    return free_name(replace(after, date=facts.date), run, host, is_taken)


def _newer(now: Part, facts: Part) -> Part:
    return now if facts.value == UNKNOWN else facts


def given(name: ExperimentName, experiment_name: str, run: RunName, host: str, is_taken: IsTaken) -> ExperimentName:
    """Return `name` with the first part chosen by a person; its date part may change if its directory is taken."""
    date = Part(run.date, "run directory") if run.started is not None else name.date
    chosen = replace(name, experiment_name=Part(experiment_name, BY_HAND), date=date)
    return free_name(chosen, run, host, is_taken)
