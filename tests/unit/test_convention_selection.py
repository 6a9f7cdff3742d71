"""The rules that hold at any place in a tree: which of several that fit gives the reason, and what it covers."""

import pytest

from harvestd.convention.selection import Exclusion, Exclusions, Selection


def pattern(text: str, depth: int) -> Exclusion:
    """Give what the operator's pattern says of the first `depth` components."""
    return Exclusion(f'rule: select.exclude "{text}"', depth)


CASES = [
    ((), ("a", "b", "c.csv"), None),
    ((), ("a", "b.tmp"), Exclusion("rule: temporary file", 2)),
    ((), ("wandb", "b.tmp"), Exclusion("rule: temporary file", 2)),
    ((), ("a", "wandb", ".git", "c"), Exclusion("rule: wandb is never wanted", 2)),
    ((), ("a", "wandb"), Exclusion("rule: wandb is never wanted", 2)),
    (("a",), ("a", "wandb", "c"), Exclusion("rule: wandb is never wanted", 2)),
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
    """Temporaries, other tools' directories, the operator's patterns; of each the topmost, whatever was asked first."""
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
    assert exclusions.of_directory(("run.tmp", "wandb", "x")) == Exclusion("rule: wandb is never wanted", 2)
