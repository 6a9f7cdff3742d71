"""Experiment names, `{experiment_name}_{date}_{model}_{hardware}_{steps}steps`, with the source of each part.

The result is always one component that every file system accepts: text from host, cloud and operator is first cut to a
maximal length and to plain characters. A directory is a run by the form of its name, which contains the start time. If
that is not a valid time (`run_2026-13-45_99-99-99`), the date is that of the first TensorBoard file, then of
config.yaml.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from msgspec import field
from msgspec.structs import replace

from harvestd.convention.kinds import RunName
from harvestd.convention.metadata.models import (
    hardware_of_gpus,
    hardware_of_instance_type,
    model_id,
    model_in_names,
    run_of_reference,
)
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.structs import Immutable

UNKNOWN = "unknown"

_MAX_EXPERIMENT = 100
_MAX_MODEL = 60
_MAX_HARDWARE = 32
_MAX_HOST = 24
"""Characters. Together with a full time, a number and the steps they fit in the 255 bytes of a component."""
_EARLIEST = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
_LATEST = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


def is_plain(text: str) -> bool:
    """Return whether a text can be the first part of a name without changes."""
    return bool(text) and _plain(text, _MAX_EXPERIMENT) == text


def _plain(text: str, length: int) -> str:
    return _NOT_PLAIN.sub("_", text).lstrip(".-")[:length]


class Part(Immutable):
    """One part of a name, and its source."""

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
        """The parts by field name, in their order in the directory name."""
        return {
            "experiment_name": self.experiment_name,
            "date": self.date,
            "model": self.model,
            "hardware": self.hardware,
            "steps": self.steps,
        }

    @property
    def directory(self) -> str:
        """The directory name."""
        # Computed for each file: written out, it costs a fifth of a loop over the parts.
        settings = f"{self.model.value}_{self.hardware.value}_{self.steps.value}"
        return f"{self.experiment_name.value}_{self.date.value}_{settings}steps"


class NamingRule(Immutable):
    """A naming rule of the operator; all of its globs must match."""

    experiment: str
    host: str | None = None
    run: str | None = None
    model: str | None = None

    def matches(self, host: str, run: str, models: tuple[str, ...]) -> bool:
        """Return whether this rule applies to a run; `models`: the reference, the id, and the id's short form."""
        return (
            (self.host is None or fnmatchcase(host, self.host))
            and (self.run is None or fnmatchcase(run, self.run))
            and (self.model is None or any(fnmatchcase(model, self.model) for model in models))
        )


class NamingContext(Immutable):
    """Inputs for naming besides the run itself."""

    host: str
    rules: tuple[NamingRule, ...] = ()
    default_experiment: str = "baseline_training"
    hardware: str | None = None
    """From the operator's host entry."""
    experiment: str | None = None
    """From the host entry or the cloud instance's tag."""
    instance_type: str | None = None
    """The cloud's name of its hardware."""
    gpus: int | None = None
    """The number of its GPUs as reported by the cloud."""
    gpu_names: tuple[str, ...] = ()
    machine: str | None = None
    """The machine that the five fields above describe if another host of the volume wrote the run; None: `host`."""
    models: Mapping[str, str] = field(default_factory=dict)


class NamingFacts(Immutable):
    """Facts about one run from which its name is made."""

    config: ConfigFacts = field(default_factory=ConfigFacts)
    final: TrainingInfo | None = None
    """None if the run is not finished."""
    base_model: str | None = None
    """From an adapter_config.json."""
    backbones: frozenset[str] = frozenset()
    """From the directory names of its evals."""
    logged_step: int | None = None
    """The greatest step in its log."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """The models of the runs from whose checkpoints it was trained, by run directory name."""
    events_began: int | None = None
    """Unix seconds in the name of its first TensorBoard file."""
    config_written: int | None = None
    """Unix seconds at which config.yaml was written, by the host's clock."""


def name_run(run: RunName, facts: NamingFacts, context: NamingContext) -> ExperimentName:
    """Return the name of a run; each part comes from the first source that has it."""
    identifiers, model = _model(facts, context)
    return ExperimentName(
        experiment_name=_experiment(run, facts.config, (*identifiers, model.value), context),
        date=_date(run, facts),
        model=model,
        hardware=_hardware(facts.final, context),
        steps=_steps(facts),
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


def _date(run: RunName, facts: NamingFacts) -> Part:
    if run.started is not None:
        return Part(run.date, "run directory")
    sources = ((facts.events_began, "tfevents file"), (facts.config_written, "config.yaml, when it was written"))
    for seconds, source in sources:
        if seconds is not None and _EARLIEST <= seconds < _LATEST:
            return Part(f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}", source)
    return Part(UNKNOWN, "no source")


def _model(facts: NamingFacts, context: NamingContext) -> tuple[tuple[str, ...], Part]:
    """Return what else a rule's glob may match (the reference as found, and its id), and the model."""
    # If the eval directories of one run name several models, they contradict each other and none is used.
    evaluated = {model_in_names(each, context.models): each for each in sorted(facts.backbones)}
    sources = (
        (facts.config.backbone, "config.yaml backbone"),
        (facts.final.backbone if facts.final else None, "training_info.json model_config.backbone"),
        (facts.base_model, "adapter_config.json base_model_name_or_path"),
        (*evaluated.values(), "its evals' directory") if len(evaluated) == 1 else (None, ""),
    )
    for reference, source in sources:
        if reference is None:
            continue
        identifier, of = model_id(reference, context.models), source
        if identifier is None:
            parent = run_of_reference(reference) or ""
            identifier, of = facts.parents.get(parent, ""), f"{source}, a checkpoint of {parent}"
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


def _steps(facts: NamingFacts) -> Part:
    final = facts.final
    if final and final.step is not None:
        return Part(str(final.step), "step_final training_info.json")
    if final and facts.logged_step is not None:
        return Part(str(facts.logged_step), "train_log.jsonl, its greatest step")
    if facts.config.total_steps is not None:
        return Part(str(facts.config.total_steps), "config.yaml total_steps (provisional)")
    return Part(UNKNOWN, "no source")


def free_name(name: ExperimentName, run: RunName, host: str, is_taken: Callable[[str], bool]) -> ExperimentName:
    """Return `name`, or its first variant with a free directory: the date becomes the full time, then time and host.

    An existing directory is never renamed for a new one; if all variants are taken, a number is appended.
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

    # A host can show any number of runs of one second: doubling and bisection query only a few of them.
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
