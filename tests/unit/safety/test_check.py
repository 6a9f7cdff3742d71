"""The verdict as a table: one line a situation, each of which differs from a drained box in what its line says."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from harvestd.convention.kinds import LossKind
from harvestd.convention.paths import LocalPath
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.snapshot import TreeState
from harvestd.planning.requests import RequestKind
from harvestd.safety.check import judge
from harvestd.safety.inputs import Carrier, CarrierState, Checkout, Circumstances, Damaged, Evidence, Outside
from harvestd.safety.verdict import ReasonKind, VerdictAnswer
from support.box_trees import EVALS, MIB, ROOT, TRAINING, T
from support.judged_boxes import DISK, EVAL, LEAF, NOBODY, RUN, Scene, drained, sizes

Change = Callable[[Scene], object]
LOG = f"{RUN}/logs/train_log.jsonl"
OTHER = "run_2025-08-21_10-00-00"
OFFLINE = "wandb/offline-run-20250820_033150-ab12cd34/run-ab12cd34"
R, L = ReasonKind, LossKind
RECORDS = f"{LEAF}/records.jsonl.gz"
CHECKPOINT = 100 * MIB + 900
"""Bytes of one."""


@dataclass(frozen=True)
class Situation:
    """One line of the table."""

    name: str
    change: Change
    reasons: frozenset[ReasonKind] = frozenset()
    losses: frozenset[LossKind] = frozenset()

    @property
    def answer(self) -> VerdictAnswer:
        """What it has to come to."""
        if self.reasons:
            return VerdictAnswer.NOT_SAFE
        return VerdictAnswer.SAFE_EXCEPT if self.losses else VerdictAnswer.SAFE


def unsafe(name: str, change: Change, *reasons: ReasonKind, losing: LossKind | None = None) -> Situation:
    """Return a situation in which the box must stay."""
    return Situation(name, change, frozenset(reasons), frozenset({losing} if losing else ()))


def losing(name: str, change: Change, *losses: LossKind) -> Situation:
    """Return a situation in which the box may go if these are given up."""
    return Situation(name, change, losses=frozenset(losses))


def safe(name: str, change: Change = lambda _: None) -> Situation:
    """Return a situation in which the box may go."""
    return Situation(name, change)


def then(*changes: Change) -> Change:
    """Let one thing happen after the other."""
    return lambda scene: [change(scene) for change in changes]


def then_bring(*changes: Change) -> Change:
    """Let this happen, and everything that is wanted come home."""
    return lambda scene: [change(scene) for change in (*changes, Scene.bring)]


def begin_other(scene: Scene, *, age: float = 3600.0) -> None:
    """Begin another run, which goes on."""
    scene.box.add_run(f"training_runs/{OTHER}")
    scene.box.file(f"training_runs/{OTHER}/logs/train_log.jsonl", age=age)


def linked_twice(scene: Scene) -> None:
    """Have a link in a run to another link, which leads out of the tree."""
    scene.box.link(f"{RUN}/data", "../shared/set")
    scene.box.link("training_runs/shared", "/mnt/shared")


def litter_for_evals(scene: Scene) -> None:
    """Let nothing but litter stand where evals would, and never have seen anything else."""
    scene.box.entries[EVALS] = {}
    scene.box.file("eval_runs/x.tmp")
    del scene.devices[str(EVALS)]


def link(name: str, target: str) -> Change:
    """Have a link in the run."""
    return lambda scene: scene.box.link(f"{RUN}/{name}", target)


def excluding(*patterns: str) -> Change:
    """Let the operator exclude these."""
    return setting_selection(Selection(exclude=patterns))


def setting_selection(selection: Selection) -> Change:
    """Let the operator select this."""
    return lambda scene: setattr(scene.home, "selection", selection)


def unmount(scene: Scene) -> None:
    """Let the file system below the root be gone: the directory is there, and empty."""
    scene.box.entries.clear()


def torn(scene: Scene) -> None:
    """Let the log of a run end, on the box, in the middle of a line that did not come."""
    begin_other(scene)
    scene.home.learn(scene.box)
    plan = scene.home.plan(scene.box)
    log = f"{ROOT}/training_runs/{OTHER}/logs/train_log.jsonl"
    scene.home.do(replace(plan, follows=()), scene.box)
    scene.home.follow(log, plan, scene.box, torn=7)


def with_policy(policy: CheckpointPolicy, *steps: str) -> Change:
    """Keep checkpoints by a rule, and have more of them on the box."""

    def change(scene: Scene) -> None:
        scene.home.selection = Selection(checkpoint=policy)
        for step in steps:
            scene.box.add_checkpoint(step)

    return change


def conflict(path: str) -> Change:
    """Let the place at home of a new version be taken by a person's own file."""

    def change(scene: Scene) -> None:
        scene.box.file(path, 77)
        place = f"{ROOT}/{path}"
        (record,) = scene.home.knowledge.copies(scene.box.storage, place)
        scene.home.refused[place, record.target] = (scene.box.version(path), "a person's own file stands there")

    return change


