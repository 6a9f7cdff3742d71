"""What a person asks for by hand, in plans: what it adds, what it takes away, and how it stands."""

import pytest

from harvestd.convention.kinds import Value
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.planning.plan import Plan, RequestState
from harvestd.planning.requests import Request, RequestKind, combine_requests
from support.box_trees import MIB, ROOT, Box, Home, T, reasons, targets

RUN = f"training_runs/{T}"
EVAL = f"eval_runs/{T}_gsm8k"
LEAF = f"{EVAL}/qwen2_5_15_gsm8k_finetuned/step_10_gsm8k/temp0.7_p1.0_r8"
BASE = "eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_gsm8k/temp0.7_p1.0_r8"
STEP = f"{RUN}/training_state/step_40"
ASKED_AT = 1_763_870_400.0
BY_HAND = "asked for by hand on 2025-11-23"
IGNORED = "asked: ignored by hand on 2025-11-23"


@pytest.fixture
def box() -> Box:
    """Return a box with a finished run of two checkpoints, an eval and a base eval, both with records."""
    box = Box()
    box.add_run()
    box.finish()
    box.add_checkpoint("step_40")
    box.file(f"{EVAL}/eval_config.yaml")
    box.eval_configs[EVAL] = T
    for leaf in (LEAF, BASE):
        box.add_leaf(leaf)
        box.file(f"{leaf}/records.jsonl.gz", 30 * MIB, age=3700)
    return box


@pytest.fixture
def home(box: Box) -> Home:
    """Return a home that has brought what the rules bring."""
    home = Home()
    home.settle_all([box])
    return home


def request(box: Box, number: int = 1, **detail: object) -> Request:
    """Return a request for the run: to fetch a thing, or else to ignore it."""
    kind = RequestKind.FETCH if "thing" in detail else RequestKind.IGNORE
    return Request(number, kind, box.storage, f"{ROOT}/{RUN}", ASKED_AT, detail)


def asked(plan: Plan) -> RequestState:
    """Return how the one thing that is asked for stands."""
    (found,) = plan.request_states
    return found


def test_checkpoint_that_was_asked_for_comes(box: Box, home: Home) -> None:
    """It is planned whole, after all that is always wanted, says why, and is not left out any more."""
    before = reasons(home.plan(box), STEP)
    assert before == ['rule: select.checkpoint = "final"']
    home.knowledge.add_request(request(box, thing="step_40"))
    plan = home.plan(box)
    (group,) = plan.groups
    assert set(targets(plan)) == {f"{STEP}/{each}" for each in _PARTS}
    assert (group.value, group.files[-1].marker) == (Value.BY_HAND, True)
    assert {file.reason for file in group.files} == {BY_HAND}
    assert reasons(plan, STEP) == []
    assert (asked(plan).shown, asked(plan).files, asked(plan).outstanding) == (True, 3, 3)
    home.do(plan, box)
    assert home.plan(box).is_empty
    assert reasons(home.plan(box), STEP) == []
    assert (asked(home.plan(box)).files, asked(home.plan(box)).outstanding) == (3, 0)


_PARTS = ("model/adapter_model.safetensors", "optimizer.pt", "training_info.json")


@pytest.mark.parametrize("policy", list(CheckpointPolicy))
def test_every_policy_gives_what_is_asked_for(box: Box, policy: CheckpointPolicy) -> None:
    """Whatever the rule says of checkpoints, the one that was asked for is at home in the end, and counted."""
    home = Home(Selection(checkpoint=policy))
    home.learn(box)
    home.knowledge.add_request(request(box, thing="step_40"))
    assert asked(home.plan(box)).outstanding == 3
    home.settle_all([box])
    run = (box.storage, f"{ROOT}/{RUN}")
    assert asked(home.plan(box)) == RequestState(run, "step_40", shown=True, files=3, size=100 * MIB + 900)


def test_checkpoint_without_its_marker_waits(box: Box, home: Home) -> None:
    """What was asked for is sealed as everything else is."""
    box.add_checkpoint("step_50", whole=False)
    home.knowledge.add_request(request(box, thing="step_50"))
    plan = home.plan(box)
    assert not plan.groups
    assert reasons(plan, f"{RUN}/training_state/step_50") == ["waiting: its marker training_info.json is not there yet"]
    assert asked(plan).outstanding == 2


def test_records_stand_beside_their_metrics(box: Box, home: Home) -> None:
    """All records of the experiment come, base evals' too, each into the directory that holds its metrics."""
    assert reasons(home.plan(box), f"{LEAF}/records.jsonl.gz") == ["rule: select.records = false"]
    (experiment,) = home.knowledge.experiments()
    metrics = {record.place: record.target for record in home.knowledge.files_of(experiment.id)}
    home.knowledge.add_request(request(box, thing="records"))
    plan = home.plan(box)
    found = targets(plan)
    assert set(found) == {f"{LEAF}/records.jsonl.gz", f"{BASE}/records.jsonl.gz"}
    for leaf in (LEAF, BASE):
        beside = str(metrics[f"{ROOT}/{leaf}/metrics.csv"]).removesuffix("metrics.csv")
        assert found[f"{leaf}/records.jsonl.gz"] == [f"{beside}records.jsonl.gz"]
        assert reasons(plan, f"{leaf}/records.jsonl.gz") == []
    assert asked(plan).outstanding == 2
    home.do(plan, box)
    assert home.plan(box).is_empty


