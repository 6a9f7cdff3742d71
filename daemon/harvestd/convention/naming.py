"""The experiment's name, `{experiment_name}_{date}_{model}_{hardware}_{steps}steps`, with where each part came from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from harvestd.convention.facts import ConfigFacts, TrainingInfo
from harvestd.convention.models import hardware_of_gpus, model_in_names
from harvestd.convention.patterns import RunName

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a name and the source that gave it."""

    value: str
    source: str


@dataclass(frozen=True, slots=True)
class ExperimentName:
    """A name with its provenance."""

    experiment_name: Part
    date: Part
    model: Part
    hardware: Part
    steps: Part

    @property
    def parts(self) -> dict[str, Part]:
        """The parts by their field's name, in the order in which they stand in the directory's name."""
        return {
            "experiment_name": self.experiment_name,
            "date": self.date,
            "model": self.model,
            "hardware": self.hardware,
            "steps": self.steps,
        }

    @property
    def directory(self) -> str:
        """The directory's name."""
        return "_".join(part.value for part in self.parts.values()) + "steps"


@dataclass(frozen=True, slots=True)
class NamingRule:
    """An operator's rule; every glob that it has must match."""

    experiment: str
    host: str | None = None
    run: str | None = None
    model: str | None = None

    def matches(self, host: str, run: str, models: tuple[str, ...]) -> bool:
        """Tell whether this rule speaks of that run; `models`: the id and its short form."""
        return (
            (self.host is None or fnmatchcase(host, self.host))
            and (self.run is None or fnmatchcase(run, self.run))
            and (self.model is None or any(fnmatchcase(model, self.model) for model in models))
        )


@dataclass(frozen=True, slots=True)
class NamingContext:
    """What naming knows beside the run itself."""

    host: str
    rules: tuple[NamingRule, ...] = ()
    default_experiment: str = "baseline_training"
    hardware: str | None = None
    """From the operator's host entry."""
    experiment: str | None = None
    """From the host entry or the cloud instance's tag."""
    gpu_names: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)


def name_run(run: RunName, config: ConfigFacts, final: TrainingInfo | None, context: NamingContext) -> ExperimentName:
    """Name a run by the first source that answers for each part."""
    model_id, model_source = _model(config, final)
    model = model_in_names(model_id, context.models) if model_id else UNKNOWN
    return ExperimentName(
        experiment_name=_experiment(run, config, (model_id or "", model), context),
        date=Part(run.date, "run directory"),
        model=Part(model or UNKNOWN, model_source),
        hardware=_hardware(final, context),
        steps=_steps(config, final),
    )


def _experiment(run: RunName, config: ConfigFacts, models: tuple[str, ...], context: NamingContext) -> Part:
    for number, rule in enumerate(context.rules, start=1):
        if rule.matches(context.host, run.name, models):
            return Part(rule.experiment, f"naming rule {number}")
    if context.experiment:
        return Part(context.experiment, f"host {context.host}")
    if config.gns_probe:
        return Part("gns_test", "config.yaml gns_probe.enabled")
    return Part(context.default_experiment, "naming.default_experiment")


def _model(config: ConfigFacts, final: TrainingInfo | None) -> tuple[str | None, str]:
    if config.backbone:
        return config.backbone, "config.yaml backbone"
    if final and final.backbone:
        return final.backbone, "training_info.json model_config.backbone"
    return None, "no source"


def _hardware(final: TrainingInfo | None, context: NamingContext) -> Part:
    if context.hardware:
        return Part(context.hardware, f"host entry {context.host}")
    found = hardware_of_gpus(context.gpu_names, final.world_size if final else None)
    return Part(found, "nvidia-smi") if found else Part(UNKNOWN, "no source")


def _steps(config: ConfigFacts, final: TrainingInfo | None) -> Part:
    if final and final.step is not None:
        return Part(str(final.step), "step_final training_info.json")
    if config.total_steps is not None:
        return Part(str(config.total_steps), "config.yaml total_steps (provisional)")
    return Part(UNKNOWN, "no source")


def free_name(name: ExperimentName, run: RunName, host: str, is_taken: Callable[[str], bool]) -> ExperimentName:
    """Give `name`, or its first variant whose directory is free: with the run's full time, then the host, as date.

    What stands already is never renamed for a newcomer; where even the variants are taken, a number follows.
    """
    variants = [
        name.date,
        Part(run.timestamp, "run directory (its day and settings are taken)"),
        Part(f"{run.timestamp}_{host}", "run directory and host (its second and settings are taken)"),
    ]
    for date in variants:
        candidate = replace(name, date=date)
        if not is_taken(candidate.directory):
            return candidate
    number = 2
    while True:
        date = Part(f"{run.timestamp}_{host}_{number}", "run directory, host and a number")
        candidate = replace(name, date=date)
        if not is_taken(candidate.directory):
            return candidate
        number += 1
