"""How an experiment gets its name: which source answers, and what happens when a name is taken."""

import pytest
from msgspec.structs import replace

from harvestd.convention.kinds import RunName, run_name
from harvestd.convention.metadata.naming import NamingContext, NamingFacts, NamingRule, Part, free_name, name_run
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.paths import LocalPath, encoded
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import ExperimentRecord

CONFIG = ConfigFacts(backbone="Qwen/Qwen2.5-1.5B", total_steps=64)
PARENT = "run_2025-08-19_10-00-00"
CONTEXT = NamingContext(host="gpu-a", hardware="h100")
RENTED = NamingContext(host="gpu-a", instance_type="gpu_8x_h100_sxm5")


def run_of(name: str = "run_2025-08-20_03-31-43") -> RunName:
    """Parse a run's name."""
    found = run_name(name)
    assert found is not None
    return found


def test_the_example_of_the_convention_comes_out() -> None:
    """A rule, a config and a host's entry make the directory that the convention shows."""
    rules = (NamingRule("gns_test_run", run="run_2025-08-20_*"),)
    name = name_run(run_of(), NamingFacts(CONFIG), replace(CONTEXT, rules=rules))
    assert name.directory == "gns_test_run_2025-08-20_qwen2_5_1_5b_h100_64steps"
    assert list(name.parts) == ["experiment_name", "date", "model", "hardware", "steps"]


@pytest.mark.parametrize(
    ("context", "config", "expected", "source"),
    [
        (CONTEXT, CONFIG, "baseline_training", "naming.default_experiment"),
        (replace(CONTEXT, default_experiment="mine"), CONFIG, "mine", "naming.default_experiment"),
        (CONTEXT, replace(CONFIG, gns_probe=True), "gns_test", "config.yaml gns_probe.enabled"),
        (replace(CONTEXT, experiment="tagged"), replace(CONFIG, gns_probe=True), "tagged", "host gpu-a"),
        (
            replace(CONTEXT, experiment="tagged", rules=(NamingRule("ruled", host="gpu-*"),)),
            CONFIG,
            "ruled",
            "naming rule 1",
        ),
        (
            replace(CONTEXT, rules=(NamingRule("no", host="other"), NamingRule("yes", model="qwen2_5_*"))),
            CONFIG,
            "yes",
            "naming rule 2",
        ),
        (replace(CONTEXT, rules=(NamingRule("by_id", model="Qwen/*"),)), CONFIG, "by_id", "naming rule 1"),
        (
            replace(CONTEXT, rules=(NamingRule("no", run="run_2025-08-20_*", model="llama*"),)),
            CONFIG,
            "baseline_training",
            "naming.default_experiment",
        ),
        (replace(CONTEXT, experiment="../../x"), CONFIG, "_.._x", "host gpu-a"),
        (replace(CONTEXT, experiment="..."), CONFIG, "baseline_training", "naming.default_experiment"),
    ],
)
def test_the_first_source_names_the_experiment(
    context: NamingContext, config: ConfigFacts, expected: str, source: str
) -> None:
    """Rule, tag, probe, default, in this order; the name says which it was, and holds plain characters only."""
    part = name_run(run_of(), NamingFacts(config), context).experiment_name
    assert (part.value, part.source) == (expected, source)


@pytest.mark.parametrize(
    ("evidence", "expected", "source"),
    [
        (NamingFacts(CONFIG, TrainingInfo(64, "other/Model"), "a/Base"), "qwen2_5_1_5b", "config.yaml backbone"),
        (
            NamingFacts(final=TrainingInfo(64, "other/Llama-2"), base_model="a/Base"),
            "llama_2",
            "training_info.json model_config.backbone",
        ),
        (
            NamingFacts(ConfigFacts(backbone="模型"), TrainingInfo(64, "a/b")),
            "b",
            "training_info.json model_config.backbone",
        ),
        (
            NamingFacts(base_model="meta-llama/Meta-Llama-3-8B", backbones=frozenset({"qwen2"})),
            "llama3_8b",
            "adapter_config.json base_model_name_or_path",
        ),
        (NamingFacts(backbones=frozenset({"qwen2_5_15"})), "qwen2_5_1_5b", "its evals' directory"),
        (NamingFacts(backbones=frozenset({"qwen2_5_15", "Qwen2.5-1.5B"})), "qwen2_5_1_5b", "its evals' directory"),
        (NamingFacts(backbones=frozenset({"mine"})), "special_7b", "its evals' directory"),
        (NamingFacts(backbones=frozenset({"qwen2_5_15", "qwen2"})), "unknown", "its evals name several models"),
        (NamingFacts(final=TrainingInfo(64)), "unknown", "no source"),
        (NamingFacts(), "unknown", "no source"),
        (NamingFacts(ConfigFacts(backbone="///")), "unknown", "no source"),
        (
            NamingFacts(ConfigFacts(backbone="./checkpoints/checkpoint-500"), base_model="a/b"),
            "b",
            "adapter_config.json base_model_name_or_path",
        ),
        (
            NamingFacts(ConfigFacts(backbone=f"/x/{PARENT}/training_state/step_final/model"), parents={PARENT: "a/b"}),
            "b",
            f"config.yaml backbone, a checkpoint of {PARENT}",
        ),
        (
            NamingFacts(ConfigFacts(backbone=f"/x/{PARENT}/training_state/step_final/model"), base_model="a/c"),
            "c",
            "adapter_config.json base_model_name_or_path",
        ),
    ],
)
def test_the_first_source_names_the_model(evidence: NamingFacts, expected: str, source: str) -> None:
    """A source that comes to nothing is passed over, and no model at all is called unknown."""
    part = name_run(run_of(), evidence, replace(CONTEXT, models={"mine": "org/Special-7B"})).model
    assert (part.value, part.source) == (expected, source)


