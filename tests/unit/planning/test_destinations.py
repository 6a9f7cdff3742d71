"""Where evals are filed: with their run, with every experiment of their model, or nowhere yet."""

import time

import pytest
from msgspec.structs import replace

from harvestd.convention.kinds import Finetuned
from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.scan.classify import survey
from harvestd.convention.scan.snapshot import Tree, TreeKind
from harvestd.planning.plan import Plan
from harvestd.safety.accounting import not_here
from harvestd.safety.inputs import NoMemo
from support.box_trees import DIRECTORY, EVALS, QWEN, ROOT, TRAINING, Box, Home, T, reasons, targets

RUN = f"training_runs/{T}"
EVAL = f"eval_runs/{T}_gsm8k"
LEAF = f"{EVAL}/qwen2_5_15_gsm8k_finetuned/step_10_gsm8k/temp0.7_p1.0_r8"
TEMP = "temp0.7_p1.0_r8"
TUNED = "eval_runs/qwen2_5_15_gsm8k_finetuned"
BASE = f"{TUNED}/step_base_gsm8k/{TEMP}"
SECOND = "run_2025-08-21_10-00-00"


def where(plan: Plan, directory: str) -> list[str]:
    """Return the directories at home that a leaf's metrics go to."""
    return [each.removesuffix("/metrics.csv") for each in targets(plan).get(f"{directory}/metrics.csv", [])]


def test_an_eval_whose_run_is_nowhere_is_unfiled_and_filed_when_the_run_appears() -> None:
    """It comes home at once, and moves to its run's experiment without being fetched again."""
    box, home = Box(), Home()
    box.add_leaf(LEAF)
    plan = home.plan(box)
    assert where(plan, LEAF) == [f"_unfiled/gpu-a/{LEAF}"]
    home.do(plan, box)
    assert home.plan(box).is_empty
    box.add_run()
    home.learn(box)
    plan = home.plan(box)
    assert {str(refile.target.path) for refile in plan.refiles} == {
        f"{DIRECTORY}/eval_results/{T}_gsm8k/qwen2_5_15_gsm8k_finetuned/step_10_gsm8k/{TEMP}/{name}"
        for name in ("metrics.csv", "run_meta.json")
    }
    assert not where(plan, LEAF)
    home.do(plan, box)
    plan = home.plan(box)
    assert plan.is_empty
    assert home.knowledge.files_of(None) == []


def test_an_unfiled_eval_that_changed_is_replaced_where_it_waits() -> None:
    """A re-evaluation of an eval without a run is a new version of the same file."""
    box, home = Box(), Home()
    box.add_leaf(LEAF)
    home.settle_all([box])
    box.file(f"{LEAF}/metrics.csv", 1300, age=2.0)
    box.file(f"{LEAF}/run_meta.json", 301, age=1.0)
    assert where(home.plan(box), LEAF) == [f"_unfiled/gpu-a/{LEAF}"]


def test_two_hosts_of_one_storage_bring_an_unfiled_eval_once() -> None:
    """What another box of the same file system brought is here already, in that one's directory."""
    first, second = Box("gpu-a", "fs-1"), Box("gpu-b", "fs-1")
    home = Home()
    for box in (first, second):
        box.add_leaf(LEAF)
    second.entries = first.entries
    home.do(home.plan(first), first)
    assert home.plan(second).is_empty
    first.file(f"{LEAF}/metrics.csv", 1300, age=2.0)
    first.file(f"{LEAF}/run_meta.json", 301, age=1.0)
    assert where(home.plan(second), LEAF) == [f"_unfiled/gpu-a/{LEAF}"]


def test_a_run_of_one_storage_is_planned_by_its_first_host_only() -> None:
    """The same run, seen through two boxes, is here once it came through one of them."""
    first, second = Box("gpu-a", "fs-1"), Box("gpu-b", "fs-1")
    first.add_run()
    second.entries, second.configs = first.entries, first.configs
    home = Home()
    home.settle_all([first])
    home.learn(second)
    assert home.plan(second).is_empty
    assert len(home.knowledge.runs()) == 1


