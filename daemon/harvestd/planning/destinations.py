"""Determines where an eval belongs, and what of a host belongs to one run. Pure.

An eval belongs to its run, as a base eval to every experiment of its model, or to none yet. Nothing is guessed: an eval
without a known run, or with an ambiguous run name, is placed in `_unfiled/{host}/`.

A pick is the name of a run's directory. `possible` selects what may belong to it by names alone; `belonging` selects
exactly, once every eval_config.yaml was read. If a run with exactly that name exists, `run_…_copy` beside it is not
selected.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property

from msgspec.structs import replace

from harvestd.convention.kinds import RunName, run_name
from harvestd.convention.metadata.models import model_in_names, run_of_reference
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.rules import Selection
from harvestd.convention.scan.model import EvalDir, Group, RunDir, ScanResult
from harvestd.convention.structs import Immutable
from harvestd.planning.identity import Lineage
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import BASE_EVAL, UNFILED, ExperimentRecord, RunRecord, Section, section_of

_Tuning = tuple[str, str]
"""A model in the form for names, and its fine-tuning dataset."""


class Destination(Immutable):
    """A local directory below which files are placed."""

    directory: LocalPath
    experiment: str | None
    """None in `_unfiled`."""
    is_shared: bool = False
    """Whether files of every host belong here, as those of base evals of the experiment's model."""
    is_joint: bool = False
    """Whether several disks hold parts of one run, so that each file of a group is placed by itself."""

    @property
    def section(self) -> Section:
        """The section of the files below it."""
        return section_of((*self.directory.parts, ""))

    def beside(self, host: str) -> "Destination | None":
        """Return the directory for files that conflict with other hosts' files here; None if its path is invalid."""
        experiment, *below = self.directory.parts
        try:
            return replace(self, directory=LocalPath((experiment, *beside(tuple(below), host))))
        except RejectedPath:
            return None


def beside(parts: tuple[str, ...], host: str) -> tuple[str, ...]:
    """Return the path in an experiment for a host's files whose names another host's files already have."""
    return (*parts[:1], f"on_{host}", *parts[1:])


class Undecided(Immutable):
    """The destination can't be determined yet."""

    reason: str


def experiment_destination(experiment: ExperimentRecord, *below: str) -> Destination:
    """Return a directory of an experiment; raise `RejectedPath` if its path would be too long."""
    return Destination(LocalPath((experiment.directory, *below)), experiment.id)


def base_destination(experiment: ExperimentRecord) -> Destination:
    """Return the directory of an experiment's base evals; raise `RejectedPath` if its path would be too long."""
    return Destination(LocalPath((experiment.directory, BASE_EVAL)), experiment.id, is_shared=True)


def unfiled_destination(host: str, eval_dir: EvalDir) -> Destination:
    """Return the `_unfiled` directory of an eval, by its remote path; raise `RejectedPath` if it would be too long."""
    return Destination(LocalPath((UNFILED, host, *eval_dir.tree.name.split("/"), *eval_dir.path.parts)), None)


def named_run(eval_dir: EvalDir, linked: str | None) -> RunName | None:
    """Return the run name of an eval, from `linked` (eval_config.yaml's training_run), else from its directory name."""
    return run_name(_linked_directory(linked)) or eval_dir.run


def _linked_directory(linked: str | None) -> str:
    """Return the name of the run directory in `linked`, which may be a path to it or to something below it."""
    return (run_of_reference(linked) if linked else None) or ""


