"""The experiment's name, `{experiment_name}_{date}_{model}_{hardware}_{steps}steps`, with where each part came from.

Whatever the sources say, the whole is one component that every file system takes: what host, cloud and operator wrote
is cut to a length and to plain characters first. A directory is a run by the form of its name, which holds the time;
where that is no time (`run_2026-13-45_99-99-99`), the date is that of the first TensorBoard file, then of config.yaml.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from msgspec import field
from msgspec.structs import replace

from harvestd.convention.metadata.models import (
    hardware_of_gpus,
    hardware_of_instance_type,
    model_id,
    model_in_names,
    run_of_reference,
)
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.patterns import RunName
from harvestd.convention.structs import Immutable

UNKNOWN = "unknown"

_MAX_EXPERIMENT = 100
_MAX_MODEL = 60
_MAX_HARDWARE = 32
_MAX_HOST = 24
"""Characters. With a full time, a number and the steps they make less than the 255 bytes of a component."""
_EARLIEST = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
_LATEST = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


def is_plain(text: str) -> bool:
    """Return whether a text can be the first part of a name as it stands."""
    return bool(text) and _plain(text, _MAX_EXPERIMENT) == text


def _plain(text: str, length: int) -> str:
    return _NOT_PLAIN.sub("_", text).lstrip(".-")[:length]


class Part(Immutable):
    """One part of a name and the source that gave it."""

    value: str
    source: str


class ExperimentName(Immutable):
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
        # Asked for each file: written out, which is a fifth of what a loop over the parts costs.
        settings = f"{self.model.value}_{self.hardware.value}_{self.steps.value}"
        return f"{self.experiment_name.value}_{self.date.value}_{settings}steps"


class NamingRule(Immutable):
    """An operator's rule; every glob that it has must match."""

    experiment: str
    host: str | None = None
    run: str | None = None
    model: str | None = None

    def matches(self, host: str, run: str, models: tuple[str, ...]) -> bool:
        """Return whether this rule is about that run; `models`: the reference, the id, and the id's short form."""
        return (
            (self.host is None or fnmatchcase(host, self.host))
            and (self.run is None or fnmatchcase(run, self.run))
            and (self.model is None or any(fnmatchcase(model, self.model) for model in models))
        )


class NamingContext(Immutable):
    """What naming knows beside the run itself."""

    host: str
    rules: tuple[NamingRule, ...] = ()
    default_experiment: str = "baseline_training"
    hardware: str | None = None
    """From the operator's host entry."""
    experiment: str | None = None
    """From the host entry or the cloud instance's tag."""
    instance_type: str | None = None
    """What the cloud calls its hardware."""
    gpus: int | None = None
    """How many GPUs the cloud says that are."""
    gpu_names: tuple[str, ...] = ()
    machine: str | None = None
    """Whose hardware these five are, where another host of the same storage wrote the run; None: that of `host`."""
    models: Mapping[str, str] = field(default_factory=dict)


class Evidence(Immutable):
    """What is known of one run that can name it."""

    config: ConfigFacts = field(default_factory=ConfigFacts)
    final: TrainingInfo | None = None
    """None: it is not finished."""
    base_model: str | None = None
    """From an adapter_config.json."""
    backbones: frozenset[str] = frozenset()
    """As the directories of its evals write them."""
    logged_step: int | None = None
    """The greatest in its log."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """The models of the runs from whose checkpoints it was trained, by the names of their directories."""
    events_began: int | None = None
    """Unix seconds in the name of its first TensorBoard file."""
    config_written: int | None = None
    """Unix seconds at which config.yaml was written, by the host's clock."""


def name_run(run: RunName, evidence: Evidence, context: NamingContext) -> ExperimentName:
    """Name a run by the first source that answers for each part."""
    identifiers, model = _model(evidence, context)
    return ExperimentName(
        experiment_name=_experiment(run, evidence.config, (*identifiers, model.value), context),
        date=_date(run, evidence),
        model=model,
        hardware=_hardware(evidence.final, context),
        steps=_steps(evidence),
    )


def _experiment(run: RunName, config: ConfigFacts, models: tuple[str, ...], context: NamingContext) -> Part:
    for number, rule in enumerate(context.rules, start=1):
        if rule.matches(context.host, run.name, models):
            return Part(_plain(rule.experiment, _MAX_EXPERIMENT), f"naming rule {number}")
    given = _plain(context.experiment or "", _MAX_EXPERIMENT)
    if given:
        return Part(given, f"host {context.host}")
    if config.gns_probe:
        return Part("gns_test", "config.yaml gns_probe.enabled")
    return Part(_plain(context.default_experiment, _MAX_EXPERIMENT), "naming.default_experiment")


