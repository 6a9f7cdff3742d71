"""What is said of two experiments: differences by question and of means, equal settings alone, and keys that differ."""

import math

import pytest

from harvestd.report.comparison import (
    Difference,
    Word,
    by_setting,
    difference,
    different_keys,
    flattened,
    last_in_both,
)
from harvestd.report.scripts.evals import Eval, Mean, Setting, mean_of
from harvestd.report.scripts.lines import Line
from harvestd.telemetry.sanitize import HIDDEN

SETTING = Setting("gsm8k", 0.7, 1.0, 8, 1.0)
OTHER = SETTING._replace(temperature=1.0)


def scored(at: int, rate: Mean | None = None, step: str = "") -> Eval:
    """Return an eval of a step with this pass rate."""
    return Eval(
        ("eval_results",),
        step or str(at),
        at,
        SETTING,
        {"pass_rate": rate} if rate else {"entropy_mean": Mean(1, 0, 1)},
    )


def line(*evals: Eval, setting: Setting = SETTING) -> Line:
    """Return a line of evals."""
    return Line(setting, evals)


def test_a_difference_by_question_has_a_smaller_error() -> None:
    """Both questions got better by as much: paired there is no doubt, while the two means overlap."""
    first, other = {0: 0.125, 1: 0.875, 2: 0.5}, {0: 0.25, 1: 1.0, 2: 0.625}
    found = difference(scored(8, mean_of([*first.values()])), scored(8, mean_of([*other.values()])), first, other)
    assert found == Difference(8, 0.125, 0.0, 3, paired=True)
    assert found.word is Word.BETTER
    unpaired = difference(scored(8, mean_of([*first.values()])), scored(8, mean_of([*other.values()])), {}, {})
    assert unpaired is not None
    assert unpaired.value == pytest.approx(0.125)
    assert (unpaired.n, unpaired.paired) == (3, False)
    assert unpaired.error == pytest.approx(math.sqrt(2) * mean_of([*first.values()]).error)
    assert unpaired.word is Word.WITHIN_ERROR


@pytest.mark.parametrize(
    ("value", "error", "n", "word"),
    [
        (0.02, 0.0099, 100, Word.BETTER),
        (0.02, 0.0101, 100, Word.WITHIN_ERROR),
        (-0.02, 0.0099, 100, Word.WORSE),
        (0.0, 0.0, 100, Word.WITHIN_ERROR),
        (0.5, 0.0, 1, None),
    ],
)
def test_a_word_needs_two_errors(value: float, error: float, n: int, word: Word | None) -> None:
    """Less than two standard errors is no difference, and one question is no measurement."""
    assert Difference(8, value, error, n, paired=True).word is word


def test_other_questions_are_not_matched() -> None:
    """Of two evals with mostly other questions the means are compared, not the few common ones."""
    first, other = dict.fromkeys(range(10), 0.5), dict.fromkeys(range(8, 18), 0.75)
    found = difference(scored(8, Mean(0.5, 0.1, 10)), scored(8, Mean(0.75, 0.1, 10)), first, other)
    assert found == Difference(8, 0.25, math.hypot(0.1, 0.1), 10, paired=False)
    assert difference(scored(8), scored(8, Mean(0.75, 0.1, 10)), first, other) is None


def test_the_last_step_of_both_is_compared() -> None:
    """It is the greatest common step with a pass rate after the start; "final" is one by its place."""
    rate = Mean(0.5, 0.1, 10)
    first = line(scored(0, rate, "base"), scored(8, rate), scored(16, rate), scored(24, rate))
    other = line(scored(0, rate, "base"), scored(8, rate), scored(16, rate, "final"), scored(24))
    found = last_in_both(first, other)
    assert found is not None
    assert [each.step for each in found] == ["16", "final"]
    assert last_in_both(first, line(scored(0, rate, "base"), scored(4, rate))) is None


def test_only_equal_settings_are_beside_each_other() -> None:
    """A setting that most have comes first; one that an experiment lacks has no line there."""
    short, long, odd = (
        line(scored(8)),
        line(scored(8), scored(16)),
        line(scored(8), scored(9), scored(10), setting=OTHER),
    )
    found = by_setting([[odd, long], [short]])
    assert found == [(SETTING, (long, short)), (OTHER, (odd, None))]


def test_only_keys_that_differ_are_listed() -> None:
    """Numbers are compared as numbers, null is as if not set, lists are texts, and no secret is shown."""
    one = flattened({"lr": 1e-4, "n": 64, "on": True, "empty": {}, "x": None, "gns": {"window": 16, "layers": [1, 2]}})
    two = flattened({"lr": 0.0001, "n": 64.0, "on": 1, "empty": {}, "gns": {"window": 32, "layers": [1, 2]}})
    assert different_keys([one, two]) == [("gns.window", (16, 32)), ("on", (True, 1))]
    assert different_keys([one, None]) == []
    assert different_keys([{"a": 1}, None, {}]) == [("a", (1, None, None))]
    assert flattened({"wandb": {"api_key": "0123456789abcdef"}}) == {"wandb.api_key": HIDDEN}
    assert flattened({"max_tokens": "1024"}) == {"max_tokens": "1024"}
    assert max(map(len, flattened({"k" * 5_000: "v" * 5_000}))) < 400
    assert len(flattened({str(n): n for n in range(10_000)})) <= 2_000
