"""What every kind of path on a box becomes at home, as a table: where it goes, or why it does not."""

from collections.abc import Callable

import pytest

from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.snapshot import Tree, TreeState
from support.box_trees import DIRECTORY, EVALS, MIB, ROOT, TRAINING, Box, Home, T, reasons, targets

RUN = f"training_runs/{T}"
EVAL = f"eval_runs/{T}_gsm8k_r1_template"
LEAF = "qwen2_5_15_gsm8k_finetuned/step_10_gsm8k_r1_template/temp0.7_p1.0_r8"
BASE = "eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k_r1_template/temp0.7_p1.0_r8"
UNNAMED = "not below a directory that names a run or a model"
UNKNOWN = "not part of the convention"
UNFINISHED = "rule: unfinished file or core dump"

Context = Callable[[Box], None]


def run(box: Box) -> None:
    """Show one run that has begun."""
    box.add_run()


def finished(box: Box) -> None:
    """Show one run that is over, its last checkpoint whole."""
    box.add_run()
    box.finish()


def evaluated(box: Box) -> None:
    """Show a run and one eval of it in layout A."""
    box.add_run()
    box.file(f"{EVAL}/eval_config.yaml")
    box.add_leaf(f"{EVAL}/{LEAF}")


def batch_evaluated(box: Box) -> None:
    """Show a run and a batch eval of it, layout D."""
    box.add_run()
    box.add_leaf(f"{EVAL}/results/step_10", marker="summary.json")


def base_evaluated(box: Box) -> None:
    """Show a run and an eval of its base model, layout B."""
    box.add_run()
    box.add_leaf(BASE)


def nothing(box: Box) -> None:
    """Show no run at all."""
    box.add_leaf("eval_runs/run_2001-01-01_00-00-00_math/results/step_1")


