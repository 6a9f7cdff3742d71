"""Plans of one host: nothing is planned twice, only what changed is planned again, and nothing is overwritten."""

from collections.abc import Callable
from weakref import ref

import pytest
from msgspec.structs import replace

from harvestd.convention.kinds import Value
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import EvalDir
from harvestd.planning.diff import CHECK_FROM
from harvestd.planning.plan import Link, Plan
from support.box_trees import DIRECTORY, MIB, ROOT, Box, Home, T, reasons, targets

RUN = f"training_runs/{T}"
LOG = f"{RUN}/logs/train_log.jsonl"
EVAL = f"eval_runs/{T}_gsm8k"
LEAF = f"{EVAL}/qwen2_5_15_gsm8k_finetuned/step_10_gsm8k/temp0.7_p1.0_r8"
FINAL = f"{RUN}/training_state/step_final"
BASE = "eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_gsm8k/temp0.7_p1.0_r8"


@pytest.fixture
def box() -> Box:
    """Return a box with a finished run, evals of all layouts, and some of what nobody wants."""
    box = Box()
    box.add_run()
    box.file(f"{RUN}/tensorboard/events.out.tfevents.1.gpu-a.1.0", 8000)
    box.finish()
    box.add_checkpoint("step_40")
    box.link(f"{RUN}/training_state/step_latest", "step_final")
    box.file(f"{EVAL}/eval_config.yaml")
    box.eval_configs[EVAL] = T
    box.add_leaf(LEAF)
    box.file(f"{LEAF}/records.jsonl.gz", 30 * MIB, age=3700)
    box.add_leaf(f"eval_runs/{T}_math/results/step_10", marker="summary.json")
    box.add_leaf(BASE)
    box.add_leaf("eval_runs/qwen2_5_15_gsm8k_finetuned/step_20_gsm8k/temp0.7_p1.0_r8")
    return box


@pytest.fixture
def home(box: Box) -> Home:
    """Return a home that has read what `box` says of itself."""
    home = Home()
    home.learn(box)
    return home


def settled(home: Home, box: Box) -> None:
    """Do everything that there is to do."""
    home.settle_all([box])
    assert home.plan(box).is_empty


def test_what_was_done_is_not_planned_again(box: Box, home: Home) -> None:
    """A plan that was carried out leaves nothing to do but what waits for nothing: links come right after."""
    first = home.plan(box)
    assert len(first.groups) == 7
    assert len(first.follows) == 2
    home.do(first, box)
    second = home.plan(box)
    assert second == replace(Plan(), links=second.links, left_out=second.left_out)
    assert second.links == (
        Link(LocalPath.parse(f"{DIRECTORY}/training_run/training_state/step_latest"), "step_final"),
    )
    home.do(second, box)
    assert home.plan(box).is_empty


def test_the_same_arguments_give_the_same_plan(box: Box, home: Home) -> None:
    """Planning changes nothing that it reads."""
    assert home.plan(box) == home.plan(box)


def test_groups_of_evals_that_were_released_are_made_anew(box: Box, home: Home) -> None:
    """They equal those that were there before, and are the same object for as long as a caller keeps it."""
    settled(home, box)
    evals = home.last_survey(box).evals
    before = [(each.groups, each.on_request) for each in evals]
    assert all(is_kept(each) for each in evals)
    for each in evals:
        each.contents.release()
    assert not any(is_kept(each) for each in evals)
    assert [(each.groups, each.on_request) for each in evals] == before
    groups = evals[0].contents.groups()
    assert evals[0].contents.groups() is groups
    assert home.plan(box).is_empty


def is_kept(eval_dir: EvalDir) -> bool:
    """Return whether an eval's groups stay in memory after a use."""
    used = ref(eval_dir.contents.groups())
    return used() is not None


def test_what_is_worth_most_goes_first(box: Box, home: Home) -> None:
    """Config, then metrics, then the checkpoint; the log before TensorBoard."""
    plan = home.plan(box)
    assert [group.value for group in plan.groups] == sorted(group.value for group in plan.groups)
    assert plan.groups[0].value is Value.CONFIG
    assert plan.groups[-1].place.endswith("step_final")
    assert [follow.value for follow in plan.follows] == [Value.TRAIN_LOG, Value.TENSORBOARD]
    assert plan.bytes_to_fetch == sum(group.size for group in plan.groups) + 5000 + 8000


def test_a_marker_is_published_last(box: Box, home: Home) -> None:
    """In a leaf and in a checkpoint the file that says "complete" comes after all others, known as the marker."""
    for group in home.plan(box).groups:
        marked = [file.marker for file in group.files]
        assert not any(marked[:-1])
        if len(marked) > 1:
            assert marked[-1]


