"""Evals that two hosts made of one run or model, and evals that are made again: all figures are at home in the end."""

from pathlib import Path

import pytest

from harvestd.convention.paths import LocalPath
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import EvalWriter, RunWriter, base_evals, evals_of_run
from harvestd.store.root import DataRoot
from harvestd.store.versions import list_versions, read_version
from support.house import Moved, Workstation
from support.judging import ReportedCircumstances, Watch, comes_true, watching

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=4)
SOON = {"idle_for": "300ms", "accept_loss": ["records"]}


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> ReportedCircumstances:
    """Return what the hosts say of themselves: that nobody works there."""
    reported = ReportedCircumstances()
    reported.play(monkeypatch)
    return reported


def finished(root: Path) -> RunWriter:
    """Write a finished run."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(4)
    writer.finish()
    return writer


def evaluated(evals: EvalWriter, *steps: int | str) -> None:
    """Write whole leaves; what says which run they are of goes with them."""
    if evals.directory.name != "eval_runs":
        evals.write_config()
    for step in steps:
        evals.evaluate(step)


async def both_safe(watch: Watch) -> None:
    """Wait until both hosts are safe; says why one is not."""
    try:
        await comes_true(lambda: watch.is_safe("gpu-a") and watch.is_safe("gpu-b"), 60)
    except TimeoutError:
        raise AssertionError(watch.known("gpu-a"), watch.known("gpu-b")) from None


async def test_evals_of_one_run_on_two_hosts_both_come(
    workstation: Workstation, reported: ReportedCircumstances
) -> None:
    """What both have is here once; what differs is filed beside, under the second host's name; both are safe then."""
    first, second = workstation.add_box("gpu-a"), workstation.add_box("gpu-b")
    finished(first.root)
    same = [evals_of_run(box.root, EvalSpec(RUN, questions=5)) for box in (first, second)]
    for each in same:
        evaluated(each, 2)
    evaluated(evals_of_run(first.root, EvalSpec(RUN, questions=5)), 3)
    other = evals_of_run(second.root, EvalSpec(RUN, questions=7))
    other.evaluate(3)
    other.evaluate("final")
    async with watching(workstation.settings(verdict=SOON)) as watch:
        await both_safe(watch)
        assert reported.asked
    home = workstation.training(RUN.name).with_name("eval_results")
    place = Path(other.leaf(3).relative_to(second.root / "eval_runs"))
    for name in ("metrics.csv", "run_meta.json"):
        found = [path.read_bytes() for path in (home / place / name, *home.glob(f"on_*/{place}/{name}"))]
        assert sorted(found) == sorted((each.leaf(3) / name).read_bytes() for each in (same[0], other))
    together = {path.parent for path in home.glob("**/step_3_*/**/metrics.csv")}
    assert all((leaf / "run_meta.json").exists() for leaf in together)
    assert len(list(home.glob("**/step_2_*/**/metrics.csv"))) == 1
    assert len(list(home.glob("**/step_final_*/**/metrics.csv"))) == 1
    # Nothing is sent again by another pass, which has to compare once more.
    moved = Moved()
    results = await workstation.once(moved)
    assert [result.files for result in results.values()] == [0, 0]
    workstation.audit()


async def test_base_evals_of_two_hosts_both_come(workstation: Workstation, reported: ReportedCircumstances) -> None:
    """The second host's own figures of the same model are beside the first one's in each experiment."""
    first, second = workstation.add_box("gpu-a"), workstation.add_box("gpu-b")
    finished(first.root)
    for box, questions in ((first, 5), (second, 7)):
        evaluated(base_evals(box.root, EvalSpec(RUN, questions=questions)), "base")
    async with watching(workstation.settings(verdict=SOON)) as watch:
        await both_safe(watch)
        assert reported.asked
    leaves = [base_evals(box.root, EvalSpec(RUN, questions=5)).leaf("base") for box in (first, second)]
    home = workstation.training(RUN.name).with_name("base_eval")
    found = {path.read_bytes() for path in home.glob("**/metrics.csv")}
    assert found == {(leaf / "metrics.csv").read_bytes() for leaf in leaves}
    workstation.audit()


async def test_base_eval_that_is_made_again_comes_home(
    workstation: Workstation, reported: ReportedCircumstances
) -> None:
    """Nothing is safe before the newer figures are at home; the older ones stay as a version."""
    box = workstation.add_box()
    finished(box.root)
    evaluated(base_evals(box.root, EvalSpec(RUN, questions=5)), "base")
    async with watching(workstation.settings(verdict=SOON)) as watch:
        await comes_true(watch.is_safe, 90)
        old = (base_evals(box.root, EvalSpec(RUN)).leaf("base") / "metrics.csv").read_bytes()
        evaluated(base_evals(box.root, EvalSpec(RUN, questions=7)), "base")
        await comes_true(lambda: not watch.is_safe(), 90)
        await comes_true(watch.is_safe, 90)
        assert reported.asked
    (here,) = workstation.training(RUN.name).with_name("base_eval").glob("**/metrics.csv")
    new = (base_evals(box.root, EvalSpec(RUN)).leaf("base") / "metrics.csv").read_bytes()
    assert here.read_bytes() == new != old
    with DataRoot.open(workstation.data) as root:
        path = LocalPath(here.relative_to(workstation.data).parts)
        assert [read_version(root, path, each.stamp) for each in list_versions(root, path)] == [old]
    workstation.audit()
