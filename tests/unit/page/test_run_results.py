"""The evals of a run on the page: points, the run before behind them, and the difference at the same step."""

from itertools import pairwise

from harvestd.page.run import results
from harvestd.report.scripts.evals import Eval, Mean, Setting

SETTING = Setting("gsm8k", 0.7, 1.0, 8, 1.0)


def evals(*rates: tuple[int, float], setting: Setting = SETTING) -> list[Eval]:
    """Return evals with these pass rates by step."""
    return [
        Eval(("eval_results", "run"), str(step), step, setting, {"pass_rate": Mean(rate, 0.01, 400)})
        for step, rate in rates
    ]


def test_the_newest_is_compared_with_the_run_before_at_its_step() -> None:
    """Where that has an eval of the same step and settings; else nothing is compared."""
    here = evals((100, 0.5), (200, 0.6))
    shown = results.shown(here, evals((200, 0.55), (900, 0.7)), [], 400)
    assert shown is not None
    assert shown.compared is not None
    assert round(shown.compared, 3) == 0.05
    assert (shown.newest, [row.step for row in shown.rows]) == (("0.600", "0.010", "200"), ["200", "100"])
    assert [point[:2] for point in shown.behind_points] == [(200, "50%")]
    for before in ([], evals((300, 0.5)), evals((200, 0.5), setting=SETTING._replace(temperature=0.0))):
        other = results.shown(here, before, [], 400)
        assert other is not None
        assert other.compared is None


def test_names_at_the_ends_of_lines_do_not_meet() -> None:
    """They are pushed apart."""
    means = {f"pass@{k}": Mean(0.9, 0.01, 400) for k in (1, 2, 4)}
    shown = results.shown([Eval(("eval_results", "run"), "5", 5, SETTING, means)], [], [], 10)
    assert shown is not None
    places = sorted(float(curve.label[:-1]) for curve in shown.curves)
    assert all(after - before > 7 for before, after in pairwise(places))


def test_without_evals_there_is_nothing() -> None:
    """The view leaves the strip and the table out."""
    assert results.shown([], [], [], 10) is None
