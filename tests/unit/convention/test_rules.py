"""The rules that hold at any place in a tree: which of several that fit gives the reason, and what it covers."""

import pytest

from harvestd.convention.kinds import LossKind
from harvestd.convention.rules import Exclusion, Exclusions, Selection

WANDB_FILES = "rule: W&B's files are not fetched"


def pattern(text: str, depth: int) -> Exclusion:
    """Return what the operator's pattern says of the first `depth` components."""
    return Exclusion(f'rule: select.exclude "{text}"', depth)


CASES = [
    ((), ("a", "b", "c.csv"), None),
    ((), ("a", "b.tmp"), Exclusion("rule: temporary file", 2)),
    ((), ("a", "b.part"), Exclusion("rule: unfinished file or core dump", 2, LossKind.OUTSIDE_FILES)),
    ((), ("a", "core"), Exclusion("rule: unfinished file or core dump", 2, LossKind.OUTSIDE_FILES)),
    ((), ("a", "core.123"), Exclusion("rule: unfinished file or core dump", 2, LossKind.OUTSIDE_FILES)),
    ((), ("a", "core.py"), None),
    ((), ("a", "core.1.yaml"), None),
    ((), ("a", ".git", "c", "d"), Exclusion("rule: .git is never wanted", 2, LossKind.OUTSIDE_FILES)),
    ((), ("__pycache__", "c"), Exclusion("rule: __pycache__ is never wanted", 1)),
    ((), ("a", "wandb"), Exclusion(WANDB_FILES, 2, LossKind.WANDB)),
    ((), ("a", "wandb", "c"), Exclusion(WANDB_FILES, 2, LossKind.WANDB)),
    ((), ("a", "wandb", "run-1", "files", "c"), Exclusion(WANDB_FILES, 3, LossKind.WANDB)),
    (("a",), ("a", "wandb", "c"), pattern("a", 1)),
    (("wandb",), ("a", "wandb", "c"), pattern("wandb", 2)),
    (("*.tmp",), ("a", "b.tmp"), pattern("*.tmp", 2)),
    (("b", "a"), ("a", "b", "c"), pattern("b", 2)),
    (("*.csv", "a"), ("a", "b", "c.csv"), pattern("*.csv", 3)),
    (("*.csv", "a"), ("a", "b", "c.txt"), pattern("a", 1)),
    (("x", "b", "b"), ("a", "b", "b"), pattern("b", 2)),
    (("top/a/b",), ("a", "b", "c"), pattern("top/a/b", 2)),
    (("top",), ("a", "b", "c"), None),
    (("top/*c",), ("a", "b", "c"), pattern("top/*c", 3)),
    (("a/b",), ("a", "b", "c"), None),
]


@pytest.mark.parametrize(("exclude", "path", "expected"), CASES)
def test_a_file_is_excluded_by_the_first_rule_that_fits(
    exclude: tuple[str, ...], path: tuple[str, ...], expected: Exclusion | None
) -> None:
    """The operator's patterns, litter, other tools' directories; of each the topmost, whatever was asked first."""
    exclusions = Exclusions(Selection(exclude=exclude), ("top",))
    assert exclusions.of_file(path) == expected
    exclusions.of_file((*path[:-1], "other"))
    assert exclusions.of_file(path) == expected
    exclusions = Exclusions(Selection(exclude=exclude), ("top",))
    exclusions.of_file((*path[:-1], "other"))
    assert exclusions.of_file(path) == expected


def test_a_directory_is_no_temporary_file() -> None:
    """A directory may have a name that a temporary file would have."""
    exclusions = Exclusions(Selection())
    assert exclusions.of_directory(("run.tmp",)) is None
    assert exclusions.of_directory(("run.tmp", ".cache", "x")) == Exclusion(
        "rule: .cache is never wanted", 2, LossKind.OUTSIDE_FILES
    )


def test_what_is_included_is_excluded_by_no_rule_but_the_operators() -> None:
    """`select.include` names files below a run or eval directory; outside of these it means nothing."""
    selection = Selection(include=("logs/*", "wandb/*.wandb"), exclude=("secret*",))
    exclusions = Exclusions(selection, ("run",))
    assert exclusions.of_file(("logs", "a.tmp")) is None
    assert exclusions.of_file(("wandb", "offline-run-1", "run-1.wandb")) is None
    assert exclusions.of_file(("wandb", "debug.log")) is not None
    assert exclusions.of_file(("logs", "secret.txt")) == pattern("secret*", 2)
    assert exclusions.includes(("logs", "x"))
    assert not Exclusions(selection).includes(("logs", "x"))