def take_away(scene: Scene) -> None:
    """Let a person take the run's directory at home away."""
    (experiment,) = scene.home.knowledge.experiments()
    for file in list(scene.home.knowledge.files_of(experiment.id)):
        scene.home.knowledge.forget_file(file)
    scene.home.knowledge.add_experiment(replace(experiment, gone=True))


def step_20(scene: Scene) -> None:
    """Have a checkpoint that no rule brings."""
    scene.box.add_checkpoint("step_20")


def eval_of_20(scene: Scene) -> None:
    """Evaluate it."""
    scene.box.add_leaf(f"{EVAL}/results/step_20_gsm8k/greedy")


def strangers_eval(scene: Scene) -> None:
    """Evaluate a run that nobody knows."""
    scene.box.add_leaf(f"eval_runs/{OTHER}_gsm8k/results/a")


def strangers_eval_of_20(scene: Scene) -> None:
    """Evaluate a run that nobody knows at the same step."""
    scene.box.add_leaf(f"eval_runs/{OTHER}_gsm8k/results/step_20_gsm8k/greedy")


def bring_all_but_moves(scene: Scene) -> None:
    """Bring home all that is wanted, and leave what waits there where it is."""
    scene.home.learn(scene.box)
    scene.home.do(replace(scene.home.plan(scene.box), refiles=()), scene.box)


def base_eval(scene: Scene) -> None:
    """Evaluate the model as it was before training."""
    scene.box.add_leaf("eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_gsm8k/r")


def records(scene: Scene) -> None:
    """Have the records of an eval beside its metrics."""
    scene.box.file(RECORDS, 500, age=3602)


def writing_now(scene: Scene) -> None:
    """Begin another run just now."""
    begin_other(scene, age=-4995.0)


def on_nfs(scene: Scene) -> None:
    """Let the trees lie on a network file system."""
    scene.box.filesystem = "nfs4"


def asking(kind: RequestKind, **detail: object) -> Change:
    """Let a person ask for something of the run."""
    return lambda scene: scene.ask(kind, **detail)


def telling(**changes: object) -> Change:
    """Let the box say something of itself."""
    return lambda scene: scene.tell(**changes)


def setting(**changes: object) -> Change:
    """Let one thing be otherwise."""
    return lambda scene: scene.__dict__.update(changes)


SHARED = setting(through="gpu-b")
"""What lies in the trees is on storage of the cloud, and gpu-b shows it too."""
OTHERS_RUN = setting(through="gpu-b", written_elsewhere={f"training_runs/{OTHER}"})
DAMAGED = Damaged(LocalPath(("a", "b")), 12)
STRANGER = Circumstances()
"""A box that can say nothing of itself."""

EVERY_LOSS_BESIDE = frozenset({L.OUTSIDE_FILES, L.UNCOMMITTED_WORK})