WANTED = [
    (run, f"{RUN}/config.yaml", "training_run/config.yaml"),
    (run, f"{RUN}/resume_config.yaml", "training_run/resume_config.yaml"),
    (run, f"{RUN}/logs/train_log.jsonl", "training_run/logs/train_log.jsonl"),
    (
        run,
        f"{RUN}/tensorboard/events.out.tfevents.1755660703.gpu-a.4242.0",
        "training_run/tensorboard/events.out.tfevents.1755660703.gpu-a.4242.0",
    ),
    (
        run,
        f"{RUN}/tensorboard/loss_train/events.out.tfevents.1755660703.gpu-a.4242.0",
        "training_run/tensorboard/loss_train/events.out.tfevents.1755660703.gpu-a.4242.0",
    ),
    (
        run,
        f"{RUN}/tensorboard/lightning_logs/version_0/events.out.tfevents.1755660703.gpu-a.4242.0",
        "training_run/tensorboard/lightning_logs/version_0/events.out.tfevents.1755660703.gpu-a.4242.0",
    ),
    (finished, f"{RUN}/training_state/step_final/optimizer.pt", "training_run/training_state/step_final/optimizer.pt"),
    (
        finished,
        f"{RUN}/training_state/step_final/model/README.md",
        "training_run/training_state/step_final/model/README.md",
    ),
    (
        finished,
        f"{RUN}/training_state/step_final/training_info.json",
        "training_run/training_state/step_final/training_info.json",
    ),
    # A: an eval of a run, with the run's name.
    (evaluated, f"{EVAL}/{LEAF}/metrics.csv", f"eval_results/{T}_gsm8k_r1_template/{LEAF}/metrics.csv"),
    (evaluated, f"{EVAL}/{LEAF}/run_meta.json", f"eval_results/{T}_gsm8k_r1_template/{LEAF}/run_meta.json"),
    (evaluated, f"{EVAL}/eval_config.yaml", f"eval_results/{T}_gsm8k_r1_template/eval_config.yaml"),
    # The same somewhere below, and with a leaf right in it.
    (run, f"eval_runs/old/{T}_math/a/metrics.csv", f"eval_results/{T}_math/a/metrics.csv"),
    (run, f"eval_runs/{T}_math/metrics.csv", f"eval_results/{T}_math/metrics.csv"),
    (run, f"eval_runs/{T}/x/metrics.csv", f"eval_results/{T}/x/metrics.csv"),
    # D: batch evals.
    (batch_evaluated, f"{EVAL}/config.yaml", f"eval_results/{T}_gsm8k_r1_template/config.yaml"),
    (batch_evaluated, f"{EVAL}/metadata.json", f"eval_results/{T}_gsm8k_r1_template/metadata.json"),
    (
        batch_evaluated,
        f"{EVAL}/results/step_10/metrics.csv",
        f"eval_results/{T}_gsm8k_r1_template/results/step_10/metrics.csv",
    ),
    (
        batch_evaluated,
        f"{EVAL}/results/step_10/summary.json",
        f"eval_results/{T}_gsm8k_r1_template/results/step_10/summary.json",
    ),
    (
        batch_evaluated,
        f"{EVAL}/results/consolidated_metrics.csv",
        f"eval_results/{T}_gsm8k_r1_template/results/consolidated_metrics.csv",
    ),
    (
        batch_evaluated,
        f"{EVAL}/results/consolidated_summary.json",
        f"eval_results/{T}_gsm8k_r1_template/results/consolidated_summary.json",
    ),
    # B and C: base evals, and evals of steps that name no run.
    (base_evaluated, f"{BASE}/metrics.csv", "base_eval/temp0.7_p1.0_r8/metrics.csv"),
    (base_evaluated, f"{BASE}/run_meta.json", "base_eval/temp0.7_p1.0_r8/run_meta.json"),
    (
        run,
        "eval_runs/Qwen/Qwen2.5-1.5B_gsm8k_finetuned/step_base_gsm8k/tempNA_pNA_rNA/metrics.csv",
        "base_eval/tempNA_pNA_rNA/metrics.csv",
    ),
    (run, "eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_gsm8k/metrics.csv", "base_eval/metrics.csv"),
    # Where two names on the way say what it is, the outermost decides.
    (run, f"eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_math/{T}/metrics.csv", f"base_eval/{T}/metrics.csv"),
    (
        run,
        f"eval_runs/{T}_math/qwen2_5_15_gsm8k_finetuned/step_base_math/metrics.csv",
        f"eval_results/{T}_math/qwen2_5_15_gsm8k_finetuned/step_base_math/metrics.csv",
    ),
    (run, "eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_gsm8k/eval_config.yaml", "base_eval/eval_config.yaml"),
]

UNFILED = [
    (run, "qwen2_5_15_gsm8k_finetuned/step_20_gsm8k/temp0.7_p1.0_r8/metrics.csv"),
    (run, "Qwen/Qwen2.5-1.5B_gsm8k_finetuned/step_20_math/temp0.7_p1.0_r8/metrics.csv"),
    (run, "qwen2_5_15_math_finetuned/step_base_math/temp0.7_p1.0_r8/metrics.csv"),
    (run, "qwen2_5_05_gsm8k_finetuned/step_base_gsm8k/temp0.7_p1.0_r8/metrics.csv"),
    (run, "qwen2_5_15_newset_finetuned/step_base_newset/temp0.7_p1.0_r8/metrics.csv"),
    (run, "qwen2_5_15_newset_finetuned/step_7_newset/temp0.7_p1.0_r8/metrics.csv"),
    (run, "run_2024-01-01_00-00-00_gsm8k/results/step_1/metrics.csv"),
    (nothing, f"{T}_gsm8k/{LEAF}/metrics.csv"),
]

