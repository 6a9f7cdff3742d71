"""Which checkpoints come home, and when the link to the newest one is made there."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from harvestd.convention.paths import LocalPath
from harvestd.convention.rules import CheckpointPolicy, Selection
from support.box_trees import DIRECTORY, ROOT, Box, Home, T, reasons, targets

RUN = f"training_runs/{T}"


@pytest.fixture
def box() -> Box:
    """Return a box with a finished run that links to its last checkpoint."""
    box = Box()
    box.add_run()
    box.finish()
    box.add_checkpoint("step_40")
    box.link(f"{RUN}/training_state/step_latest", "step_final")
    return box


@pytest.fixture
def home(box: Box) -> Home:
    """Return a home that has read what `box` says of itself."""
    home = Home()
    home.learn(box)
    return home


def finish(box: Box) -> None:
    """Let the run be over, after all other checkpoints."""
    box.finish(step=128)


POLICIES: list[tuple[CheckpointPolicy, Callable[[Box], None], set[str]]] = [
    (CheckpointPolicy.NONE, finish, set()),
    (CheckpointPolicy.FINAL, finish, {"step_final"}),
    (CheckpointPolicy.FINAL, lambda _: None, set()),
    (CheckpointPolicy.FINAL_AND_LATEST, finish, {"step_final"}),
    (CheckpointPolicy.FINAL_AND_LATEST, lambda _: None, {"step_100"}),
    (
        CheckpointPolicy.FINAL_AND_LATEST,
        lambda box: box.add_checkpoint("step_final", whole=False),
        {"step_100"},
    ),
    (CheckpointPolicy.ALL, finish, {"step_20", "step_100", "step_final"}),
]


@pytest.mark.parametrize(("policy", "finish", "expected"), POLICIES)
def test_checkpoints_follow_the_policy(
    policy: CheckpointPolicy, finish: Callable[[Box], None], expected: set[str]
) -> None:
    """Which steps come is the operator's choice; the newest is told by its number; what stays has a reason."""
    box, home = Box(), Home(Selection(checkpoint=policy))
    box.add_run()
    box.add_checkpoint("step_20")
    box.add_checkpoint("step_100")
    box.add_checkpoint("step_120", whole=False)
    finish(box)
    home.learn(box)
    plan = home.plan(box)
    steps = {path.split("/")[3] for path in targets(plan) if "/training_state/" in path}
    assert steps == expected
    for step in {"step_20", "step_100", "step_120"} - expected:
        assert len(reasons(plan, f"{RUN}/training_state/{step}/optimizer.pt")) == 1


def test_the_rolling_checkpoint_moves_on() -> None:
    """With "final+latest" a newer checkpoint is fetched when it is whole, and what is here stays."""
    box, home = Box(), Home(Selection(checkpoint=CheckpointPolicy.FINAL_AND_LATEST))
    box.add_run()
    box.add_checkpoint("step_20")
    home.settle_all([box])
    box.add_checkpoint("step_40", whole=False)
    assert home.plan(box).is_empty
    box.add_checkpoint("step_40")
    assert {path.split("/")[3] for path in targets(home.plan(box))} == {"step_40"}
    home.settle_all([box])
    assert home.plan(box).is_empty


@pytest.mark.parametrize(
    "target",
    ["step_60", "..", ".", "/etc", "../x", "", "x" * 300, "a\0b", "step_\udcff", f"/x/{T}/training_state/step_final"],
)
def test_a_link_to_what_is_not_here_is_only_on_record(target: str, box: Box, home: Home) -> None:
    """step_latest is made at home only where it leads to a checkpoint that is here; nothing else it says matters."""
    box.link(f"{RUN}/training_state/step_latest", target)
    home.settle_all([box])
    plan = home.plan(box)
    assert plan.is_empty
    assert reasons(plan, f"{RUN}/training_state/step_latest") == ["a link: never followed"]


def test_a_link_follows_its_source(box: Box) -> None:
    """When step_latest points elsewhere, to what is here as well, the link at home is made anew."""
    home = Home(Selection(checkpoint=CheckpointPolicy.ALL))
    home.settle_all([box])
    box.link(f"{RUN}/training_state/step_latest", "step_40")
    assert [link.target for link in home.plan(box).links] == ["step_40"]


@pytest.mark.parametrize(
    "target",
    [
        "step_40/",
        "./step_40",
        "../training_state/step_40",
        f"{ROOT}/{RUN}/training_state/step_40",
        f"/mnt/real/{RUN}/training_state/step_40/",
    ],
)
def test_a_link_may_say_its_sibling_in_many_ways(target: str, box: Box) -> None:
    """step_latest leads to the checkpoint beside it however the host wrote that: at home it is a relative link."""
    home = Home(Selection(checkpoint=CheckpointPolicy.ALL))
    home.settle_all([box])
    box.link(f"{RUN}/training_state/step_latest", target)
    assert [link.target for link in home.plan(box).links] == ["step_40"]


def test_a_link_needs_the_checkpoint_of_its_own_run(box: Box, home: Home) -> None:
    """A checkpoint that another source put there is not what this run's link means."""
    home.do(home.plan(box), box)
    marker = LocalPath.parse(f"{DIRECTORY}/training_run/training_state/step_final/training_info.json")
    holder = home.knowledge.holder(marker)
    assert holder is not None
    assert home.plan(box).links
    home.knowledge.add_file(replace(holder, place="/elsewhere/training_info.json"))
    assert not home.plan(box).links