SITUATIONS = (
    safe("drained"),
    # whether anybody looks
    unsafe("not connected", setting(connected=False), R.NOT_CONNECTED),
    unsafe("not looked at", setting(looked=False), R.NOT_LOOKED_AT),
    unsafe("looked at in part", setting(whole=False), R.NOT_LOOKED_AT),
    unsafe("looked at long ago", setting(age=600.0), R.NOT_LOOKED_AT),
    unsafe("the age of the look is no number", setting(age=float("nan")), R.NOT_LOOKED_AT),
    unsafe("not asked about itself", setting(circumstances=None), R.NOT_LOOKED_AT),
    unsafe("names that can't be used", setting(rejected=2), R.NOT_LOOKED_AT),
    unsafe("a directory that may not be listed", lambda s: s.box.shut(f"{RUN}/more"), R.NOT_LOOKED_AT),
    unsafe(
        "a tree that may not be listed",
        lambda s: s.box.states.update({EVALS: TreeState.DENIED}),
        R.NOT_LOOKED_AT,
        R.ROOT_CHANGED,
    ),
    # roots
    unsafe("no root configured", setting(roots=()), R.ROOT_MISSING),
    unsafe("a second root that nobody looked at", setting(roots=(ROOT, "/mnt/more")), R.ROOT_MISSING),
    unsafe(
        "the root is gone", lambda s: s.box.states.update(dict.fromkeys(s.box.trees, TreeState.NO_ROOT)), R.ROOT_MISSING
    ),
    unsafe("the root is not mounted", unmount, R.ROOT_EMPTY),
    unsafe(
        "nothing is mounted, and directories stand there", then(unmount, lambda s: s.box.directory(RUN)), R.ROOT_EMPTY
    ),
    unsafe("another device", setting(devices_now={TRAINING: 77, EVALS: 2049}), R.ROOT_CHANGED),
    unsafe("another device at the root", telling(devices={ROOT: 77}), R.ROOT_CHANGED),
    unsafe("a device that nobody can tell", setting(devices_now={}), R.ROOT_CHANGED),
    safe("a tree with litter alone, on its root's device", litter_for_evals),
    unsafe(
        "a tree with litter alone, on a device of its own",
        then(litter_for_evals, setting(devices_now={TRAINING: DISK, EVALS: 77})),
        R.ROOT_CHANGED,
    ),
    unsafe("a device that was never noted", setting(devices={}), R.ROOT_CHANGED),
    unsafe(
        "one tree is gone",
        then(lambda s: s.box.entries.pop(EVALS), lambda s: s.box.states.update({EVALS: TreeState.NO_TREE})),
        R.ROOT_CHANGED,
    ),
    # something was seen
    unsafe("fresh", setting(box=Scene().box, seen=False, devices={}), R.ROOT_EMPTY, R.NOTHING_SEEN),
    unsafe("nothing of its own was ever seen", setting(seen=False), R.NOTHING_SEEN),
    # what is wanted
    unsafe("a new metric", lambda s: s.box.file(f"{LEAF}/metrics.csv", 99), R.OUTSTANDING),
    unsafe("a new eval", eval_of_20, R.OUTSTANDING),
    unsafe("an eval of a run that nobody knows", strangers_eval, R.OUTSTANDING),
    safe("an eval of a run that nobody knows, here", then_bring(strangers_eval)),
    unsafe("a base eval", base_eval, R.OUTSTANDING),
    safe("a base eval, here", then_bring(base_eval)),
    unsafe("a longer log", lambda s: s.box.grow(LOG, 50), R.OUTSTANDING),
    unsafe(
        "a large file of the same size and other times",
        lambda s: s.box.file(f"{RUN}/training_state/step_final/optimizer.pt", 50 * MIB, age=3650),
        R.OUTSTANDING,
    ),
    unsafe(
        "an eval that is to move to its run",
        then(strangers_eval, Scene.bring, begin_other, bring_all_but_moves),
        R.OUTSTANDING,
    ),
    unsafe("a torn last line of a dead run", torn, R.OUTSTANDING),
    unsafe(
        "an eval that is being written",
        lambda s: s.box.add_leaf(f"{EVAL}/results/step_20_gsm8k/greedy", marker="", age=-4998.0),
        R.WAITING,
    ),
    unsafe(
        "a final checkpoint without its marker",
        then(
            begin_other,
            lambda s: s.box.add_checkpoint("step_final", f"training_runs/{OTHER}", whole=False),
            Scene.bring,
        ),
        R.WAITING,
    ),
    unsafe("asked for by hand", then(step_20, asking(RequestKind.FETCH, thing="step_20")), R.OUTSTANDING, R.ASKED_FOR),
    safe("asked for by hand, and here", then_bring(step_20, asking(RequestKind.FETCH, thing="step_20"))),
    unsafe(
        "wanted, and can't be read",
        then(
            lambda s: s.box.file(f"{RUN}/config.yaml", 9),
            lambda s: s.failing.update({f"{ROOT}/{RUN}/config.yaml": "input/output error"}),
        ),
        R.FAILING,
    ),
    unsafe("its place at home is taken", conflict(f"{LEAF}/metrics.csv"), R.IN_THE_WAY),
    unsafe(
        "the place of a part of the final checkpoint is taken",
        conflict(f"{RUN}/training_state/step_final/optimizer.pt"),
        R.IN_THE_WAY,
    ),
    unsafe("its directory at home was taken away", take_away, R.IN_THE_WAY, losing=L.CHECKPOINTS),
    unsafe("a file at home is gone or cut", setting(damaged=(DAMAGED,)), R.MISSING_AT_HOME),
    # runs
    unsafe("a run that may still write", then_bring(begin_other, telling(gpu_processes=1)), R.RUNNING, R.GPU_BUSY),
    unsafe("a run that wrote just now", then_bring(writing_now), R.RUNNING),
    safe("a run that died without a checkpoint", then_bring(begin_other)),
    safe(
        "an empty husk",
        lambda s: s.box.file(f"training_runs/{OTHER}/tensorboard/events.out.tfevents.1.gpu-a.1.0", 0),
    ),
    losing(
        "a husk with TensorBoard's",
        lambda s: s.box.file(f"training_runs/{OTHER}/tensorboard/events.out.tfevents.1.gpu-a.1.0"),
        L.OUTSIDE_FILES,
    ),
    losing("a husk with a log", lambda s: s.box.file(f"training_runs/{OTHER}/logs/train_log.jsonl"), L.OUTSIDE_FILES),
    safe("litter", lambda s: s.box.files(f"{RUN}/x.tmp", f"{RUN}/.config.yaml.swp", f"{RUN}/__pycache__/a.pyc")),
    losing("rollouts", lambda s: s.box.file(f"{RUN}/logs/rollouts_1.jsonl"), L.ROLLOUTS),
    losing("a file called as core dumps are", lambda s: s.box.file(f"{RUN}/core.py"), L.OUTSIDE_FILES),
    losing("a core dump", lambda s: s.box.file(f"{RUN}/core.4242"), L.OUTSIDE_FILES),
    losing("a repository that was not listed", lambda s: s.box.pruned(f"{RUN}/.git"), L.OUTSIDE_FILES),
    safe(
        "what the operator excludes",
        then(
            lambda s: s.box.files(f"{RUN}/logs/rollouts_1.jsonl", f"{RUN}/notes.txt", f"{RUN}/wandb/run-1/a.wandb"),
            lambda s: s.box.pruned(f"{RUN}/.git"),
            lambda s: s.box.link(f"{RUN}/data", "/data"),
            lambda s: s.box.shut(f"{RUN}/private"),
            excluding("rollouts*", "notes.txt", "wandb", ".git", "data", "private"),
        ),
    ),
    losing("an offline run of W&B's", lambda s: s.box.file(f"{RUN}/{OFFLINE}.wandb", 700), L.WANDB),
    safe("one that was synced", lambda s: s.box.files(f"{RUN}/{OFFLINE}.wandb", f"{RUN}/{OFFLINE}.wandb.synced")),
    losing(
        "one that went on after it was synced",
        then(
            lambda s: s.box.file(f"{RUN}/{OFFLINE}.wandb", age=3000.0),
            lambda s: s.box.file(f"{RUN}/{OFFLINE}.wandb.synced", age=3600.0),
        ),
        L.WANDB,
    ),
    losing("a run behind a link", lambda s: s.box.link(f"training_runs/{OTHER}", f"/ephemeral/{OTHER}"), L.LINKS),
    losing("a link within a run", lambda s: s.box.link(f"{RUN}/data", "/data/set"), L.LINKS),
    losing("a link that can't be read", lambda s: s.box.link(f"{RUN}/data", ""), L.LINKS),
    losing("links that lead to each other", then(link("a", "b"), link("b", "a")), L.LINKS),
    safe("a link to what is here", lambda s: s.box.link("training_runs/latest", f"{ROOT}/{RUN}")),
    safe("a link to an eval", lambda s: s.box.link("eval_runs/latest", f"{T}_gsm8k")),
    safe(
        "a link that the host resolves to a watched tree",
        then(
            lambda s: s.box.link(f"{RUN}/evals", "../../eval_runs"),
            lambda s: s.links.update({f"{ROOT}/{RUN}/evals": LinkTarget("../../eval_runs", str(EVALS), watched=True)}),
        ),
    ),
    losing(
        "a link that led elsewhere when it was resolved",
        then(
            lambda s: s.box.link(f"{RUN}/evals", "/mnt/evals"),
            lambda s: s.links.update({f"{ROOT}/{RUN}/evals": LinkTarget("../../eval_runs", str(EVALS), watched=True)}),
        ),
        L.LINKS,
    ),
    losing("a link through another to nowhere", linked_twice, L.LINKS),
    losing("a link that survives with no other box", then(SHARED, linked_twice), L.LINKS),
    unsafe(
        "a tree that is a link to nowhere",
        lambda s: s.box.states.update({EVALS: TreeState.BROKEN_LINK}),
        R.ROOT_MISSING,
        R.ROOT_CHANGED,
    ),
    losing("what no rule knows", lambda s: s.box.file(f"{RUN}/notes.txt"), L.OUTSIDE_FILES),
    safe("an ignored run", then(asking(RequestKind.IGNORE), lambda s: s.box.grow(LOG, 50))),
    # who is there
    unsafe("a GPU at work", telling(gpu_processes=2), R.GPU_BUSY),
    unsafe("somebody logged in", telling(log_ins=1), R.LOGGED_IN),
    unsafe("a copy under way", telling(transfers=1), R.TRANSFERS),
    unsafe("a transfer of ours", setting(transfers=1), R.TRANSFERS),
    unsafe(
        "a box that can say nothing",
        setting(circumstances=STRANGER),
        R.GPU_BUSY,
        R.LOGGED_IN,
        R.TRANSFERS,
        R.LOSSES_UNKNOWN,
    ),
    # quiet
    unsafe("the minute between two runs of a sweep", setting(quiet=60.0), R.NOT_QUIET),
    unsafe("not watched for long", setting(quiet=0.0), R.NOT_QUIET),
    unsafe("quiet for nobody knows how long", setting(quiet=float("nan")), R.NOT_QUIET),
    unsafe(
        "a network file system may show old attributes", then(on_nfs, setting(idle_for=1.0, quiet=30.0)), R.NOT_QUIET
    ),
    # losses
    losing("a checkpoint that no eval refers to", step_20, L.CHECKPOINTS),
    losing("a checkpoint that an eval refers to", then_bring(step_20, eval_of_20), L.EVALUATED_CHECKPOINTS),
    losing("a checkpoint of the step of another run's eval", then_bring(step_20, strangers_eval_of_20), L.CHECKPOINTS),
    safe("every checkpoint is here", then_bring(with_policy(CheckpointPolicy.ALL, "step_20", "step_40"))),
    losing("no checkpoint is wanted", with_policy(CheckpointPolicy.NONE, "step_20"), L.CHECKPOINTS),
    losing(
        "a checkpoint of a husk", lambda s: s.box.add_checkpoint("step_20", f"training_runs/{OTHER}"), L.CHECKPOINTS
    ),
    losing("a checkpoint of an ignored run", then(step_20, asking(RequestKind.IGNORE)), L.CHECKPOINTS),
    losing("records", records, L.RECORDS),
    safe("records that were asked for, here", then_bring(records, asking(RequestKind.FETCH, thing="records"))),
    losing("files outside the roots", telling(outside=Outside(3, 900, ("/home/u/a",))), L.OUTSIDE_FILES),
    losing("work in git", telling(checkouts=(Checkout("/home/u/code", 2, 1),)), L.UNCOMMITTED_WORK),
    losing("commits alone", telling(checkouts=(Checkout("/home/u/code", 0, 1),)), L.UNCOMMITTED_WORK),
    unsafe(
        "files outside, not all counted",
        telling(outside=Outside(3, 900, whole=False)),
        R.LOSSES_UNKNOWN,
        losing=L.OUTSIDE_FILES,
    ),
    unsafe("checkouts that nobody can tell", telling(checkouts=None), R.LOSSES_UNKNOWN),
    safe(
        "what is accepted need not be known",
        then(telling(outside=None, checkouts=None), setting(accepted=EVERY_LOSS_BESIDE)),
    ),
    # storage that outlives the box
    safe("losses that another box shows", then(step_20, SHARED)),
    losing("losses beside the storage", then(SHARED, telling(outside=Outside(1, 5))), L.OUTSIDE_FILES),
    safe("another box's run on the same storage", then(writing_now, OTHERS_RUN)),
    unsafe("a run of an unknown writer on the same storage", then(writing_now, SHARED), R.WAITING, R.RUNNING),
    unsafe(
        "another box's run, which no other box shows any more",
        then(writing_now, OTHERS_RUN, setting(through=None)),
        R.WAITING,
        R.RUNNING,
    ),
    unsafe("an eval on the same storage, of whomever", then(eval_of_20, OTHERS_RUN), R.OUTSTANDING),
)