LEFT_OUT = [
    (run, f"{RUN}/training_state/step_10/optimizer.pt", 'rule: select.checkpoint = "final"'),
    (run, f"{RUN}/training_state/step_10/training_info.json", 'rule: select.checkpoint = "final"'),
    (run, f"{RUN}/training_state/step_latest_copy/optimizer.pt", UNKNOWN),
    (run, f"{RUN}/training_state/notes.txt", UNKNOWN),
    (run, f"{RUN}/training_state/step_final", UNKNOWN),
    (run, f"{RUN}/logs/rollouts.jsonl", "rule: rollouts are large and never wanted"),
    (run, f"{RUN}/logs/rollouts_rank3.jsonl", "rule: rollouts are large and never wanted"),
    (run, f"{RUN}/logs/ratios.jsonl", "rule: rollouts are large and never wanted"),
    (run, f"{RUN}/logs/stdout.txt", UNKNOWN),
    (run, f"{RUN}/logs/old/train_log.jsonl", UNKNOWN),
    (run, f"{RUN}/tensorboard/{'x/' * 5}events.out.tfevents.1", UNKNOWN),
    (run, f"{RUN}/tensorboard/x/profile.json", UNKNOWN),
    (run, f"{RUN}/tensorboard/profile.json", UNKNOWN),
    (run, f"{RUN}/config.yaml.tmp", "rule: temporary file"),
    (run, f"{RUN}/config.yaml~", UNFINISHED),
    (run, f"{RUN}/.config.yaml.swp", "rule: temporary file"),
    (run, f"{RUN}/core.4242", UNFINISHED),
    (run, f"{RUN}/core.py", UNKNOWN),
    (run, f"{RUN}/logs/.nfs000123", UNFINISHED),
    (finished, f"{RUN}/training_state/step_final/optimizer.pt.part", UNFINISHED),
    (run, f"{RUN}/wandb/run-1/files/x", "rule: W&B's files are not fetched"),
    (run, f"{RUN}/logs/.ipynb_checkpoints/train_log.jsonl", "rule: .ipynb_checkpoints is never wanted"),
    (run, f"{RUN}/config.yaml/x", UNKNOWN),
    (run, f"{RUN}/README.md", UNKNOWN),
    (run, f"{RUN}/training_run/{T}/config.yaml", UNKNOWN),
    (run, "training_runs/notes.txt", "not below a run_* directory"),
    (run, "training_runs/latest/config.yaml", "not below a run_* directory"),
    (run, "training_runs/.cache/x", "rule: .cache is never wanted"),
    (
        run,
        "training_runs/run_2025-08-20_03-31-44/logs/train_log.jsonl",
        "a husk: no config.yaml, so no run",
    ),
    (evaluated, f"{EVAL}/{LEAF}/records.jsonl.gz", "rule: select.records = false"),
    (evaluated, f"{EVAL}/{LEAF}/completions.jsonl", "rule: select.records = false"),
    (batch_evaluated, f"{EVAL}/results/step_10/predictions.jsonl", "rule: select.records = false"),
    (batch_evaluated, f"{EVAL}/logs/worker.log", UNKNOWN),
    (batch_evaluated, f"{EVAL}/results/other.csv", UNKNOWN),
    (evaluated, f"{EVAL}/{LEAF}/notes.txt", UNKNOWN),
    (evaluated, f"{EVAL}/{LEAF}/metrics.csv.tmp", "rule: temporary file"),
    (evaluated, f"{EVAL}/elsewhere/run_meta.json", "no metrics.csv beside it"),
    (evaluated, f"{EVAL}/wandb/metrics.csv", "rule: W&B's files are not fetched"),
    (run, "eval_runs/metrics.csv", UNNAMED),
    (run, "eval_runs/mine/temp0.7_p1.0_r8/metrics.csv", UNNAMED),
    (run, "eval_runs/qwen_gsm8k_finetuned/metrics.csv", UNNAMED),
    (run, "eval_runs/qwen_gsm8k_finetuned/final/temp0.7_p1.0_r8/metrics.csv", UNNAMED),
]


@pytest.fixture
def box() -> Box:
    """Return a box without anything on it."""
    return Box()