@pytest.mark.parametrize("below", ["/", "", "/training_state/step_final/", "/training_state/step_20/model"])
def test_an_eval_config_goes_before_the_directory_name(below: str) -> None:
    """eval_config.yaml links an eval to its run, whatever its directory is called; a path may lead below the run's."""
    box, home = Box(), Home()
    box.add_run()
    box.add_run(f"training_runs/{SECOND}", replace(QWEN, total_steps=100))
    box.add_leaf(LEAF)
    box.file(f"{EVAL}/eval_config.yaml")
    box.eval_configs[EVAL] = f"/lambda/nfs/localfs/training_runs/{SECOND}{below}"
    home.learn(box)
    assert where(home.plan(box), LEAF)[0].startswith("baseline_training_2025-08-21_qwen2_5_1_5b_h100_100steps/")


def test_a_placed_eval_that_became_unfiled_is_wanted_again_once_its_copy_is_gone() -> None:
    """Its copy stays in the experiment that it belonged to first: what is kept of a plan depends on that one too."""
    box, home = Box(), Home()
    box.add_run()
    box.add_leaf(LEAF)
    home.settle_all([box])
    box.file(f"{EVAL}/eval_config.yaml")
    box.eval_configs[EVAL] = f"/lambda/nfs/localfs/training_runs/{SECOND}"
    home.settle_all([box])
    assert home.plan(box).is_empty
    (copy,) = home.knowledge.copies(box.storage, f"{ROOT}/{LEAF}/metrics.csv")
    assert copy.target.parts[0] == DIRECTORY
    home.knowledge.forget_file(copy)
    assert where(home.plan(box), LEAF) == [f"_unfiled/gpu-a/{LEAF}"]


@pytest.mark.parametrize("linked", [None, "", "/", "not a run", "../..", "x" * 200])
def test_an_eval_config_that_names_no_run_leaves_it_to_the_name(linked: str | None) -> None:
    """Where the link says nothing usable, the directory's name does."""
    box, home = Box(), Home()
    box.add_run()
    box.add_leaf(LEAF)
    box.file(f"{EVAL}/eval_config.yaml")
    box.eval_configs[EVAL] = linked
    home.learn(box)
    assert where(home.plan(box), LEAF)[0].startswith(DIRECTORY)


def test_an_eval_linked_to_a_run_that_nobody_knows_is_unfiled() -> None:
    """The link is believed: the run that the directory's name suggests is another one."""
    box, home = Box(), Home()
    box.add_run()
    box.add_leaf(LEAF)
    box.file(f"{EVAL}/eval_config.yaml")
    box.eval_configs[EVAL] = SECOND
    home.learn(box)
    assert where(home.plan(box), LEAF) == [f"_unfiled/gpu-a/{LEAF}"]


def test_an_eval_finds_its_run_on_another_host() -> None:
    """A run that is known from one box takes the evals that another one made of it."""
    trainer, evaluator, home = Box("gpu-a", "a"), Box("gpu-b", "b"), Home()
    trainer.add_run()
    evaluator.add_leaf(LEAF)
    home.settle_all([trainer])
    assert where(home.plan(evaluator), LEAF)[0].startswith(DIRECTORY)


def test_an_eval_of_an_ambiguous_run_is_not_guessed() -> None:
    """Two runs of one name on other hosts: neither gets it. On its own storage there is one, and that one does."""
    one, two, home = Box("gpu-a", "a"), Box("gpu-b", "b"), Home()
    one.add_run()
    two.add_run(config=replace(QWEN, total_steps=100))
    home.settle_all([one, two])
    third = Box("gpu-c", "c")
    third.add_leaf(LEAF)
    assert where(home.plan(third), LEAF) == [f"_unfiled/gpu-c/{LEAF}"]
    two.add_leaf(LEAF)
    assert where(home.plan(two), LEAF)[0].startswith("baseline_training_2025-08-20_qwen2_5_1_5b_h100_100steps/")