def test_records_that_a_rule_brings_count_for_who_asks(box: Box) -> None:
    """Where all records are wanted anyway, who asked for some still waits until they are here."""
    home = Home(Selection(records=True))
    home.learn(box)
    home.knowledge.add_request(request(box, thing="records"))
    assert (asked(home.plan(box)).files, asked(home.plan(box)).outstanding) == (2, 2)
    home.settle_all([box])
    assert (asked(home.plan(box)).files, asked(home.plan(box)).outstanding) == (2, 0)


def test_records_of_two_base_variants_stay_beside_their_own_metrics(box: Box, home: Home) -> None:
    """Where a second variant keeps its step directory, so do its records; the first one's do not move."""
    full = "eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k/temp0.7_p1.0_r8"
    box.add_leaf(full)
    box.file(f"{full}/records.jsonl.gz", 30 * MIB, age=3700)
    home.settle_all([box])
    home.knowledge.add_request(request(box, thing="records"))
    found = targets(home.plan(box))
    assert found[f"{BASE}/records.jsonl.gz"][0].endswith("base_eval/temp0.7_p1.0_r8/records.jsonl.gz")
    assert found[f"{full}/records.jsonl.gz"][0].endswith(
        "base_eval/step_base_full_gsm8k/temp0.7_p1.0_r8/records.jsonl.gz"
    )


def test_ignored_run_is_left_out_whole(box: Box, home: Home) -> None:
    """Nothing of it is planned, its evals neither; what is left out is what is not here, until that is taken back."""
    box.file(f"{RUN}/logs/train_log.jsonl", 9000, age=1.0)
    box.file(f"{EVAL}/new/temp0.7_p1.0_r8/metrics.csv", 500)
    home.knowledge.add_request(request(box))
    plan = home.plan(box)
    assert plan.is_empty
    assert reasons(plan, f"{RUN}/logs/train_log.jsonl") == [IGNORED]
    assert reasons(plan, f"{LEAF}/metrics.csv") == [IGNORED]
    sizes = {each.place: each.size for entries in plan.left_out.values() for each in entries}
    assert sizes[f"{ROOT}/{RUN}"] == 4000 + 100 * MIB + 900
    assert sizes[f"{ROOT}/{EVAL}"] == 500 + 30 * MIB
    home.knowledge.add_request(request(box, 2, undo=True))
    assert {f"{RUN}/logs/train_log.jsonl"} <= set(targets(home.plan(box)))


def test_base_evals_go_on_where_another_run_wants_them(box: Box, home: Home) -> None:
    """A base eval is left out only when every experiment that it belongs in is ignored."""
    other = "training_runs/run_2025-08-21_03-31-43"
    box.add_run(other)
    home.settle_all([box])
    home.knowledge.add_request(request(box))
    box.file(f"{BASE.replace('0.7', '0.9')}/metrics.csv", 500)
    (paths,) = targets(home.plan(box)).values()
    assert [path.partition("/")[0] for path in paths] == [
        each.directory for each in home.knowledge.experiments() if "2025-08-21" in each.directory
    ]


def test_what_can_not_stand_here_is_refused_with_its_reason(box: Box, home: Home) -> None:
    """A place that another file has taken is no reason to wait: nothing is outstanding, and it is said why."""
    home.knowledge.add_request(request(box, thing="step_40"))
    plan = home.plan(box)
    target = plan.groups[0].files[0].targets[0]
    source = plan.groups[0].files[0].source
    home.refused[source.place, target.path] = (source.version, "something else stands there")
    home.do(home.plan(box), box)
    assert asked(home.plan(box)).outstanding == 0
    assert asked(home.plan(box)).refused == ("something else stands there",)


def test_checkpoint_that_vanished_is_refused(box: Box, home: Home) -> None:
    """One that is not on the box any more, and never came, will not come; one that is here already is no trouble."""
    home.knowledge.add_request(request(box, thing="step_10"))
    assert asked(home.plan(box)).refused == ("step_10 is not on gpu-a any more",)


def test_a_host_that_does_not_show_the_run_says_so(box: Box, home: Home) -> None:
    """Only who shows the run has a say."""
    home.knowledge.add_request(request(box, thing="step_40"))
    other = Box("gpu-b", "static:gpu-b")
    assert asked(home.plan(other)) == RequestState((box.storage, f"{ROOT}/{RUN}"), "step_40")


def test_one_of_very_many_checkpoints_is_taken_out_of_their_total(box: Box, home: Home) -> None:
    """Where checkpoints are counted together, the line goes on with all the others."""
    for step in range(100, 200):
        box.add_checkpoint(f"step_{step}")
    (before,) = [each for lines in home.plan(box).left_out.values() for each in lines if "together" in each.reason]
    home.knowledge.add_request(request(box, thing="step_150"))
    (after,) = [each for lines in home.plan(box).left_out.values() for each in lines if "together" in each.reason]
    assert before.size is not None
    assert (after.size, after.entries) == (before.size - 100 * MIB - 900, before.entries - 3)


def test_wishes_add_up_in_the_order_of_asking(box: Box) -> None:
    """The first asking dates a wish, settled or not; ignoring is taken back by what was asked after it."""
    first, again = request(box, 1, thing="records"), request(box, 2, thing="records")
    ignored, undone = request(box, 3), request(box, 4, undo=True)
    assert combine_requests([again, first]).records == first
    assert combine_requests([undone, ignored]).ignored is None
    assert combine_requests([ignored, first, request(box, 5)]).ignored == ignored
    assert combine_requests([request(box, 6, thing=7)]).things == {}
