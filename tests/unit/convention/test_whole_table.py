"""The convention as a table of data, `tests/data/convention.toml`: a path on a box, and what becomes of it."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.snapshot import Tree, TreeKind
from harvestd.planning.plan import Plan
from support.box_trees import EVALS, ROOT, TRAINING, Box, Home, reasons, targets

TABLE: dict[str, Any] = tomllib.loads((Path(__file__).parents[2] / "data" / "convention.toml").read_text("utf-8"))
CASES: list[tuple[str, str, str]] = [tuple(case) for cases in TABLE["tables"].values() for case in cases]


def show_run(box: Box, path: str, model: str = "Qwen/Qwen2.5-1.5B", dataset: str = "gsm8k", steps: str = "64") -> None:
    """Show a run that has begun."""
    box.add_run(path, ConfigFacts(model, None, int(steps), dataset))


def show_eval_config(box: Box, path: str, run: str) -> None:
    """Show what links evals to their run."""
    box.file(f"{path}/eval_config.yaml")
    box.eval_configs[path] = run


THINGS: dict[str, Callable[..., None]] = {
    "run": show_run,
    "finish": Box.finish,
    "checkpoint": lambda box, path, step: box.add_checkpoint(step, path),
    "torn": lambda box, path, step: box.add_checkpoint(step, path, whole=False),
    "leaf": Box.add_leaf,
    "batch": lambda box, path: box.add_leaf(path, marker="summary.json"),
    "evals": show_eval_config,
    "file": lambda box, path: box.file(path),
    "fresh": lambda box, path: box.file(path, 700, age=0.0),
    "link": Box.link,
    "special": Box.special,
    "pruned": lambda box, path: box.pruned(path, 5000),
}
"""What each line of a context puts on a box; the words are explained in the table."""


def show(box: Box, lines: list[str]) -> None:
    """Put on the box what the lines say."""
    for line in lines:
        what, *arguments = line.split()
        THINGS[what](box, *arguments)


def tree_of(text: str) -> Tree:
    """Return the tree that a context names: an eval tree after "eval: ", in another root where it is absolute."""
    name = text.removeprefix("eval: ")
    root, _, last = name.rpartition("/") if name.startswith("/") else (ROOT, "", name)
    return Tree(root, last, TreeKind.TRAINING if text == name else TreeKind.EVAL)


def outcome(plan: Plan, path: str) -> str:
    """Return what becomes of a path, in the table's words."""
    (*placed,) = targets(plan).get(path, ())
    why = reasons(plan, path)
    links = [f"link: {link.target}" for link in plan.links if path.endswith(f"/training_state/{link.path.name}")]
    found = [
        *placed,
        *links,
        *(f"waits: {each[9:]}" if each.startswith("waiting: ") else f"out: {each}" for each in why),
    ]
    assert len(found) == 1, (path, found)
    return found[0]


def test_the_table_is_large_and_says_nothing_twice() -> None:
    """It has every layout, every policy and every reason; a case that stands twice is a mistake."""
    assert len(CASES) >= 40
    assert len(set(CASES)) == len(CASES)
    assert {context for context, _, _ in CASES} == set(TABLE["contexts"])


@pytest.mark.parametrize(("context", "path", "expected"), CASES)
def test_a_path_becomes_what_the_table_says(context: str, path: str, expected: str) -> None:
    """Through the real survey and the real planning, from what the box shows to one place at home or one reason."""
    given: dict[str, Any] = TABLE["contexts"][context]
    select = dict(given.get("select", {}))
    selection = Selection(
        checkpoint=CheckpointPolicy(select.pop("checkpoint", "final")),
        exclude=tuple(select.pop("exclude", ())),
        **select,
    )
    home = Home(selection)
    other = Box("gpu-b", "static:gpu-b")
    show(other, given.get("elsewhere", []))
    home.settle_all([other])
    box = Box(trees=tuple(map(tree_of, given["trees"])) if "trees" in given else (TRAINING, EVALS))
    show(box, given["shows"])
    if given.get("done"):
        home.learn(box)
        home.do(home.plan(box), box)
    show(box, given.get("then", []))
    tree, below = box.place(path)
    if below not in box.entries.get(tree, {}):
        box.file(path, 777)
    if not given.get("unread"):
        home.learn(box)
    first, second, *_ = [each.directory for each in home.knowledge.experiments()] + ["", ""]
    for short, directory in (("D/", first), ("D2/", second)):
        if expected.startswith(short):
            expected = f"{directory}/{expected.removeprefix(short)}"
    assert outcome(home.plan(box), path) == expected