def test_a_copy_of_a_run_does_not_make_its_evals_ambiguous() -> None:
    """Beside run_T there is run_T_copy: the whole name tells whose evals they are."""
    box, home = Box(), Home()
    box.add_run()
    box.add_run(f"{RUN}_copy", replace(QWEN, total_steps=100))
    box.add_leaf(LEAF)
    home.learn(box)
    assert where(home.plan(box), LEAF)[0].startswith(DIRECTORY + "/")
    box.file(f"{EVAL}/eval_config.yaml")
    box.eval_configs[EVAL] = f"{T}_copy"
    home.learn(box)
    assert "100steps" in where(home.plan(box), LEAF)[0]


def test_a_base_eval_goes_into_every_experiment_of_its_model() -> None:
    """It is copied into each experiment of the same backbone and fine-tuning dataset, and into no other."""
    box, home = Box(), Home()
    box.add_run()
    box.add_run(f"training_runs/{SECOND}", replace(QWEN, total_steps=100))
    box.add_run("training_runs/run_2025-08-22_10-00-00", replace(QWEN, dataset="math"))
    box.add_run("training_runs/run_2025-08-23_10-00-00", ConfigFacts("Qwen/Qwen2.5-0.5B", None, 64, "gsm8k"))
    box.add_run("training_runs/run_2025-08-24_10-00-00", ConfigFacts(None, None, 64, "gsm8k"))
    box.add_leaf(BASE)
    home.learn(box)
    plan = home.plan(box)
    assert where(plan, BASE) == [
        f"{DIRECTORY}/base_eval/{TEMP}",
        f"baseline_training_2025-08-21_qwen2_5_1_5b_h100_100steps/base_eval/{TEMP}",
    ]
    home.do(plan, box)
    assert not where(home.plan(box), BASE)


def test_a_new_experiment_gets_its_copy_of_a_base_eval() -> None:
    """A run that appears later has the base eval as well, without a second one for those who have it."""
    box, home = Box(), Home()
    box.add_run()
    box.add_leaf(BASE)
    home.settle_all([box])
    box.add_run(f"training_runs/{SECOND}", replace(QWEN, total_steps=100))
    home.learn(box)
    assert where(home.plan(box), BASE) == [f"baseline_training_2025-08-21_qwen2_5_1_5b_h100_100steps/base_eval/{TEMP}"]


def test_a_base_eval_matches_by_the_names_of_a_runs_evals() -> None:
    """A config that names no dataset does not stand in the way where the run's own evals say it."""
    box, home = Box(), Home()
    box.add_run(config=ConfigFacts(None, None, 64, None))
    box.add_leaf(BASE)
    home.learn(box)
    assert where(home.plan(box), BASE) == [f"_unfiled/gpu-a/{BASE}"]
    (run,) = home.knowledge.runs()
    home.knowledge.add_run(replace(run, tunings=frozenset({Finetuned("Qwen2.5-1.5B", "gsm8k")})))
    assert where(home.plan(box), BASE)[0].endswith(f"64steps/base_eval/{TEMP}")


def test_a_base_eval_that_waited_is_filed_with_the_first_experiment_and_fetched_for_others() -> None:
    """The copy that waits moves to one experiment; any further experiment gets its own from the box."""
    box, home = Box(), Home()
    box.add_leaf(BASE)
    home.settle_all([box])
    box.add_run()
    box.add_run(f"training_runs/{SECOND}", replace(QWEN, total_steps=100))
    home.learn(box)
    plan = home.plan(box)
    assert len(plan.refiles) == 2
    assert len(where(plan, BASE)) == 1
    home.do(plan, box)
    assert not where(home.plan(box), BASE)


