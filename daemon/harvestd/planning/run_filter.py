"""Selects one run and its evals from everything that a host shows. Pure.

A pick is the name of the run's directory. `possible` selects candidates by names alone; `belonging` selects exactly,
once every eval_config.yaml was read. If a run with exactly that name exists, `run_…_copy` beside it is not selected.
"""

from collections.abc import Callable, Iterable

from harvestd.convention.kinds import run_name
from harvestd.convention.paths import RejectedPath
from harvestd.convention.scan.model import EvalDir, RunDir, ScanResult
from harvestd.convention.structs import Immutable
from harvestd.planning.destinations import Placing, Undecided, named_run
from harvestd.planning.records import RunRecord

LinkOf = Callable[[EvalDir], str | None]
"""Returns the run in the eval_config.yaml of an eval; None if there is none."""


class Belonging(Immutable):
    """The parts of a survey that belong to one run."""

    runs: tuple[RunDir, ...]
    """One, unless two trees have a run of this name."""
    evals: tuple[EvalDir, ...]

    def holds(self, place: str) -> bool:
        """Return whether an absolute path on the host is part of it."""
        above = [run.place for run in self.runs] + [eval_dir.place for eval_dir in self.evals]
        return any(place == each or place.startswith(f"{each}/") for each in above)


def possible(survey: ScanResult, pick: str) -> ScanResult:
    """Return the part of a survey that may belong to the run `pick`, before any eval_config.yaml is read."""
    evals = (each for each in survey.evals if each.config or each.is_base or _is_named(each, pick))
    return ScanResult(_meant(survey.runs, pick), tuple(evals), ())


def belonging(survey: ScanResult, pick: str, placing: Placing, link_of: LinkOf) -> Belonging:
    """Return what belongs to the run `pick`, including base evals that are stored with it."""
    runs = _meant(survey.runs, pick)
    return Belonging(runs, tuple(each for each in survey.evals if _belongs(each, pick, placing, link_of(each))))


def _belongs(eval_dir: EvalDir, pick: str, placing: Placing, linked: str | None) -> bool:
    if eval_dir.is_base:
        try:
            homes = placing.homes(eval_dir, linked)
        except RejectedPath:
            return False
        return not isinstance(homes, Undecided) and any(placing.is_home_of(home, pick) for home in homes)
    name, wanted = named_run(eval_dir, linked), run_name(pick)
    if name is None or wanted is None or name.name != wanted.name:
        return False
    run = placing.run_of(eval_dir, linked)
    return not isinstance(run, RunRecord) or run.place.rpartition("/")[2] in {pick, wanted.name}


def _is_named(eval_dir: EvalDir, pick: str) -> bool:
    wanted = run_name(pick)
    return eval_dir.run is not None and wanted is not None and eval_dir.run.name == wanted.name


def _meant(runs: Iterable[RunDir], pick: str) -> tuple[RunDir, ...]:
    wanted = run_name(pick)
    named = [run for run in runs if wanted is not None and run.name.name == wanted.name]
    exact = [run for run in named if run.path.name == pick]
    return tuple(exact or named)