@pytest.mark.parametrize("situation", SITUATIONS, ids=[each.name for each in SITUATIONS])
def test_situation(situation: Situation) -> None:
    """The answer, all reasons and all losses are those of the table, no more and no fewer."""
    scene = drained()
    situation.change(scene)
    verdict = scene.verdict()
    assert {reason.kind for reason in verdict.reasons} == situation.reasons, verdict.reasons
    assert {loss.kind for loss in verdict.losses} == situation.losses
    assert verdict.answer is situation.answer
    assert not any(reason.detail.endswith(".") for reason in verdict.reasons)


def test_every_reason_and_every_loss_is_in_the_table() -> None:
    """No reason for *no* and no loss is left untried, in more situations than forty."""
    assert {kind for each in SITUATIONS for kind in each.reasons} == set(ReasonKind)
    assert {kind for each in SITUATIONS for kind in each.losses} == set(LossKind)
    assert len(SITUATIONS) > 40


def test_a_link_is_lost_with_what_the_host_can_tell_of_it() -> None:
    """The loss names the link and what it leads to; its size is the target's, and unknown where nothing is there."""
    scene = drained()
    for name, circumstances in (
        ("a", None),
        ("b", LinkTarget("/mnt/x", "/data/x", size=700)),
        ("c", LinkTarget("/mnt/x", "/mnt/x", there=False)),
    ):
        scene.box.link(f"{RUN}/{name}", "/mnt/x")
        if circumstances is not None:
            scene.links[f"{ROOT}/{RUN}/{name}"] = circumstances
    assert [(loss.what.partition(f"{RUN}/")[2], loss.size) for loss in scene.verdict().losses] == [
        ("a -> /mnt/x", None),
        ("b -> /data/x", 700),
        ("c -> /mnt/x, which is not there now", None),
    ]


