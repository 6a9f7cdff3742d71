"""Where an eval belongs: to its run, as a base eval to every experiment of its model, or nowhere yet.

Nothing is guessed: an eval whose run is not known, or not the only one of its name, waits in `_unfiled/{host}/`.
"""

from dataclasses import dataclass

from harvestd.convention.knowledge import Knowledge
from harvestd.convention.layout import EvalDir, Group, RunDir, Survey
from harvestd.convention.models import model_in_names
from harvestd.convention.paths import LocalPath
from harvestd.convention.patterns import Finetuned, run_name
from harvestd.convention.records import ExperimentRecord, RunRecord
from harvestd.convention.selection import Selection

UNFILED = "_unfiled"


@dataclass(frozen=True, slots=True)
class Home:
    """A directory at home below which files are placed."""

    directory: LocalPath
    experiment: str | None
    """None in `_unfiled`."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """It can't be said yet where this belongs."""

    reason: str


def experiment_home(experiment: ExperimentRecord, *below: str) -> Home:
    """Give a directory of an experiment; raises `RejectedPath` where its path would be too long."""
    return Home(LocalPath((experiment.directory, *below)), experiment.id)


def unfiled_home(host: str, eval_dir: EvalDir) -> Home:
    """Give the place where an eval waits for its run, as it lies on the box."""
    return Home(LocalPath((UNFILED, host, *eval_dir.tree.name.split("/"), *eval_dir.path.parts)), None)


class Placing:
    """Decides for the evals of one host in one survey."""

    def __init__(
        self,
        host: str,
        storage: str,
        seen: Survey,
        knowledge: Knowledge,
        selection: Selection,
    ) -> None:
        """Decide from what the same look at the host shows, and from what is known of all hosts."""
        self._host = host
        self._storage = storage
        self._knowledge = knowledge
        self._selection = selection
        self._unnamed = {run.name.name for run in seen.runs if run.config and not self._is_named(run)}
        self._base_dirs = [eval_dir for eval_dir in seen.evals if eval_dir.is_base]

    def _is_named(self, run: RunDir) -> bool:
        record = self._knowledge.run_at(self._storage, run.place)
        return record is not None and record.experiment is not None

    def run_of(self, eval_dir: EvalDir, linked: str | None) -> RunRecord | Undecided | None:
        """Find the run of an eval: by `linked` (eval_config.yaml's training_run), else by its directory's name.

        The same storage goes first; a run elsewhere counts only if it is the only one of that name. None: no run.
        """
        named = run_name(linked.rsplit("/", 1)[-1]) if linked else None
        name = named or eval_dir.run
        if name is None:
            return None
        if name.name in self._unnamed:
            return Undecided(f"{name.name} has no name at home yet")
        candidates = [run for run in self._knowledge.runs_named(name.name) if run.experiment]
        here = [run for run in candidates if run.storage == self._storage]
        chosen = here or candidates
        return chosen[0] if len(chosen) == 1 else None

    def homes(self, eval_dir: EvalDir, linked: str | None) -> list[Home] | Undecided:
        """Give the directories that `eval_dir` (its own level included) belongs in."""
        if eval_dir.is_base:
            return self._base_homes(eval_dir)
        run = self.run_of(eval_dir, linked)
        if isinstance(run, Undecided):
            return run
        if run is None or run.experiment is None:
            return [unfiled_home(self._host, eval_dir)]
        experiment = self._knowledge.experiment(run.experiment)
        return [experiment_home(experiment, "eval_results", eval_dir.path.name)]

    def _base_homes(self, eval_dir: EvalDir) -> list[Home] | Undecided:
        if self._unnamed:
            return Undecided("a run on this host has no name at home yet")
        experiments = self._matching(eval_dir.finetuned[0])
        if not experiments:
            return [unfiled_home(self._host, eval_dir)]
        return [experiment_home(experiment, "base_eval") for experiment in experiments]

    def _matching(self, tuning: Finetuned) -> list[ExperimentRecord]:
        wanted = self._comparable(tuning.backbone), tuning.dataset
        found = {run.experiment for run in self._knowledge.runs() if run.experiment and wanted in self._tunings_of(run)}
        return [self._knowledge.experiment(identifier) for identifier in sorted(found)]

    def _tunings_of(self, run: RunRecord) -> set[tuple[str, str]]:
        config = run.config
        backbones = {self._comparable(each) for each in (config.backbone, config.eval_backbone) if each}
        stated = {(backbone, config.dataset) for backbone in backbones if config.dataset}
        return stated | {(self._comparable(each.backbone), each.dataset) for each in run.tunings}

    def _comparable(self, model: str) -> str:
        return model_in_names(model, self._selection.models)

    def below_base(self, eval_dir: EvalDir, group: Group, home: Home) -> tuple[str, ...]:
        """Give a base leaf's path below `base_eval`: without its step directory unless two variants meet there."""
        leaf = group.path.parts[len(eval_dir.path.parts) :]
        variant = (eval_dir.path.name, *leaf)
        for member in group.members:
            name = member.source.path.name
            if self._knowledge.file(self._storage, member.source.place, home.directory.child(*variant, name)):
                return variant
            flat = home.directory.child(*leaf, name)
            holder = self._knowledge.holder(flat)
            if holder is not None:
                mine = holder.storage == self._storage and holder.place == member.source.place
                return leaf if mine or _same_variant(holder.place, eval_dir) else variant
        rivals = [
            other
            for other in self._base_dirs
            if other.path != eval_dir.path
            and other.finetuned == eval_dir.finetuned
            and any(each.path.parts[len(other.path.parts) :] == leaf for each in other.groups)
        ]
        return variant if rivals else leaf


def _same_variant(place: str, eval_dir: EvalDir) -> bool:
    return f"/{eval_dir.path.name}/" in place