def planned(context: Context, path: str, box: Box, selection: Selection | None = None) -> tuple[list[str], list[str]]:
    """Return where `path` goes and why it does not, on a box that shows it beside what `context` says."""
    context(box)
    tree, below = box.place(path)
    if below not in box.entries.get(tree, {}):
        box.file(path, 777)
    home = Home(selection)
    home.learn(box)
    plan = home.plan(box)
    return targets(plan).get(path, []), reasons(plan, path)


@pytest.mark.parametrize(("context", "path", "expected"), WANTED)
def test_what_the_convention_names_comes_home(context: Context, path: str, expected: str, box: Box) -> None:
    """Each file that a row of the convention names has its one place in the experiment, and no reason to stay."""
    assert planned(context, path, box) == ([f"{DIRECTORY}/{expected}"], [])


@pytest.mark.parametrize(("context", "path"), UNFILED)
def test_an_eval_without_a_home_waits_unfiled(context: Context, path: str, box: Box) -> None:
    """Metrics whose run or model is not known come home all the same, as they lie on the box."""
    assert planned(context, f"eval_runs/{path}", box) == ([f"_unfiled/gpu-a/eval_runs/{path}"], [])


@pytest.mark.parametrize(("context", "path", "reason"), LEFT_OUT)
def test_what_no_row_names_is_left_out_with_its_reason(context: Context, path: str, reason: str, box: Box) -> None:
    """Each file that stays has exactly one reason on record, its own or that of a directory above it."""
    assert planned(context, path, box) == ([], [reason])


CHOICES: list[tuple[Selection, Context, str, str | None]] = [
    (Selection(records=True), evaluated, f"{EVAL}/{LEAF}/records.jsonl.gz", None),
    (Selection(records=True), batch_evaluated, f"{EVAL}/results/step_10/predictions.jsonl", None),
    (Selection(records=True), run, f"{EVAL}/lonely/records.jsonl.gz", None),
    (Selection(tensorboard=False), run, f"{RUN}/tensorboard/events.out.tfevents.1", "rule: select.tensorboard = false"),
    (
        Selection(checkpoint=CheckpointPolicy.NONE),
        finished,
        f"{RUN}/training_state/step_final/optimizer.pt",
        'rule: select.checkpoint = "none"',
    ),
    (Selection(exclude=("*.csv",)), evaluated, f"{EVAL}/{LEAF}/metrics.csv", 'rule: select.exclude "*.csv"'),
    (Selection(exclude=("step_10_*",)), evaluated, f"{EVAL}/{LEAF}/metrics.csv", 'rule: select.exclude "step_10_*"'),
    (Selection(exclude=(f"{T}*",)), run, f"{RUN}/logs/train_log.jsonl", f'rule: select.exclude "{T}*"'),
    (Selection(exclude=("old",)), run, f"training_runs/old/{T}/config.yaml", 'rule: select.exclude "old"'),
    (Selection(exclude=("old",)), run, f"eval_runs/old/{T}_math/metrics.csv", 'rule: select.exclude "old"'),
    (
        Selection(exclude=(f"{T}/tensorboard",)),
        run,
        f"{RUN}/tensorboard/events.out.tfevents.1",
        f'rule: select.exclude "{T}/tensorboard"',
    ),
    (
        Selection(exclude=("b*", "*.md")),
        finished,
        f"{RUN}/training_state/step_final/model/README.md",
        'rule: select.exclude "*.md"',
    ),
    (Selection(exclude=("nothing",)), run, f"{RUN}/config.yaml", None),
    (Selection(include=("logs/*",)), run, f"{RUN}/logs/stdout.txt", None),
    (Selection(include=("logs/*",)), run, f"{RUN}/logs/rollouts.jsonl", None),
    (Selection(include=("*.wandb",)), run, f"{RUN}/wandb/offline-run-1/run-1.wandb", None),
    (Selection(include=("core.*",)), run, f"{RUN}/core.4242", None),
    (Selection(include=("notes.txt",)), evaluated, f"{EVAL}/notes.txt", None),
    (Selection(include=("*/notes.txt",)), evaluated, f"{EVAL}/{LEAF}/notes.txt", None),
    (Selection(include=("*.gz",)), evaluated, f"{EVAL}/{LEAF}/records.jsonl.gz", None),
    (Selection(include=("notes.txt",)), run, f"{RUN}/logs/notes.txt", UNKNOWN),
    (Selection(include=("*",), exclude=("*.txt",)), run, f"{RUN}/notes.txt", 'rule: select.exclude "*.txt"'),
]