def test_only_what_changed_is_planned_again(box: Box, home: Home) -> None:
    """A leaf whose metrics were rewritten under a new marker brings those two, and says what they replace."""
    settled(home, box)
    box.file(f"{LEAF}/metrics.csv", 1300, age=1.0)
    assert targets(home.plan(box)) == {}
    box.file(f"{LEAF}/run_meta.json", 301, age=0.0)
    plan = home.plan(box)
    assert set(targets(plan)) == {f"{LEAF}/metrics.csv", f"{LEAF}/run_meta.json"}
    replaced = [target.replaces for group in plan.groups for file in group.files for target in file.targets]
    assert [record.size for record in replaced if record] == [1200, 300]
    home.do(plan, box)
    assert home.plan(box).is_empty


def test_a_small_file_that_was_touched_is_fetched_again(box: Box, home: Home) -> None:
    """Another time with the same size: a small file is cheaper to fetch than to ask about."""
    settled(home, box)
    box.file(f"{RUN}/config.yaml", 2000, age=60.0)
    plan = home.plan(box)
    assert set(targets(plan)) == {f"{RUN}/config.yaml"}
    assert not plan.checks


def test_a_large_file_that_was_touched_is_hashed_first(box: Box, home: Home) -> None:
    """Same size, other time: the box hashes it; it is fetched only once that hash is known to differ."""
    settled(home, box)
    box.file(f"{FINAL}/optimizer.pt", 50 * MIB, age=3650)
    plan = home.plan(box)
    assert [check.place for check in plan.checks] == [f"{ROOT}/{FINAL}/optimizer.pt"]
    assert not plan.groups
    home.do(plan, box)
    assert home.plan(box).is_empty
    box.file(f"{FINAL}/optimizer.pt", 50 * MIB, age=3640)
    check = home.plan(box).checks[0]
    home.knowledge.add_file(replace(check.record, differs=check.source.version))
    plan = home.plan(box)
    assert set(targets(plan)) == {f"{FINAL}/optimizer.pt"}
    assert not plan.checks


def test_a_change_of_the_inode_alone_is_hashed(box: Box, home: Home) -> None:
    """A file that was replaced by one of the same size and time is no reason to fetch, but one to look."""
    settled(home, box)
    before = box.version(f"{RUN}/config.yaml")
    tree, below = box.place(f"{RUN}/config.yaml")
    box.entries[tree][below] = replace(box.entries[tree][below], version=replace(before, inode=before.inode + 10**6))
    plan = home.plan(box)
    assert [check.place for check in plan.checks] == [f"{ROOT}/{RUN}/config.yaml"]
    assert before.size < CHECK_FROM


def test_a_log_that_grew_is_followed(box: Box, home: Home) -> None:
    """Only what was appended is to come."""
    settled(home, box)
    box.grow(LOG, 700)
    (follow,) = home.plan(box).follows
    assert (follow.size, follow.target.replaces is not None, follow.whole) == (700, True, False)
    home.do(home.plan(box), box)
    assert home.plan(box).is_empty


def test_a_log_that_was_truncated_comes_whole(box: Box, home: Home) -> None:
    """A source shorter than what is here is another file: all of it is to come."""
    settled(home, box)
    box.file(LOG, 80, age=0.0)
    (follow,) = home.plan(box).follows
    assert follow.size == 80


def test_a_log_that_is_shown_late_is_not_taken_for_a_new_one(box: Box, home: Home) -> None:
    """On a network file system a box shows for a while what was; only what stands so for long began anew."""
    settled(home, box)
    box.filesystem = "nfs4"
    before = box.version(LOG)
    box.file(LOG, 80, age=4000.0, inode=before.inode)
    for seconds in (1.0, 59.0):
        plan = home.plan(box, seconds)
        assert plan.is_empty
        assert reasons(plan, LOG) == ["waiting: this box may show an older state of it"]
        assert plan.next_due == pytest.approx(61.0 - seconds)
    assert [follow.size for follow in home.plan(box, 62.0).follows] == [80]
    box.file(LOG, before.size + 50, age=0.0, inode=before.inode)
    assert [follow.size for follow in home.plan(box, 63.0).follows] == [50]


def test_a_log_that_began_anew_is_followed_at_once(box: Box, home: Home) -> None:
    """Also on a network file system: it is shorter, and was changed after all that is here had come."""
    settled(home, box)
    box.filesystem = "nfs4"
    box.file(LOG, 80, age=3000.0)
    assert [follow.size for follow in home.plan(box, 1.0).follows] == [80]


