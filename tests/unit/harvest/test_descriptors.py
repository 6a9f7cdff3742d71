"""How many files are open at once: the limit that is raised, and what of it batches, groups and logs may hold."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath, RemotePath
from harvestd.convention.scan.model import Source
from harvestd.convention.scan.snapshot import Tree, TreeKind, Version
from harvestd.harvest.budgets import Descriptors, raise_limit, slices_of, staged_files
from harvestd.harvest.transfer.open_files import OpenFiles
from harvestd.planning.plan import FetchFile, FetchGroup, Target
from harvestd.store.root import DataRoot

TREE = Tree("/data", "eval_runs", TreeKind.EVAL)


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """Provide this process's limits, which are as before after the test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_to_the_hard_one(limits: tuple[int, int]) -> None:
    """A process that begins with few descriptors takes all that it may have."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    raised = raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (raised, limits[1])
    assert raised == min(limits[1], 1_048_576) or limits[1] == resource.RLIM_INFINITY
    assert raise_limit() == raised


def test_all_together_stay_below_the_limit() -> None:
    """What batches, large groups and logs may hold leaves an eighth for connections and the catalogue."""
    for limit in (64, 256, 1024, 524_288):
        budget = Descriptors(limit)
        assert 2 * budget.batch + budget.bulk.total + budget.most_logs <= limit * 7 // 8 + 1


def test_hosts_share_the_descriptors_of_logs(tmp_path: Path) -> None:
    """The first hosts have as many as they want; when all are taken each further one has one, until some are left."""
    with DataRoot.open(tmp_path) as root:
        budget = Descriptors(512)
        hosts = [OpenFiles(root, budget) for _ in range(4)]
        assert [each.allowed(40) for each in hosts] == [32, 32, 1, 1]
        hosts[0].close_all()
        assert hosts[2].allowed(5) == 5
        assert hosts[3].allowed(40) == 26 + 1
        for each in hosts:
            each.close_all()
        assert budget.open_logs == 0


def file(name: str, experiments: list[str | None]) -> FetchFile:
    """Return a file of a leaf with a target in each of these experiments."""
    source = Source(TREE, RemotePath(("leaf", name)), Version(1, 1))
    targets = tuple(Target(LocalPath((each or "_unfiled", "leaf", name)), each) for each in experiments)
    return FetchFile(source, Kind.METRICS, targets, "", marker=name == "run_meta.json")


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100, 299, 300, 1_000])
def test_slices_hold_all_targets_once(most: int) -> None:
    """However many experiments an eval belongs to: each is in one slice, with all of its files, the marker last."""
    experiments: list[str | None] = [None, *(f"e{number}" for number in range(99))]
    names = ("eval_config.yaml", "metrics.csv", "run_meta.json")
    # One of them is in its place already.
    group = FetchGroup(
        "/data/leaf", tuple(file(n, experiments[1:] if n == "metrics.csv" else experiments) for n in names)
    )
    slices = list(slices_of(group, most))
    found = [target.path for each in slices for one in each.files for target in one.targets]
    assert sorted(found) == sorted(target.path for one in group.files for target in one.targets)
    assert len(found) == len(set(found)) == staged_files(group)
    seen: set[str | None] = set()
    for each in slices:
        assert staged_files(each) <= max(most, len(names))
        mine = {target.experiment for one in each.files for target in one.targets}
        assert not mine & seen
        seen |= mine
        assert each.files[-1].marker
    if most >= staged_files(group):
        assert slices == [group]
