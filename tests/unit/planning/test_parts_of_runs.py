"""The plan of a disk that holds a part of a run: what is wanted of it, where it is filed, and when it is complete."""

import pytest
from msgspec.structs import replace

from harvestd.convention.metadata.parse import TrainingInfo
from harvestd.convention.paths import LocalPath
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.classify import survey
from harvestd.planning.identity import NO_LOG
from harvestd.planning.requests import Request, RequestKind
from harvestd.safety.accounting import not_here
from harvestd.safety.inputs import NoMemo
from support.box_trees import DIRECTORY, ROOT, Box, Home, T, targets

RUN = f"training_runs/{T}"
STATE = f"{RUN}/training_state"
HOME = f"{DIRECTORY}/training_run"
LEAF = f"eval_runs/{T}_gsm8k/qwen2_5_15_gsm8k_finetuned/step_10_gsm8k/temp0.7_p1.0_r8"
ALL = Selection(checkpoint=CheckpointPolicy.ALL)
ROLLING = Selection(checkpoint=CheckpointPolicy.FINAL_AND_LATEST)


def first_host(*, steps: tuple[str, ...] = ("step_64",)) -> Box:
    """Return the host with the log, and rank 0 of some checkpoints."""
    box = Box()
    box.add_run()
    for step in steps:
        box.file(f"{STATE}/{step}/rank_0.pt", 500, age=1000.0)
        box.file(f"{STATE}/{step}/training_info.json", 200, age=999.0)
    return box


def second_host(*names: str, steps: tuple[str, ...] = ("step_64",)) -> Box:
    """Return a host with another disk at the same path: no log, no marker, and files of other ranks."""
    box = Box("gpu-b", "static:gpu-b")
    box.file(f"{RUN}/config.yaml", 2000)
    for step in steps:
        for name in names or ("rank_1.pt",):
            box.file(f"{STATE}/{step}/{name}", 600, age=2000.0)
    return box


def joined(home: Home, first: Box, second: Box, *, final: int | None = None) -> None:
    """Learn that the second host's directory is a part of the first one's run."""
    home.learn(first)
    place = f"{ROOT}/{RUN}"
    known = home.knowledge.run_at(first.storage, place)
    assert known is not None
    info = None if final is None else TrainingInfo(final, None, None)
    known = replace(known, config_hash="c", head="h", final=info)
    home.knowledge.add_run(known)
    home.knowledge.add_run(replace(known, id="b", storage=second.storage, host=second.name, head=NO_LOG))


def bring(home: Home, *boxes: Box) -> None:
    """Plan and do until no box has anything left to do."""
    for _ in range(5):
        for box in boxes:
            home.do(home.plan(box), box)


def filed(home: Home, box: Box) -> dict[str, str]:
    """Return the places at home of what a host brought, below the run's, by its own."""
    return {
        record.place.removeprefix(f"{ROOT}/{STATE}/"): str(record.target).removeprefix(f"{HOME}/training_state/")
        for record in home.knowledge.files_from(box.storage)
    }


def missing(home: Home, box: Box) -> list[str]:
    """Return the places of what is neither here nor coming, as the verdict on the host counts it."""
    seen = survey(box.snapshot(), home.selection)
    return [each.place for each in not_here(seen, home.plan(box), box.storage, home.knowledge, NoMemo())]


def test_parts_come_once_the_marker_is_at_home() -> None:
    """Until then they wait; then they lie beside those of the other host, and config.yaml is here already."""
    first, second, home = first_host(), second_host(), Home(ALL)
    joined(home, first, second)
    plan = home.plan(second)
    assert set(targets(plan)) <= {f"{RUN}/config.yaml"}
    assert any("training_info.json" in wait.reason for wait in plan.waiting)
    bring(home, first, second)
    assert filed(home, second) == {"step_64/rank_1.pt": "step_64/rank_1.pt"}
    assert home.plan(second).is_empty
    assert home.plan(first).is_empty
    assert not missing(home, second)