def test_a_later_evaluation_of_the_base_replaces_the_first_one() -> None:
    """The newer figures are what counts, in each experiment. What was only touched is hashed, and not fetched again."""
    box, home = Box(), Home()
    box.add_run()
    box.add_leaf(BASE)
    home.settle_all([box])
    box.file(f"{BASE}/metrics.csv", 1200, age=60.0)
    box.file(f"{BASE}/run_meta.json", 300, age=50.0)
    plan = home.plan(box)
    assert [check.place.rpartition("/")[2] for check in plan.checks] == ["metrics.csv", "run_meta.json"]
    home.do(plan, box)
    assert home.plan(box).is_empty
    box.file(f"{BASE}/metrics.csv", 1300, age=40.0)
    box.file(f"{BASE}/run_meta.json", 300, age=30.0)
    plan = home.plan(box)
    (file,) = [file for group in plan.groups for file in group.files]
    assert [target.replaces and target.replaces.size for target in file.targets] == [1200]
    assert where(plan, BASE) == [f"{DIRECTORY}/base_eval/{TEMP}"]


def test_a_base_eval_that_was_made_again_with_as_many_bytes_replaces_the_first_one() -> None:
    """Its hash tells that it is another one."""
    box, home = Box(), Home()
    box.add_run()
    box.add_leaf(BASE)
    home.settle_all([box])
    box.file(f"{BASE}/metrics.csv", 1200, age=60.0)
    box.file(f"{BASE}/run_meta.json", 300, age=50.0)
    home.hashes[f"{ROOT}/{BASE}/metrics.csv"] = "1" * 64
    home.do(home.plan(box), box)
    assert where(home.plan(box), BASE) == [f"{DIRECTORY}/base_eval/{TEMP}"]


def test_a_base_eval_that_waits_unfiled_is_replaced_by_a_later_one() -> None:
    """Nothing was made of it yet, so the newest counts."""
    box, home = Box(), Home()
    box.add_leaf(BASE)
    home.settle_all([box])
    box.file(f"{BASE}/metrics.csv", 1300, age=40.0)
    box.file(f"{BASE}/run_meta.json", 301, age=30.0)
    assert where(home.plan(box), BASE) == [f"_unfiled/gpu-a/{BASE}"]


def test_two_base_variants_that_meet_keep_their_step_directories() -> None:
    """Seen together both keep them; where they do not meet, the directory is flat."""
    box, home = Box(), Home()
    box.add_run()
    full = f"{TUNED}/step_base_full_gsm8k/{TEMP}"
    other = f"{TUNED}/step_base_math/temp0.0_p1.0_r1"
    for path in (BASE, full, other):
        box.add_leaf(path)
    home.learn(box)
    plan = home.plan(box)
    assert where(plan, BASE) == [f"{DIRECTORY}/base_eval/step_base_gsm8k/{TEMP}"]
    assert where(plan, full) == [f"{DIRECTORY}/base_eval/step_base_full_gsm8k/{TEMP}"]
    assert where(plan, other) == [f"{DIRECTORY}/base_eval/temp0.0_p1.0_r1"]


def test_a_second_base_variant_does_not_move_the_first() -> None:
    """What stands flat stays flat; the newcomer keeps its step directory; nothing is planned twice."""
    box, home = Box(), Home()
    box.add_run()
    box.add_leaf(BASE)
    home.settle_all([box])
    full = f"{TUNED}/step_base_full_gsm8k/{TEMP}"
    box.add_leaf(full)
    plan = home.plan(box)
    assert not where(plan, BASE)
    assert where(plan, full) == [f"{DIRECTORY}/base_eval/step_base_full_gsm8k/{TEMP}"]
    home.settle_all([box])
    assert home.plan(box).is_empty


def test_one_variant_under_two_spellings_of_its_model_is_kept_once() -> None:
    """The same step of the same model under a short name and under a hub id: the second says who has the place."""
    box, home = Box(), Home()
    box.add_run()
    hub = f"eval_runs/Qwen/Qwen2.5-1.5B_gsm8k_finetuned/step_base_gsm8k/{TEMP}"
    box.add_leaf(BASE)
    box.add_leaf(hub)
    home.learn(box)
    plan = home.plan(box)
    assert where(plan, hub) == [f"{DIRECTORY}/base_eval/{TEMP}"]
    assert where(plan, BASE) == []
    assert reasons(plan, f"{BASE}/metrics.csv") == [f"its local path is taken by gpu-a:{ROOT}/{hub}/metrics.csv"]
    home.do(plan, box)
    home.do(home.plan(box), box)
    plan = home.plan(box)
    assert plan.is_empty
    assert not plan.left_out
    assert not not_here(survey(box.snapshot(), home.selection), plan, box.storage, home.knowledge, NoMemo())