class Placing:
    """Determines the destinations of one host's evals in one survey."""

    def __init__(
        self,
        host: str,
        storage: str,
        seen: ScanResult,
        knowledge: PlanningIndex,
        selection: Selection,
        unnamed: Collection[str],
    ) -> None:
        """Prepare for the survey `seen` of the host; `knowledge` covers all hosts.

        `unnamed`: the names of runs on this host that get a local directory as soon as their config.yaml has settled.
        """
        self._host = host
        self._storage = storage
        self._seen = seen
        self._knowledge = knowledge
        self._selection = selection
        self._unnamed = frozenset(unnamed)
        self._short: dict[str, str] = {}
        self._lineage = Lineage(knowledge.runs_named, selection.models)

    def run_of(self, eval_dir: EvalDir, linked: str | None) -> RunRecord | Undecided | None:
        """Return the run of an eval, by `linked` (eval_config.yaml's training_run), else by its directory name.

        Runs of the same storage take precedence; a run elsewhere counts only if its name is unique. None: no run.
        """
        directory = _linked_directory(linked)
        name = named_run(eval_dir, linked)
        if name is None:
            return None
        if name.name in self._unnamed:
            return Undecided(f"{name.name} has no local name yet")
        candidates = [run for run in self._knowledge.runs_named(name.name) if run.experiment]
        here = [run for run in candidates if run.storage == self._storage]
        chosen = here or candidates
        # Beside run_T there may be a run_T_copy; the whole name decides which one is meant.
        for exact in (directory, name.name):
            named = [run for run in chosen if run.place.rpartition("/")[2] == exact]
            if len(named) == 1:
                return named[0]
        # Several storages may show the same run.
        return chosen[0] if len({run.experiment for run in chosen}) == 1 else None

    def destinations(self, eval_dir: EvalDir, linked: str | None) -> list[Destination] | Undecided:
        """Return the local directories for `eval_dir`, its own level included; raise `RejectedPath` if invalid."""
        if eval_dir.is_base:
            return self._base_destinations(eval_dir)
        run = self.run_of(eval_dir, linked)
        if isinstance(run, Undecided):
            return run
        if run is None or run.experiment is None:
            return [unfiled_destination(self._host, eval_dir)]
        experiment = self._knowledge.experiment(run.experiment)
        return [experiment_destination(experiment, "eval_results", eval_dir.path.name)]

    def is_destination_of(self, destination: Destination, run: str) -> bool:
        """Return whether a local directory is that of a run with this directory name."""
        name = run_name(run)
        known = self._knowledge.runs_named(name.name) if name else []
        exact = [each for each in known if each.place.rpartition("/")[2] == run]
        return destination.experiment is not None and destination.experiment in {
            each.experiment for each in exact or known
        }

    def _base_destinations(self, eval_dir: EvalDir) -> list[Destination] | Undecided:
        tuning = self._tuning_of(eval_dir)
        found = self._tuned.get(tuning) if tuning else None
        if found:
            return [base_destination(self._knowledge.experiment(identifier)) for identifier in sorted(found)]
        if self._unnamed:
            return Undecided("a run on this host has no local name yet")
        return [unfiled_destination(self._host, eval_dir)]

    @cached_property
    def _tuned(self) -> dict[_Tuning, set[str]]:
        """The experiments by model and dataset; computed once per scan, since every known run counts."""
        found: dict[_Tuning, set[str]] = {}
        for run in self._knowledge.runs():
            if run.experiment:
                for tuning in self._tunings_of(run):
                    found.setdefault(tuning, set()).add(run.experiment)
        return found

    def _tunings_of(self, run: RunRecord) -> Iterator[_Tuning]:
        trained_from = run.config.backbone and self._lineage.model_of_reference(run.config.backbone)
        for backbone in (trained_from, run.config.eval_backbone):
            if backbone and run.config.dataset and (model := self._comparable(backbone)):
                yield model, run.config.dataset
        for tuning in run.tunings:
            yield self._comparable(tuning.backbone), tuning.dataset

    def _tuning_of(self, eval_dir: EvalDir) -> _Tuning | None:
        """Return the model and dataset in a base eval's path; None if its fine-tuning dataset is unknown."""
        if not eval_dir.finetuned:
            return None
        return self._comparable(eval_dir.finetuned[0].backbone), eval_dir.finetuned[0].dataset

    def _comparable(self, model: str) -> str:
        if model not in self._short:
            # A text that names no model is compared literally: two different ones are not the same model.
            self._short[model] = model_in_names(model, self._selection.models) or model
        return self._short[model]

    def below_base(self, eval_dir: EvalDir, group: Group, destination: Destination) -> tuple[str, ...]:
        """Return the components between `base_eval` and a base eval's files: none, or their step directory.

        The step directory is used if two variants have files of the same name. Files that are already local stay in
        place.
        """
        variant = (eval_dir.path.name,)
        directory = destination.directory.parts
        for member in group.members:
            if self._knowledge.file_at(self._storage, member.source.place, directory + variant + member.rest):
                return variant
        for member in group.members:
            holder = self._knowledge.holder_at(directory + member.rest)
            if holder is not None:
                return () if f"/{eval_dir.path.name}/" in holder.place else variant
        tuning = self._tuning_of(eval_dir)
        met = any(len(self._variants[tuning, member.rest]) > 1 for member in group.members)
        return variant if met else ()

    @cached_property
    def _variants(self) -> defaultdict[tuple[_Tuning | None, tuple[str, ...]], set[str]]:
        """The step directories that contain a base eval's file, by model, dataset and the file's path."""
        found: defaultdict[tuple[_Tuning | None, tuple[str, ...]], set[str]] = defaultdict(set)
        for eval_dir in self._seen.evals:
            if eval_dir.is_base:
                for group in eval_dir.groups:
                    for member in group.members:
                        found[self._tuning_of(eval_dir), member.rest].add(eval_dir.path.name)
        return found


LinkOf = Callable[[EvalDir], str | None]
"""Returns the run in the eval_config.yaml of an eval; None if there is none."""


class RunContents(Immutable):
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


def belonging(survey: ScanResult, pick: str, placing: Placing, link_of: LinkOf) -> RunContents:
    """Return what belongs to the run `pick`, including base evals that are stored with it."""
    runs = _meant(survey.runs, pick)
    return RunContents(runs, tuple(each for each in survey.evals if _belongs(each, pick, placing, link_of(each))))


def _belongs(eval_dir: EvalDir, pick: str, placing: Placing, linked: str | None) -> bool:
    if eval_dir.is_base:
        try:
            destinations = placing.destinations(eval_dir, linked)
        except RejectedPath:
            return False
        return not isinstance(destinations, Undecided) and any(
            placing.is_destination_of(destination, pick) for destination in destinations
        )
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