def test_parts_that_are_written_still_wait_for_quiet() -> None:
    """The marker was written on another disk: it proves nothing of these files' age."""
    first, second, home = first_host(), second_host(), Home(ALL)
    joined(home, first, second)
    bring(home, first)
    second.file(f"{STATE}/step_64/rank_1.pt", 300, age=0.0)
    home.do(home.plan(second), second)
    assert not home.plan(second).groups
    assert targets(home.plan(second, 20.0)) == {
        f"{STATE}/step_64/rank_1.pt": [f"{HOME}/training_state/step_64/rank_1.pt"]
    }


def test_same_name_is_adopted_where_equal_and_filed_beside_where_not() -> None:
    """Of one group each file has its own place."""
    first, second, home = first_host(), second_host("rank_1.pt", "latest", "rng.pth"), Home(ALL)
    joined(home, first, second)
    for name in ("latest", "rng.pth"):
        first.file(f"{STATE}/step_64/{name}", 600, age=2000.0)
    home.hashes[f"{ROOT}/{STATE}/step_64/rng.pth"] = "1" * 64
    bring(home, first, second)
    assert filed(home, second) == {
        "step_64/rank_1.pt": "step_64/rank_1.pt",
        "step_64/rng.pth": f"{HOME}/on_gpu-b/training_state/step_64/rng.pth",
    }
    assert not missing(home, second)
    assert home.plan(second).is_empty


def test_growing_file_of_the_same_name_is_filed_beside() -> None:
    """It is never appended to the other host's."""
    events = f"{RUN}/tensorboard/events.out.tfevents.1755660703.host.1.0"
    first, second, home = first_host(), second_host(), Home(ALL)
    joined(home, first, second)
    first.file(events, 400)
    second.file(events, 700)
    bring(home, first, second)
    beside = f"{HOME}/on_gpu-b/tensorboard/{events.rpartition('/')[2]}"
    (record,) = home.knowledge.copies(second.storage, f"{ROOT}/{events}")
    assert str(record.target) == beside
    second.grow(events, 50)
    assert targets(home.plan(second, 1.0))[events] == [beside]
    first.grow(events, 50)
    assert targets(home.plan(first, 1.0))[events] == [f"{HOME}/tensorboard/{events.rpartition('/')[2]}"]


def test_a_checkpoint_that_the_first_host_keeps_brings_the_parts_of_it() -> None:
    """Which of them is the newest, or passing, the disk with the markers says; what is superseded goes as a whole."""
    first, second, home = first_host(), second_host("rank_1.pt", "rng.pth"), Home(ROLLING)
    first.file(f"{STATE}/step_64/rng.pth", 500, age=1000.0)
    joined(home, first, second)
    bring(home, first, second)
    assert filed(home, second)["step_64/rank_1.pt"] == "step_64/rank_1.pt"
    assert {each.reason for each in home.knowledge.passing_of(f"static:gpu-a:{RUN}")} != set()
    for box, names in ((first, ("rank_0.pt", "rng.pth", "training_info.json")), (second, ("rank_1.pt", "rng.pth"))):
        for number, name in enumerate(names):
            box.file(f"{STATE}/step_128/{name}", 700 + 10 * (box is first), age=900.0 - number)
    home.do(home.plan(first), first)
    # The older checkpoint stays whole until every part of the newer one is here.
    assert not home.plan(first).removals
    bring(home, first, second)
    assert set(filed(home, second)) == {"step_128/rank_1.pt", "step_128/rng.pth"}
    assert home.knowledge.holder(LocalPath.parse(f"{HOME}/training_state/step_64/rank_0.pt")) is None
    assert home.plan(first).is_empty
    assert home.plan(second).is_empty