def test_of_many_losses_one_unknown_size_makes_the_sum_unknown() -> None:
    """What is counted together has a size only where each part has one."""
    scene = drained()
    for n in range(70):
        scene.box.file(f"training_runs/junk_{n:02}/x/y{n}", 10)
        scene.box.file(f"training_runs/run_2025-08-22_10-00-{n % 60:02}/odd_{n}.bin", 10)
    assert sizes(scene.verdict())[L.OUTSIDE_FILES] == 1400
    scene.box.pruned(f"{RUN}/.git")
    assert sizes(scene.verdict())[L.OUTSIDE_FILES] is None


def test_whoever_accepts_checkpoints_accepts_those_that_were_evaluated() -> None:
    """The other way round it does not hold."""
    scene = drained()
    then_bring(step_20, eval_of_20)(scene)
    assert not scene.verdict().is_safe
    scene.accepted = frozenset({L.CHECKPOINTS})
    assert scene.verdict().is_safe
    scene.accepted = frozenset({L.EVALUATED_CHECKPOINTS})
    assert scene.verdict().is_safe
    step_20_of_other = f"training_runs/{OTHER}"
    scene.box.add_checkpoint("step_20", step_20_of_other)
    assert not scene.verdict().is_safe


def test_nothing_known_is_not_safe() -> None:
    """Evidence that nobody filled in speaks against the box."""
    assert judge(Evidence()).answer is VerdictAnswer.NOT_SAFE
    assert judge(Evidence(connected=True)).answer is VerdictAnswer.NOT_SAFE


