"""A host that has thousands of files, and a daemon that has all of them: where measurements of a change begin."""

from contextlib import ExitStack
from dataclasses import dataclass

from bench import ours, trees
from bench.boxes import Boxes, GpuBox
from bench.laboratory import Laboratory
from bench.timing import wait_until_quiet

_TIMEOUT = 1200.0
"""Seconds for the first pass over the largest host."""


@dataclass(frozen=True, slots=True)
class Grown:
    """A host whose files are all here."""

    box: GpuBox
    daemon: ours.Daemon
    files: int
    """How many there were when the measurement began, without those of `runs`."""
    runs: tuple[int, ...]
    """The numbers of runs of which only one eval, of "math", is there: further ones are to come."""

    @property
    def workstation(self) -> ours.Workstation:
        """The workstation of the daemon."""
        return self.daemon.workstation


def grown(stack: ExitStack, laboratory: Laboratory, files: int, *, runs: int = 0) -> Grown:
    """Start a host of about `files` files and `runs` runs of which evals are to come, and a daemon that has them."""
    place = laboratory.ram / f"{files}"
    box = stack.enter_context(Boxes(place / "boxes")).start()
    leaves = laboratory.count(files // 2) if files else 0
    trees.write_evals(box.root, leaves)
    written = trees.content(box.root).files
    first = -(-leaves // trees.LEAVES_PER_RUN)
    begun = tuple(range(first, first + runs))
    for run in begun:
        trees.write_run(box.root, run)
        # It says where the run's evals lie at home.
        trees.write_leaf(box.root / "eval_runs" / trees.leaf(run, 1, "math"), run)
    workstation = ours.Workstation(laboratory.harvestd, place / "ours", [box])
    daemon = stack.enter_context(ours.Daemon(workstation))
    daemon.wait_until_all_is_here(_TIMEOUT)
    wait_until_quiet(daemon.pid, _TIMEOUT, quiet=3.0)
    return Grown(box, daemon, written, begun)