def test_a_torn_tail_stays_away_until_the_run_is_over_and_quiet() -> None:
    """While a run writes, the unfinished line waits and is not asked for at each look; afterwards it comes."""
    box, home = Box(), Home()
    box.add_run()
    home.learn(box)
    plan = home.plan(box)
    home.do(replace(plan, follows=()), box)
    home.follow(f"{ROOT}/{LOG}", plan, box, torn=30)
    assert home.plan(box).is_empty
    box.finish()
    box.file(LOG, 5000, age=4.0, inode=box.version(LOG).inode)
    home.learn(box)
    plan = home.plan(box)
    assert [follow.whole for follow in plan.follows] == [False]
    home.follow(f"{ROOT}/{LOG}", plan, box, torn=30)
    assert not home.plan(box).follows
    plan = home.plan(box, 7.0)
    assert [(follow.whole, follow.size) for follow in plan.follows] == [(True, 30)]
    home.follow(f"{ROOT}/{LOG}", plan, box, torn=0)
    assert not home.plan(box, 8.0).follows


def test_an_empty_log_comes_once(box: Box, home: Home) -> None:
    """A file without bytes is brought as it is, and then left alone."""
    box.file(LOG, 0)
    plan = home.plan(box)
    assert LOG in targets(plan)
    home.do(plan, box)
    assert LOG not in targets(home.plan(box))


def test_a_vanished_source_changes_nothing_at_home(box: Box, home: Home) -> None:
    """An empty box gives an empty plan: nothing in a plan deletes."""
    settled(home, box)
    plan = home.plan(Box())
    assert plan == Plan()


def test_a_known_run_goes_on_without_its_config(box: Box, home: Home) -> None:
    """A config.yaml that was removed on the box makes no husk of a run that has its name."""
    settled(home, box)
    box.remove(f"{RUN}/config.yaml")
    box.grow(LOG, 10)
    plan = home.plan(box)
    assert set(targets(plan)) == {LOG}
    assert reasons(plan, RUN) == []


def test_a_husk_is_no_run(box: Box, home: Home) -> None:
    """A duplicate directory without a config is left out as one entry with all that it holds."""
    husk = "training_runs/run_2025-08-20_03-31-45"
    box.file(f"{husk}/logs/train_log.jsonl", 10)
    box.file(f"{husk}/logs/rollouts.jsonl", 20)
    box.pruned(f"{husk}/wandb", 30)
    box.directory("training_runs/run_2025-08-20_03-31-46")
    plan = home.plan(box)
    found = {each.place.removeprefix(f"{ROOT}/"): each for each in plan.left_out[None]}
    assert (found[husk].size, found[husk].entries) == (60, 3)
    assert found["training_runs/run_2025-08-20_03-31-46"].entries == 0
    box.pruned(f"{husk}/.git")
    found = {each.place.removeprefix(f"{ROOT}/"): each for each in home.plan(box).left_out[None]}
    assert found[husk].size is None


def test_a_run_waits_for_its_config_to_settle() -> None:
    """A config that is being written is no source of names yet; its run and evals wait, with a time to come back."""
    box, home = Box(), Home()
    box.add_run()
    box.file(f"{RUN}/config.yaml", 2000, age=4.0)
    box.add_leaf(LEAF)
    plan = home.plan(box)
    assert plan.is_empty
    assert reasons(plan, LOG) == ["waiting: config.yaml: settling"]
    assert reasons(plan, f"{LEAF}/metrics.csv") == [f"waiting: {T} has no local name yet"]
    assert plan.next_due == pytest.approx(6.0)
    assert {wait.size for wait in plan.waiting} == {7000, 1500}


def test_a_config_that_can_not_be_read_holds_up_its_own_run_only() -> None:
    """Evals of a run that never gets a name are kept unfiled, base evals as well: they must not end with the box."""
    box, home = Box(), Home()
    box.add_run()
    box.add_leaf(LEAF)
    box.add_leaf(BASE)
    plan = home.plan(box)
    assert reasons(plan, LOG) == ["waiting: config.yaml: can't be read"]
    assert targets(plan)[f"{LEAF}/metrics.csv"] == [f"_unfiled/gpu-a/{LEAF}/metrics.csv"]
    assert targets(plan)[f"{BASE}/metrics.csv"] == [f"_unfiled/gpu-a/{BASE}/metrics.csv"]


def test_a_place_that_was_refused_is_left_out_until_the_file_changes(box: Box, home: Home) -> None:
    """What the store could not put there is not fetched over and over, and its words are on record."""
    path = LocalPath.parse(f"{DIRECTORY}/training_run/config.yaml")
    place = f"{ROOT}/{RUN}/config.yaml"
    home.refused[place, path] = (box.version(f"{RUN}/config.yaml"), "conflict: another file stands there")
    plan = home.plan(box)
    assert f"{RUN}/config.yaml" not in targets(plan)
    assert reasons(plan, f"{RUN}/config.yaml") == ["conflict: another file stands there"]
    box.file(f"{RUN}/config.yaml", 2001)
    assert f"{RUN}/config.yaml" in targets(home.plan(box))