@pytest.mark.parametrize(
    ("context", "final", "expected", "source"),
    [
        (replace(CONTEXT, hardware="8x_h100"), TrainingInfo(world_size=2), "8x_h100", "host entry gpu-a"),
        (replace(RENTED, gpu_names=("NVIDIA A10",)), None, "8x_h100", "instance type of gpu-a"),
        (RENTED, TrainingInfo(world_size=2), "2x_h100", "instance type of gpu-a"),
        (replace(RENTED, gpus=4), None, "4x_h100", "instance type of gpu-a"),
        (replace(RENTED, gpus=4), TrainingInfo(world_size=2), "2x_h100", "instance type of gpu-a"),
        (NamingContext("gpu-a", gpus=4, gpu_names=("NVIDIA A10",) * 8), None, "4x_a10", "nvidia-smi"),
        (replace(RENTED, gpu_names=("A100", "H100")), None, "8x_h100", "instance type of gpu-a"),
        (
            replace(CONTEXT, machine="gpu-b"),
            None,
            "h100",
            "host entry of gpu-b, which wrote the run",
        ),
        (
            replace(RENTED, machine="gpu-b"),
            None,
            "8x_h100",
            "instance type of gpu-b, which wrote the run",
        ),
        (
            NamingContext("gpu-a", gpu_names=("NVIDIA A10",), machine="gpu-b"),
            None,
            "a10",
            "nvidia-smi of gpu-b, which wrote the run",
        ),
        (replace(RENTED, instance_type="cpu_4x_general"), None, "unknown", "no source"),
        (NamingContext("gpu-a", gpu_names=("NVIDIA H100 80GB HBM3",) * 8), None, "8x_h100", "nvidia-smi"),
        (
            NamingContext("gpu-a", gpu_names=("NVIDIA H100 80GB HBM3",) * 8),
            TrainingInfo(world_size=2),
            "2x_h100",
            "nvidia-smi",
        ),
        (NamingContext("gpu-a", gpu_names=("A100", "H100")), None, "unknown", "nvidia-smi names types that differ"),
        (NamingContext("gpu-a"), None, "unknown", "no source"),
    ],
)
def test_the_first_source_names_the_hardware(
    context: NamingContext, final: TrainingInfo | None, expected: str, source: str
) -> None:
    """The operator goes first, then the count that training used, then nvidia-smi; mixed types are not guessed."""
    part = name_run(run_of(), NamingFacts(CONFIG, final), context).hardware
    assert (part.value, part.source) == (expected, source)


@pytest.mark.parametrize(
    ("evidence", "expected", "source"),
    [
        (NamingFacts(CONFIG, TrainingInfo(40), logged_step=39), "40", "step_final training_info.json"),
        (NamingFacts(CONFIG, TrainingInfo(None), logged_step=39), "39", "train_log.jsonl, its greatest step"),
        (NamingFacts(CONFIG, None, logged_step=39), "64", "config.yaml total_steps (provisional)"),
        (NamingFacts(CONFIG, TrainingInfo(None)), "64", "config.yaml total_steps (provisional)"),
        (NamingFacts(CONFIG), "64", "config.yaml total_steps (provisional)"),
        (NamingFacts(logged_step=39), "unknown", "no source"),
    ],
)
def test_the_steps_are_those_that_were_made(evidence: NamingFacts, expected: str, source: str) -> None:
    """step_final goes first; of a finished run the log counts before the plan; the plan alone is provisional."""
    part = name_run(run_of(), evidence, CONTEXT).steps
    assert (part.value, part.source) == (expected, source)