@pytest.mark.parametrize(("selection", "context", "path", "reason"), CHOICES)
def test_the_operator_chooses(selection: Selection, context: Context, path: str, reason: str | None, box: Box) -> None:
    """What the operator wants comes, what is not wanted stays; a pattern meets any name and any path in a tree."""
    where, why = planned(context, path, box, selection)
    assert why == ([] if reason is None else [reason])
    assert len(where) == (1 if reason is None else 0)


def test_a_run_whose_config_is_not_wanted_is_still_a_run(box: Box) -> None:
    """The config is read to name the run, whether the file itself is wanted or not."""
    where, why = planned(run, f"{RUN}/logs/train_log.jsonl", box, Selection(exclude=("config.yaml",)))
    assert (where, why) == ([f"{DIRECTORY}/training_run/logs/train_log.jsonl"], [])


def test_a_dataset_of_the_operator_files_its_base_evals(box: Box) -> None:
    """What was unfiled for want of the dataset's name finds its experiment once the operator says it."""
    path = "eval_runs/qwen2_5_15_newset_finetuned/step_base_full_newset/temp0.7_p1.0_r8/metrics.csv"
    box.add_run()
    config = box.configs[RUN]
    box.configs[RUN] = type(config)(config.backbone, config.eval_backbone, 64, "newset")
    where, _ = planned(lambda _: None, path, box, Selection(datasets=("newset",)))
    assert where == [f"{DIRECTORY}/base_eval/temp0.7_p1.0_r8/metrics.csv"]


def test_what_is_no_file_is_listed_and_never_opened(box: Box) -> None:
    """Links, devices and directories that were not walked have a reason each, with a size where it is known."""
    box.add_run()
    box.link(f"{RUN}/logs/shadow", "/etc/shadow")
    box.special(f"{RUN}/tensorboard/pipe")
    box.pruned(f"{RUN}/.cache", 5 * MIB)
    box.pruned(f"{RUN}/.git")
    box.link("training_runs/latest", T)
    box.special("eval_runs/socket")
    home = Home()
    home.learn(box)
    plan = home.plan(box)
    assert reasons(plan, f"{RUN}/logs/shadow") == ["a link: never followed"]
    assert reasons(plan, f"{RUN}/tensorboard/pipe") == ["not a regular file: never opened"]
    assert reasons(plan, "training_runs/latest") == ["a link: never followed"]
    assert reasons(plan, "eval_runs/socket") == ["not a regular file: never opened"]
    sizes = {each.place.removeprefix(f"{ROOT}/"): each.size for found in plan.left_out.values() for each in found}
    assert sizes[f"{RUN}/.cache"] == 5 * MIB
    assert sizes[f"{RUN}/.git"] is None


def test_a_directory_that_may_not_be_listed_is_told_where_it_belongs(box: Box) -> None:
    """A shut directory is on record with its run, with its eval, or with none; what lies beside it comes."""
    evaluated(box)
    box.shut(f"{RUN}/training_state")
    box.shut(f"{EVAL}/private")
    box.shut("training_runs/run_2025-09-09_09-09-09")
    box.shut("eval_runs/lost+found")
    home = Home()
    home.learn(box)
    plan = home.plan(box)
    experiment = home.knowledge.experiments()[0].id
    found = {
        key: sorted(each.place.removeprefix(f"{ROOT}/") for each in entries) for key, entries in plan.left_out.items()
    }
    assert found == {
        experiment: [f"{EVAL}/private", f"{RUN}/training_state"],
        None: ["eval_runs/lost+found", "training_runs/run_2025-09-09_09-09-09"],
    }
    for path in (f"{RUN}/training_state", "training_runs/run_2025-09-09_09-09-09", "eval_runs/lost+found"):
        assert reasons(plan, path) == ["its directory may not be listed on the box"]
    assert f"{RUN}/config.yaml" in targets(plan)
    assert f"{EVAL}/{LEAF}/metrics.csv" in targets(plan)


