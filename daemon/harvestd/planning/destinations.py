"""Where an eval belongs: to its run, as a base eval to every experiment of its model, or nowhere yet.

Nothing is guessed: an eval whose run is not known, or not the only one of its name, waits in `_unfiled/{host}/`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from functools import cached_property

from msgspec.structs import replace

from harvestd.convention.metadata.models import model_in_names, run_of_reference
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.patterns import RunName, run_name
from harvestd.convention.rules import Selection
from harvestd.convention.scan.model import EvalDir, Group, Survey
from harvestd.convention.structs import Immutable
from harvestd.planning.identity.lineage import Lineage
from harvestd.planning.index import Knowledge
from harvestd.planning.records import ExperimentRecord, RunRecord

UNFILED = "_unfiled"

_Tuning = tuple[str, str]
"""A model as it stands in names, and its fine-tuning dataset."""


class Home(Immutable):
    """A directory at home below which files are placed."""

    directory: LocalPath
    experiment: str | None
    """None in `_unfiled`."""
    is_shared: bool = False
    """Every host's files belong here that are of the experiment's model: those of base evals."""
    is_joint: bool = False
    """Several disks hold parts of one run, so that each file of a group is filed by itself."""

    def beside(self, host: str) -> "Home | None":
        """Return the directory for what does not fit here beside other hosts' files; None where it has no path."""
        experiment, *below = self.directory.parts
        try:
            return replace(self, directory=LocalPath((experiment, *beside(tuple(below), host))))
        except RejectedPath:
            return None


def beside(parts: tuple[str, ...], host: str) -> tuple[str, ...]:
    """Return the place, in an experiment, of what a host made under names that another host's files have already."""
    return (*parts[:1], f"on_{host}", *parts[1:])


class Undecided(Immutable):
    """It can't be said yet where this belongs."""

    reason: str


def experiment_home(experiment: ExperimentRecord, *below: str) -> Home:
    """Return a directory of an experiment; raises `RejectedPath` where its path would be too long."""
    return Home(LocalPath((experiment.directory, *below)), experiment.id)


def base_home(experiment: ExperimentRecord) -> Home:
    """Return the directory of an experiment's base evals; raises `RejectedPath` where its path would be too long."""
    return Home(LocalPath((experiment.directory, "base_eval")), experiment.id, is_shared=True)


def unfiled_home(host: str, eval_dir: EvalDir) -> Home:
    """Return the place where an eval waits for its run, as it lies on the box; raises `RejectedPath` if too long."""
    return Home(LocalPath((UNFILED, host, *eval_dir.tree.name.split("/"), *eval_dir.path.parts)), None)


def named_run(eval_dir: EvalDir, linked: str | None) -> RunName | None:
    """Return the run of an eval, by `linked` (eval_config.yaml's training_run), else by its directory's name."""
    return run_name(_linked_directory(linked)) or eval_dir.run


def _linked_directory(linked: str | None) -> str:
    """Return the name of the run's directory in `linked`, which may be a path that leads to it, or below it."""
    return (run_of_reference(linked) if linked else None) or ""


class Placing:
    """Decides for the evals of one host in one survey."""

    def __init__(
        self,
        host: str,
        storage: str,
        seen: Survey,
        knowledge: Knowledge,
        selection: Selection,
        unnamed: Collection[str],
    ) -> None:
        """Decide from what the same look at the host shows, and from what is known of all hosts.

        `unnamed`: the names of runs on this host that will be placed as soon as their config.yaml has settled.
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
        """Find the run of an eval: by `linked` (eval_config.yaml's training_run), else by its directory's name.

        The same storage goes first; a run elsewhere counts only if it is the only one of that name. None: no run.
        """
        directory = _linked_directory(linked)
        name = named_run(eval_dir, linked)
        if name is None:
            return None
        if name.name in self._unnamed:
            return Undecided(f"{name.name} has no name at home yet")
        candidates = [run for run in self._knowledge.runs_named(name.name) if run.experiment]
        here = [run for run in candidates if run.storage == self._storage]
        chosen = here or candidates
        # Beside run_T there may be a run_T_copy; which of them is meant, the whole name says.
        for exact in (directory, name.name):
            named = [run for run in chosen if run.place.rpartition("/")[2] == exact]
            if len(named) == 1:
                return named[0]
        # Several storages may show one run.
        return chosen[0] if len({run.experiment for run in chosen}) == 1 else None

    def homes(self, eval_dir: EvalDir, linked: str | None) -> list[Home] | Undecided:
        """Return the directories that `eval_dir` (its own level included) belongs in; raises `RejectedPath`."""
        if eval_dir.is_base:
            return self._base_homes(eval_dir)
        run = self.run_of(eval_dir, linked)
        if isinstance(run, Undecided):
            return run
        if run is None or run.experiment is None:
            return [unfiled_home(self._host, eval_dir)]
        experiment = self._knowledge.experiment(run.experiment)
        return [experiment_home(experiment, "eval_results", eval_dir.path.name)]

    def is_home_of(self, home: Home, run: str) -> bool:
        """Return whether a directory at home is that of a run with this directory name."""
        name = run_name(run)
        known = self._knowledge.runs_named(name.name) if name else []
        exact = [each for each in known if each.place.rpartition("/")[2] == run]
        return home.experiment is not None and home.experiment in {each.experiment for each in exact or known}

    def _base_homes(self, eval_dir: EvalDir) -> list[Home] | Undecided:
        tuning = self._tuning_of(eval_dir)
        found = self._tuned.get(tuning) if tuning else None
        if found:
            return [base_home(self._knowledge.experiment(identifier)) for identifier in sorted(found)]
        if self._unnamed:
            return Undecided("a run on this host has no name at home yet")
        return [unfiled_home(self._host, eval_dir)]

    @cached_property
    def _tuned(self) -> dict[_Tuning, set[str]]:
        """The experiments of each model and dataset; made once a look, since every run that is known counts."""
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
        """Return what a base eval's path says; None where its fine-tuning dataset is none that is known."""
        if not eval_dir.finetuned:
            return None
        return self._comparable(eval_dir.finetuned[0].backbone), eval_dir.finetuned[0].dataset

    def _comparable(self, model: str) -> str:
        if model not in self._short:
            # A word for any model's place is compared as it stands: two such words are no one model.
            self._short[model] = model_in_names(model, self._selection.models) or model
        return self._short[model]

    def below_base(self, eval_dir: EvalDir, group: Group, home: Home) -> tuple[str, ...]:
        """Return what stands between `base_eval` and a base eval's files: nothing, or their step directory.

        That is kept where two variants meet. What is here already stays where it is.
        """
        variant = (eval_dir.path.name,)
        directory = home.directory.parts
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
        """The step directories that hold a base eval's file of this name, by model and dataset."""
        found: defaultdict[tuple[_Tuning | None, tuple[str, ...]], set[str]] = defaultdict(set)
        for eval_dir in self._seen.evals:
            if eval_dir.is_base:
                for group in eval_dir.groups:
                    for member in group.members:
                        found[self._tuning_of(eval_dir), member.rest].add(eval_dir.path.name)
        return found
