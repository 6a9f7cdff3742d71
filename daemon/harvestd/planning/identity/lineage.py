"""Finds the model of a run that was trained from a checkpoint of another run: the other run's own model. Pure.

Runs are found by directory name, on any storage; if runs of one name were trained from different models, none is used.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from harvestd.convention.metadata.models import model_id, model_in_names, run_of_reference
from harvestd.convention.metadata.naming import Evidence
from harvestd.convention.patterns import run_name
from harvestd.convention.scan.model import RunDir
from harvestd.planning.records import RunRecord

RunsNamed = Callable[[str], Sequence[RunRecord]]
"""Returns all runs of one name (`run_2025-08-20_03-31-43`)."""

_MAX_DEPTH: Final = 16
"""The maximal length of a chain of runs, each trained from the previous one."""


def with_parents(evidence: Evidence, runs_named: RunsNamed, aliases: Mapping[str, str]) -> Evidence:
    """Return `evidence` with the models of the runs to which its model references lead."""
    lineage = Lineage(runs_named, aliases)
    runs = {run for reference in _references(evidence) if (run := run_of_reference(reference))}
    models = {run: model for run in runs if (model := lineage.model_of_run(run))}
    return replace(evidence, parents=models)


def dated(evidence: Evidence, run: RunDir) -> Evidence:
    """Return `evidence` with the times of a run's files, for a directory whose name has no valid time."""
    written = None if run.config is None else run.config.version.mtime_ns // 10**9
    return replace(evidence, events_began=run.events_began, config_written=written)


class Lineage:
    """Follows references from run to run, each run once."""

    def __init__(self, runs_named: RunsNamed, aliases: Mapping[str, str]) -> None:
        self._runs_named = runs_named
        self._aliases = aliases
        self._known: dict[str, str | None] = {}
        """By run directory name; None also while the look-up is in progress, which ends every cycle."""

    def model_of_reference(self, reference: str, depth: int = 0) -> str | None:
        """Return the model that a reference names, or the model of the run to which it leads; None if there is none."""
        run = run_of_reference(reference)
        return model_id(reference, self._aliases) or (self.model_of_run(run, depth + 1) if run else None)

    def model_of_run(self, directory: str, depth: int = 0) -> str | None:
        """Return the model of the run with this directory name."""
        if directory not in self._known and depth < _MAX_DEPTH:
            self._known[directory] = None
            found = {model for run in self._runs(directory) if (model := self._own_model(run, depth))}
            if len({model_in_names(model, self._aliases) for model in found}) == 1:
                self._known[directory] = min(found)
        return self._known.get(directory)

    def _runs(self, directory: str) -> Sequence[RunRecord]:
        name = run_name(directory)
        named = self._runs_named(name.name) if name else ()
        # Beside run_T there may be a run_T_copy; the whole name decides which one is meant.
        return [run for run in named if run.place.rpartition("/")[2] == directory] or named

    def _own_model(self, run: RunRecord, depth: int) -> str | None:
        models = (self.model_of_reference(reference, depth) for reference in _references(run.evidence))
        return next(filter(None, models), None)


def _references(evidence: Evidence) -> Iterator[str]:
    """Yield the references to a model, in the order of `naming`."""
    final = evidence.final.backbone if evidence.final else None
    yield from filter(None, (evidence.config.backbone, final, evidence.base_model))
    yield from _only(evidence.backbones)


def _only(backbones: Iterable[str]) -> Iterable[str]:
    known = list(backbones)
    return known if len(known) == 1 else ()