def _date(run: RunName, evidence: Evidence) -> Part:
    if run.started is not None:
        return Part(run.date, "run directory")
    sources = ((evidence.events_began, "tfevents file"), (evidence.config_written, "config.yaml, when it was written"))
    for seconds, source in sources:
        if seconds is not None and _EARLIEST <= seconds < _LATEST:
            return Part(f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}", source)
    return Part(UNKNOWN, "no source")


def _model(evidence: Evidence, context: NamingContext) -> tuple[tuple[str, ...], Part]:
    """Return the model, and what a rule's glob may match beside it: the reference as it was found, and its id."""
    # Evals of one run whose directories name several models contradict each other: none of them is believed.
    evaluated = {model_in_names(each, context.models): each for each in sorted(evidence.backbones)}
    sources = (
        (evidence.config.backbone, "config.yaml backbone"),
        (evidence.final.backbone if evidence.final else None, "training_info.json model_config.backbone"),
        (evidence.base_model, "adapter_config.json base_model_name_or_path"),
        (*evaluated.values(), "its evals' directory") if len(evaluated) == 1 else (None, ""),
    )
    for reference, source in sources:
        if reference is None:
            continue
        identifier, of = model_id(reference, context.models), source
        if identifier is None:
            parent = run_of_reference(reference) or ""
            identifier, of = evidence.parents.get(parent, ""), f"{source}, a checkpoint of {parent}"
        model = model_in_names(identifier, context.models)[:_MAX_MODEL]
        if model:
            return (reference, identifier), Part(model, of)
    return (), Part(UNKNOWN, "its evals name several models" if len(evaluated) > 1 else "no source")


def _hardware(final: TrainingInfo | None, context: NamingContext) -> Part:
    machine = context.machine or context.host
    wrote = f" of {machine}, which wrote the run" if context.machine else ""
    given = _plain(context.hardware or "", _MAX_HARDWARE)
    if given:
        return Part(given, f"host entry{wrote or f' {machine}'}")
    used = (final.world_size if final else None) or context.gpus
    rented = _plain(hardware_of_instance_type(context.instance_type or "", used) or "", _MAX_HARDWARE)
    if rented:
        return Part(rented, f"instance type{wrote or f' of {machine}'}")
    found = hardware_of_gpus(context.gpu_names, used)
    if found:
        return Part(found[:_MAX_HARDWARE], f"nvidia-smi{wrote}")
    return Part(UNKNOWN, "nvidia-smi names types that differ" if len(set(context.gpu_names)) > 1 else "no source")


def _steps(evidence: Evidence) -> Part:
    final = evidence.final
    if final and final.step is not None:
        return Part(str(final.step), "step_final training_info.json")
    if final and evidence.logged_step is not None:
        return Part(str(evidence.logged_step), "train_log.jsonl, its greatest step")
    if evidence.config.total_steps is not None:
        return Part(str(evidence.config.total_steps), "config.yaml total_steps (provisional)")
    return Part(UNKNOWN, "no source")


def free_name(name: ExperimentName, run: RunName, host: str, is_taken: Callable[[str], bool]) -> ExperimentName:
    """Return `name`, or its first variant whose directory is free: with the run's full time, then the host, as date.

    What stands already is never renamed for a newcomer; where even the variants are taken, a number follows.
    """
    host = _plain(host, _MAX_HOST)
    time = run.timestamp if run.started is not None else name.date.value
    variants = [
        name.date,
        Part(time, "run directory (its day and settings are taken)"),
        Part(f"{time}_{host}", "run directory and host (its second and settings are taken)"),
    ]
    for date in variants:
        candidate = replace(name, date=date)
        if not is_taken(candidate.directory):
            return candidate

    def numbered(number: int) -> ExperimentName:
        return replace(name, date=Part(f"{time}_{host}_{number}", "run directory, host and a number"))

    # A box can show any number of runs of one second: doubling and halving asks for a few of them, not for each.
    free = 2
    while is_taken(numbered(free).directory):
        free *= 2
    taken = free // 2
    while free - taken > 1:
        middle = (free + taken) // 2
        if is_taken(numbered(middle).directory):
            taken = middle
        else:
            free = middle
    return numbered(free)