def test_sizes_are_told() -> None:
    """What is outstanding and what would be lost is told in bytes."""
    scene = drained()
    scene.box.add_checkpoint("step_20")
    scene.box.file(RECORDS, 500, age=3602)
    assert sizes(scene.verdict()) == {L.CHECKPOINTS: CHECKPOINT, L.RECORDS: 500}
    scene.box.file(f"{RUN}/config.yaml", 1234)
    assert scene.verdict().outstanding == 1234


def test_what_survives_is_named() -> None:
    """What another host still shows is no loss, and says through whom it can be had."""
    scene = drained()
    scene.box.add_checkpoint("step_20")
    SHARED(scene)
    verdict = scene.verdict()
    assert not verdict.losses
    assert [(each.loss.kind, each.loss.size, each.through) for each in verdict.survives] == [
        (L.CHECKPOINTS, CHECKPOINT, "gpu-b")
    ]


def test_time_left_is_that_of_the_longest_wait() -> None:
    """Where time alone is needed it is said how long; where anything else is, it is not."""
    scene = drained()
    scene.quiet = 300.0
    left = scene.verdict().left
    assert left is not None
    assert left.total_seconds() == 600.0
    scene.tell(log_ins=1)
    assert scene.verdict().left is None


def test_accepted_losses_do_not_stand_in_the_way() -> None:
    """They are named all the same; those that nobody accepted count."""
    scene = drained()
    scene.box.add_checkpoint("step_20")
    assert not scene.verdict().is_safe
    scene.accepted = frozenset({L.CHECKPOINTS})
    verdict = scene.verdict()
    assert verdict.is_safe
    assert verdict.answer is VerdictAnswer.SAFE_EXCEPT
    scene.tell(outside=Outside(1, 5))
    assert not scene.verdict().is_safe