def test_variants_under_two_spellings_of_their_model_both_come() -> None:
    """Two variants meet in an experiment however their model is written, and both are kept."""
    box, home = Box(), Home()
    box.add_run()
    hub = f"eval_runs/Qwen/Qwen2.5-1.5B_gsm8k_finetuned/step_base_full_gsm8k/{TEMP}"
    box.add_leaf(BASE)
    box.add_leaf(hub)
    home.learn(box)
    plan = home.plan(box)
    assert where(plan, hub) == [f"{DIRECTORY}/base_eval/step_base_full_gsm8k/{TEMP}"]
    assert where(plan, BASE) == [f"{DIRECTORY}/base_eval/step_base_gsm8k/{TEMP}"]


def two_hosts(leaf: str) -> tuple[Box, Box, Home]:
    """Return two hosts with an eval of one name, and a home to which the first one's came."""
    first, second, home = Box("gpu-a", "a"), Box("gpu-b", "b"), Home()
    first.add_run()
    for box in (first, second):
        box.add_leaf(leaf)
    home.settle_all([first])
    home.learn(second)
    return first, second, home


def missing(box: Box, home: Home) -> list[str]:
    """Return the places of what is wanted on a host and is neither here nor coming."""
    found = not_here(survey(box.snapshot(), home.selection), home.plan(box), box.storage, home.knowledge, NoMemo())
    return [each.place for each in found]


BOTH = [(BASE, f"base_eval/on_gpu-b/{TEMP}"), (LEAF, f"eval_results/on_gpu-b/{LEAF.partition('/')[2]}")]


@pytest.mark.parametrize(("leaf", "_beside"), BOTH)
def test_the_same_eval_of_another_host_is_here(leaf: str, _beside: str) -> None:
    """It is compared by its hash, and fetched no second time; what it is the same as must still stand here."""
    first, second, home = two_hosts(leaf)
    plan = home.plan(second)
    assert [check.requested_by for check in plan.checks] == ["b", "b"]
    assert not plan.groups
    home.do(plan, second)
    plan = home.plan(second)
    assert plan.is_empty
    assert not plan.left_out
    assert missing(second, home) == []
    assert home.plan(first).is_empty
    for record in list(home.knowledge.files_from("a")):
        home.knowledge.add_file(replace(record, sha256="2" * 64))
    assert len(home.plan(second).groups) == 1


@pytest.mark.parametrize(("leaf", "beside"), BOTH)
def test_another_eval_of_the_same_name_is_filed_beside(leaf: str, beside: str) -> None:
    """Both hosts' figures are here, the second one's under its name, all files of one leaf together."""
    first, second, home = two_hosts(leaf)
    home.hashes[f"{ROOT}/{leaf}/metrics.csv"] = "1" * 64
    home.do(home.plan(second), second)
    assert where(home.plan(second), leaf) == [f"{DIRECTORY}/{beside}"]
    home.do(home.plan(second), second)
    assert home.plan(second).is_empty
    assert missing(second, home) == []
    assert home.plan(first).is_empty
    # Made again there, it is replaced there.
    second.file(f"{leaf}/metrics.csv", 1300, age=40.0)
    second.file(f"{leaf}/run_meta.json", 300, age=30.0)
    assert where(home.plan(second), leaf) == [f"{DIRECTORY}/{beside}"]