def test_a_tree_that_may_not_be_listed_is_on_record(box: Box) -> None:
    """A whole tree that is shut is one line, and the other tree goes on."""
    box.add_run()
    box.states[EVALS] = TreeState.DENIED
    plan = Home().plan(box)
    assert reasons(plan, "eval_runs") == ["its directory may not be listed on the box"]
    assert TRAINING.name not in {each.place for found in plan.left_out.values() for each in found}


def test_a_tree_that_another_root_leads_to_is_on_record(box: Box) -> None:
    """Its files come by the first way to it alone, and the second way says so."""
    other = Tree("/lambda/nfs/localfs", "training_runs", TRAINING.kind)
    box.trees = (TRAINING, EVALS, other)
    box.states[other] = TreeState.TWIN
    box.add_run()
    home = Home()
    home.learn(box)
    plan = home.plan(box)
    (told,) = plan.left_out[None]
    assert (told.place, told.size, told.reason) == (
        str(other),
        0,
        "another root or tree leads to the same directory: taken there",
    )
    assert f"{RUN}/config.yaml" in targets(plan)


def test_one_line_names_the_topmost_directory_that_holds_nothing_wanted(box: Box) -> None:
    """Junk is summed up where a person would name it, never in a directory that holds something wanted."""
    evaluated(box)
    for i in range(5):
        box.file(f"{RUN}/debug/dumps/deep/{i}.bin", 10)
        box.file(f"{EVAL}/qwen2_5_15_gsm8k_finetuned/plots/a/{i}.png", 10)
        box.file(f"training_runs/scratch/x/{i}/data", 10)
    box.file(f"{EVAL}/qwen2_5_15_gsm8k_finetuned/notes.txt", 10)
    box.file(f"{RUN}/training_state/step_10/optimizer.pt", 10)
    box.file(f"{RUN}/training_state/notes.txt", 10)
    home = Home()
    home.learn(box)
    lines = {
        each.place.removeprefix(f"{ROOT}/"): (each.size, each.entries)
        for found in home.plan(box).left_out.values()
        for each in found
    }
    assert lines == {
        f"{RUN}/debug": (50, 5),
        f"{EVAL}/qwen2_5_15_gsm8k_finetuned/plots": (50, 5),
        f"{EVAL}/qwen2_5_15_gsm8k_finetuned/notes.txt": (10, 1),
        f"{RUN}/training_state/step_10": (10, 1),
        f"{RUN}/training_state/notes.txt": (10, 1),
        "training_runs/scratch": (50, 5),
    }


def test_many_entries_of_one_directory_are_one_line(box: Box) -> None:
    """However many names a box makes up in a directory, the record stays short, and its totals stay right."""
    evaluated(box)
    for i in range(500):
        box.file(f"{EVAL}/{LEAF}/junk{i}", 2)
        box.link(f"{RUN}/logs/link{i}", "/")
        box.file(f"training_runs/stray{i}", 3)
    home = Home()
    home.learn(box)
    plan = home.plan(box)
    found = [each for entries in plan.left_out.values() for each in entries]
    assert {(each.place.removeprefix(f"{ROOT}/"), each.size, each.entries) for each in found} == {
        (f"{EVAL}/{LEAF}", 1000, 500),
        (f"{RUN}/logs", None, 500),
        ("training_runs", 1500, 500),
    }
    assert all("counted together" in each.reason for each in found)