def test_checkpoint_that_was_asked_for_comes_with_its_parts() -> None:
    """The request is not settled on the second host while parts of it are outstanding there."""
    first, second, home = first_host(), second_host(), Home()
    joined(home, first, second)
    bring(home, first, second)
    assert not filed(home, second)
    place, detail = f"{ROOT}/{RUN}", {"thing": "step_64"}
    home.knowledge.add_request(Request(1, RequestKind.FETCH, first.storage, place, 1_763_870_400.0, detail))
    (asked,) = home.plan(second).request_states
    assert (asked.shown, asked.outstanding) == (True, 1)
    bring(home, first, second)
    assert filed(home, second) == {"step_64/rank_1.pt": "step_64/rank_1.pt"}
    (asked,) = home.plan(second).request_states
    assert (asked.shown, asked.outstanding, asked.refused) == (True, 0, ())


def test_files_of_equal_version_on_another_disk_are_not_here() -> None:
    """Two disks may show one path, size, time and inode: what came from the one says nothing of the other."""
    first, second, home = first_host(), second_host("rank_0.pt"), Home(ALL)
    first.file(f"{STATE}/step_64/rank_0.pt", 600, age=2000.0, inode=7)
    second.file(f"{STATE}/step_64/rank_0.pt", 600, age=2000.0, inode=7)
    joined(home, first, second)
    bring(home, first)
    home.hashes[f"{ROOT}/{STATE}/step_64/rank_0.pt"] = "1" * 64
    bring(home, second)
    assert list(filed(home, second).values()) == [f"{HOME}/on_gpu-b/training_state/step_64/rank_0.pt"]


@pytest.mark.parametrize("shows_run", [False, True])
def test_eval_at_the_same_path_of_another_disk_comes(*, shows_run: bool) -> None:
    """It is another eval, though the other host shows one at this path, and is connected."""
    first, home = first_host(), Home(ALL)
    second = second_host() if shows_run else Box("gpu-b", "static:gpu-b")
    first.add_leaf(LEAF)
    second.add_leaf(LEAF)
    second.file(f"{LEAF}/metrics.csv", 1300, age=3700.0)
    if shows_run:
        joined(home, first, second)
    else:
        home.learn(first)
    home.connected_storages = {
        first.storage: [f"{ROOT}/eval_runs/{T}_gsm8k"],
        second.storage: [f"{ROOT}/eval_runs/{T}_gsm8k"],
    }
    bring(home, first, second)
    (record,) = home.knowledge.copies(second.storage, f"{ROOT}/{LEAF}/metrics.csv")
    assert "/on_gpu-b/" in str(record.target)
    assert not missing(home, second)


@pytest.mark.parametrize(
    ("change", "may_be"),
    [
        ("nothing", True),
        ("log", False),
        ("empty log", False),
        ("logs is a link", False),
        ("log is a link", False),
        ("logs may not be listed", False),
        ("logs are excluded", False),
        ("rollouts", True),
        ("no checkpoint", False),
    ],
)
def test_directory_may_be_a_part_only_where_no_log_can_be_hidden(change: str, *, may_be: bool) -> None:
    """What can't be seen, or is excluded, is not taken for absent."""
    box = second_host() if change != "no checkpoint" else second_host(steps=())
    match change:
        case "log":
            box.file(f"{RUN}/logs/train_log.jsonl", 100)
        case "empty log":
            box.file(f"{RUN}/logs/train_log.jsonl", 0)
        case "logs is a link":
            box.link(f"{RUN}/logs", "/elsewhere")
        case "log is a link":
            box.link(f"{RUN}/logs/train_log.jsonl", "/elsewhere")
        case "logs may not be listed":
            box.shut(f"{RUN}/logs")
        case "rollouts":
            box.file(f"{RUN}/logs/rollouts.jsonl", 100)
    selection = Selection(exclude=("logs",) if change == "logs are excluded" else ())
    (run,) = survey(box.snapshot(), selection).runs
    assert run.may_be_part == may_be