@pytest.mark.parametrize("leaf", [BASE, LEAF])
def test_what_two_hosts_filed_at_the_same_time_is_compared_too(leaf: str) -> None:
    """That the second one was refused, before the first one's file was on record, is no conflict with a person."""
    _, second, home = two_hosts(leaf)
    for check in home.plan(second).checks:
        home.refused[check.place, check.record.target] = (check.source.version, "conflict: another file stands there")
    home.do(home.plan(second), second)
    plan = home.plan(second)
    assert plan.is_empty
    assert not plan.left_out
    assert missing(second, home) == []


def test_eval_of_another_size_is_filed_beside_without_a_question() -> None:
    """Its size tells that it is another one."""
    _, second, home = two_hosts(LEAF)
    second.file(f"{LEAF}/metrics.csv", 1300, age=60.0)
    second.file(f"{LEAF}/run_meta.json", 300, age=50.0)
    assert where(home.plan(second), LEAF) == [f"{DIRECTORY}/eval_results/on_gpu-b/{LEAF.partition('/')[2]}"]


def test_base_evals_wait_while_the_only_run_settles() -> None:
    """They are not filed away a moment before their experiment has its name."""
    box, home = Box(), Home()
    box.add_run()
    box.file(f"{RUN}/config.yaml", 2000, age=1.0)
    box.add_leaf(BASE)
    plan = home.plan(box)
    assert where(plan, BASE) == []
    assert reasons(plan, BASE) == ["waiting: a run on this host has no local name yet"]
    home.learn(box)
    assert where(home.plan(box), BASE) == [f"{DIRECTORY}/base_eval/{TEMP}"]


def test_two_roots_with_equal_names_do_not_overwrite_each_other() -> None:
    """Unfiled evals of two roots of one host meet at home: the second says who has the place."""
    other = Tree("/data", "eval_runs", TreeKind.EVAL)
    box, home = Box(trees=(TRAINING, EVALS)), Home()
    box.add_leaf(LEAF)
    box.trees = (TRAINING, EVALS, other)
    box.entries[other] = box.entries[EVALS]
    plan = home.plan(box)
    assert len(plan.groups) == 1
    assert {each.reason for each in plan.left_out[None]} == {
        f"its local path is taken by gpu-a:{ROOT}/{LEAF}/metrics.csv",
        f"its local path is taken by gpu-a:{ROOT}/{LEAF}/run_meta.json",
    }


def test_filing_thousands_of_evals_takes_seconds_at_most() -> None:
    """When a run appears, all that waited for it is moved in one plan, in time that grows with its number."""
    box, home = Box(), Home()
    for i in range(2000):
        box.add_leaf(f"{EVAL}/x/{i}")
    home.do(home.plan(box), box)
    box.add_run()
    home.learn(box)
    before = time.process_time()
    plan = home.plan(box)
    assert time.process_time() - before < 5
    assert len(plan.refiles) == 4000


def test_a_base_eval_of_a_model_that_is_a_path_goes_to_its_runs() -> None:
    """A run whose configuration names the hub's cache is of the model that the base eval's directory names."""
    cached = "/home/ubuntu/.cache/huggingface/hub/models--Qwen--Qwen2.5-1.5B/snapshots/8faed761d45a263340a0528343f099c0"
    box, home = Box(), Home()
    box.add_run(RUN, replace(QWEN, backbone=cached, eval_backbone=None))
    box.add_leaf(BASE)
    home.learn(box)
    (found,) = where(home.plan(box), BASE)
    assert found.endswith(f"/base_eval/{TEMP}")


def test_models_that_no_file_names_are_never_taken_for_one_another() -> None:
    """A run from a checkpoint that is nowhere, and a base eval of what is called `model`, have nothing in common."""
    box, home = Box(), Home()
    box.add_run(RUN, replace(QWEN, backbone="./checkpoints/checkpoint-500", eval_backbone=None))
    leaf = f"eval_runs/model_gsm8k_finetuned/step_base_gsm8k/{TEMP}"
    box.add_leaf(leaf)
    home.learn(box)
    assert where(home.plan(box), leaf) == [f"_unfiled/gpu-a/{leaf}"]