def test_what_was_refused_is_told_even_where_it_is_on_record(box: Box, home: Home) -> None:
    """A place that the store refused is no place where a file is known to stand, whatever the records say."""
    settled(home, box)
    path = LocalPath.parse(f"{DIRECTORY}/training_run/config.yaml")
    home.refused[f"{ROOT}/{RUN}/config.yaml", path] = (box.version(f"{RUN}/config.yaml"), "conflict: another file")
    assert reasons(home.plan(box), f"{RUN}/config.yaml") == ["conflict: another file"]


def test_a_growing_file_that_was_refused_stays_refused(box: Box, home: Home) -> None:
    """A log changes with each look; its place is a person's until somebody clears it."""
    path = LocalPath.parse(f"{DIRECTORY}/training_run/logs/train_log.jsonl")
    home.refused[f"{ROOT}/{LOG}", path] = (box.version(LOG), "conflict: another file stands there")
    box.grow(LOG, 100)
    plan = home.plan(box)
    assert LOG not in targets(plan)
    assert reasons(plan, LOG) == ["conflict: another file stands there"]


def test_two_sources_of_one_place_are_never_both_planned(home: Home, box: Box) -> None:
    """Two directories of one name in an eval tree meet at home: the first has the place, the second says who has it."""
    box.add_leaf(f"eval_runs/copy/{T}_gsm8k/a")
    box.add_leaf(f"{EVAL}/a")
    plan = home.plan(box)
    places = [place for found in targets(plan).values() for place in found]
    assert len(places) == len(set(places))
    taken = f"its local path is taken by gpu-a:{ROOT}/eval_runs/copy/{T}_gsm8k/a/metrics.csv"
    assert reasons(plan, f"{EVAL}/a/metrics.csv") == [taken]
    home.do(plan, box)
    home.do(home.plan(box), box)
    assert home.plan(box).is_empty


def test_two_logs_of_one_place_are_never_both_followed(home: Home, box: Box) -> None:
    """Two run directories that are filed as one experiment do not both append to its log."""
    copy = "training_runs/copy/" + T
    box.add_run(copy)
    home.learn(box)
    first, second = home.knowledge.runs()
    home.knowledge.add_run(replace(second, experiment=first.experiment))
    plan = home.plan(box)
    assert len([path for path in targets(plan) if path.endswith("train_log.jsonl")]) == 1
    left = {path: reasons(plan, path) for path in (LOG, f"{copy}/logs/train_log.jsonl")}
    assert sorted(len(found) for found in left.values()) == [0, 1]


def test_paths_too_deep_for_home_are_left_out_with_a_reason(box: Box, home: Home) -> None:
    """A box's deepest and longest paths do not fit below an experiment: they are refused one by one, nothing fails."""
    deep = "/".join(["d"] * 59)
    wide = "/".join(["w" * 240] * 15)
    cases = [
        f"{EVAL}/{deep}/metrics.csv",
        f"{EVAL}/{wide}/metrics.csv",
        f"eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_math/{deep}/x/metrics.csv",
        f"eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_math/{wide}/metrics.csv",
        f"{FINAL}/{deep}/model.bin",
        f"eval_runs/{'/'.join(['u'] * 60)}/run_2020-01-01_00-00-00_math/metrics.csv",
    ]
    box.files(*cases)
    plan = home.plan(box)
    for case in cases:
        where = targets(plan).get(case)
        assert where or any("is not valid" in reason for reason in reasons(plan, case)), case
    assert any("is not valid" in reason for reason in reasons(plan, cases[-1]))
    assert f"{LEAF}/metrics.csv" in targets(plan)


def test_a_thousand_evals_are_planned_in_linear_time() -> None:
    """Ten times the evals take about ten times as long: no look at a large tree stops the others."""
    counted: list[int] = []
    for evals in (50, 500):
        box, home = Box(), Home()
        box.add_run()
        for i in range(evals):
            box.add_leaf(f"eval_runs/qwen2_5_15_gsm8k_finetuned/step_base{i}_gsm8k/temp{i}")
        home.settle_all([box])
        calls = 0
        original = home.knowledge.file_at

        def file_at(*arguments: object, ask: Callable[..., object] = original) -> object:
            nonlocal calls
            calls += 1
            return ask(*arguments)

        home.knowledge.file_at = file_at  # type: ignore[method-assign, assignment]  # counts the questions
        assert home.plan(box).is_empty
        counted.append(calls)
    assert 0 < counted[1] <= 11 * counted[0]