@pytest.mark.parametrize(
    ("name", "evidence", "expected", "source"),
    [
        ("run_2025-08-20_03-31-43", NamingFacts(events_began=1), "2025-08-20", "run directory"),
        ("run_2024-02-29_00-00-00", NamingFacts(), "2024-02-29", "run directory"),
        ("run_2026-13-45_99-99-99", NamingFacts(events_began=1755660703), "2025-08-20", "tfevents file"),
        ("run_2026-02-30_00-00-00", NamingFacts(events_began=1755660703), "2025-08-20", "tfevents file"),
        (
            "run_2026-13-45_99-99-99",
            NamingFacts(events_began=10**11, config_written=1755660703),
            "2025-08-20",
            "config.yaml, when it was written",
        ),
        ("run_2026-13-45_99-99-99", NamingFacts(config_written=-(10**18)), "unknown", "no source"),
    ],
)
def test_a_date_that_is_none_gives_way_to_the_next_source(
    name: str, evidence: NamingFacts, expected: str, source: str
) -> None:
    """The directory's name, the TensorBoard file's, the time at which config.yaml was written."""
    part = name_run(run_of(name), evidence, CONTEXT).date
    assert (part.value, part.source) == (expected, source)


def test_a_time_that_is_none_is_in_no_variant_of_a_name() -> None:
    """Runs of one day whose directories hold no time are told apart by host and number."""
    run = run_of("run_2026-13-45_99-99-99")
    knowledge = PlanningIndex()
    made = []
    for number in range(3):
        name = name_run(run, NamingFacts(CONFIG, events_began=1755660703), CONTEXT)
        free = free_name(name, run, "gpu-a", knowledge.is_directory_taken)
        knowledge.add_experiment(ExperimentRecord(str(number), free))
        made.append(free.date.value)
    assert made == ["2025-08-20", "2025-08-20_gpu-a", "2025-08-20_gpu-a_2"]


def test_two_equal_runs_of_a_day_carry_their_times_and_hosts() -> None:
    """A name that is taken gives way to the full time, then to the host, then to a number; case does not tell apart."""
    knowledge = PlanningIndex()
    made = []
    for i, host in enumerate(["gpu-a", "gpu-b", "GPU-B", "gpu-b"]):
        name = name_run(run_of(), NamingFacts(CONFIG), CONTEXT)
        free = free_name(name, run_of(), host, knowledge.is_directory_taken)
        knowledge.add_experiment(ExperimentRecord(str(i), free))
        made.append(free.date.value)
    assert made == [
        "2025-08-20",
        "2025-08-20_03-31-43",
        "2025-08-20_03-31-43_GPU-B",
        "2025-08-20_03-31-43_gpu-b_2",
    ]


def test_a_directory_that_differs_in_case_only_is_taken() -> None:
    """On a disk that does not tell case apart the two would be one."""
    knowledge = PlanningIndex()
    name = name_run(run_of(), NamingFacts(CONFIG), CONTEXT)
    shouted = replace(name, experiment_name=Part(name.experiment_name.value.upper(), "the operator"))
    knowledge.add_experiment(ExperimentRecord("e1", shouted))
    assert free_name(name, run_of(), "gpu-a", knowledge.is_directory_taken).date.value == "2025-08-20_03-31-43"


def test_thousands_of_runs_of_one_second_are_named_quickly() -> None:
    """A box that shows any number of equal runs asks for a number of names that grows by its logarithm only."""
    asked = 0
    taken: set[str] = set()

    def is_taken(directory: str) -> bool:
        nonlocal asked
        asked += 1
        return directory in taken

    for _ in range(2000):
        taken.add(free_name(name_run(run_of(), NamingFacts(CONFIG), CONTEXT), run_of(), "gpu-a", is_taken).directory)
    assert len(taken) == 2000
    assert asked < 2000 * 40


@pytest.mark.parametrize("config", [ConfigFacts(backbone="x" * 200, total_steps=10**9), ConfigFacts(backbone="m")])
def test_the_longest_and_strangest_facts_make_one_valid_component(config: ConfigFacts) -> None:
    """Whatever box, cloud and operator say, the directory is a name that a file system holds, in plain characters."""
    context = NamingContext(
        host="h/" * 100,
        hardware="../\n" * 100,
        experiment="/é\x1b" * 100,
        gpu_names=("x" * 300,),
        models={"m": "\udcff" * 300},
    )
    name = name_run(run_of(), NamingFacts(config, TrainingInfo(world_size=10**9)), context)
    answers = iter([True] * 9)
    free = free_name(name, run_of(), context.host, lambda _: next(answers, False))
    assert LocalPath((free.directory,)).name == free.directory
    assert free.directory.isascii()
    assert len(encoded(free.directory)) <= 255