def test_losses_without_end_are_counted_together() -> None:
    """A box may make up any number of runs and checkpoints: the verdict stays small, and the sum is right."""
    scene = drained()
    for hour in range(10, 20):
        for minute in range(10):
            scene.box.add_checkpoint("step_1", f"training_runs/run_2025-08-21_{hour}-{minute:02}-00")
    verdict = scene.verdict()
    assert len(verdict.losses) == 1
    assert verdict.losses[0].size == 100 * CHECKPOINT
    assert verdict.losses[0].entries == 300


def test_twin_trees_count_where_they_are_looked_at() -> None:
    """A second root that leads to the same directories is not empty, and lacks nothing."""
    scene = drained()
    scene.box.states[EVALS] = TreeState.TWIN
    kinds = {reason.kind for reason in scene.verdict().reasons}
    assert not kinds & {R.ROOT_EMPTY, R.ROOT_CHANGED, R.ROOT_MISSING}


def test_reasons_begin_with_what_needs_a_hand() -> None:
    """What time alone settles comes last."""
    scene = drained()
    scene.quiet = 0.0
    scene.damaged = (DAMAGED,)
    scene.box.grow(LOG, 50)
    found = [reason.kind for reason in scene.verdict().reasons]
    assert found == [R.MISSING_AT_HOME, R.OUTSTANDING, R.NOT_QUIET]


def test_a_box_of_strangers_is_no_comfort() -> None:
    """Each thing that a box can't say counts against it alone."""
    for name in ("gpu_processes", "log_ins", "transfers", "outside", "checkouts"):
        scene = drained()
        scene.circumstances = replace(NOBODY, **{name: None})
        assert scene.verdict().answer is VerdictAnswer.NOT_SAFE, name
    assert drained().verdict().answer is VerdictAnswer.SAFE, T


@pytest.mark.parametrize(
    "stray",
    [
        "training_runs/my_best_run/model.safetensors",
        f"training_runs/{T}/analysis.npz",
        "training_runs/run_2025-08-21_10-00-00/logs/train_log.jsonl",
        f"eval_runs/{T}_gsm8k/notes.txt",
        "eval_runs/by_hand/metrics.csv",
    ],
)
def test_what_the_convention_does_not_know_is_lost_by_name(stray: str) -> None:
    """A result in a directory with a wrong name comes home nowhere, and nobody said that it may go."""
    scene = drained()
    scene.box.file(stray)
    verdict = scene.verdict()
    assert verdict.answer is VerdictAnswer.SAFE_EXCEPT
    assert [loss.kind for loss in verdict.losses] == [LossKind.OUTSIDE_FILES]
    assert stray.split("/")[1] in verdict.losses[0].what


def test_programs_that_carry_files_are_named_and_may_be_passed_over() -> None:
    """With process and why; what the operator does not mind is neither counted nor named."""
    scene = drained()
    carriers = (
        Carrier("rclone", 412, CarrierState.UNSENT),
        Carrier("rsync", 7, CarrierState.UNKNOWN),
    )
    scene.circumstances = replace(scene.circumstances or NOBODY, transfers=3, carriers=carriers)
    (reason,) = scene.verdict().reasons
    assert reason.kind is R.TRANSFERS
    assert all(word in reason.detail for word in ("3 programs", "rclone", "412", "rsync", "verdict.ignore_programs"))
    circumstances = scene.circumstances
    scene.circumstances = circumstances.without({"rclone"})
    (reason,) = scene.verdict().reasons
    assert "2 programs" in reason.detail
    assert "rclone" not in reason.detail
    scene.circumstances = replace(circumstances, transfers=2).without({"rclone", "rsync"})
    assert scene.verdict().is_safe


def test_what_could_not_be_looked_through_is_named() -> None:
    """A reason that only time or a person can end says where."""
    scene = drained()
    circumstances = scene.circumstances or NOBODY
    scene.circumstances = replace(
        circumstances, outside=Outside(0, 0, whole=False, missed="/home/a/data was not reached within 120 s")
    )
    assert "/home/a/data" in scene.verdict().reasons[0].detail
    scene.circumstances = replace(circumstances, checkouts=None, unclear="git gave no answer in time on /home/a/code")
    assert "/home/a/code" in scene.verdict().reasons[0].detail


def test_records_beside_metrics_that_wait_are_lost() -> None:
    """What waits to be fetched from a directory does not include the records that a rule leaves out there."""
    scene = drained()
    other = LEAF.replace("step_final", "step_20")
    scene.box.add_leaf(other, marker="", age=scene.now * -1)
    scene.box.file(f"{other}/records.jsonl.gz", 8, age=scene.now * -1)
    assert sizes(scene.verdict()) == {L.RECORDS: 8}
