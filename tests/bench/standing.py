"""A daemon that stands: new files appear on its box, or nothing changes at all; beside rsync over a ControlMaster."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import ours, peers, trees
from bench.boxes import Boxes, GpuBox
from bench.delaying import Carried
from bench.distance import Distance
from bench.laboratory import Laboratory
from bench.table import Row, Series, figure, speed, times
from bench.timing import Measures, Took, Unmeasurable, timed, wait_until_quiet

_FAR = 50.0
"""Milliseconds."""
_NEW_LEAVES = 2000
_BESIDE_LEAVES = 16_000
"""Evals that are there already when new ones appear."""
_STANDING_LEAVES = 5000
_PASSES = 5
"""At least: that no heartbeat falls into one of them."""
_POLLED = "host.polled"
_DEADLINE = 300.0


@dataclass(frozen=True, slots=True)
class _Standing:
    """A daemon that has everything of its box, and an open connection of OpenSSH's beside it."""

    box: GpuBox
    line: Distance
    port: int
    """Of the box itself."""
    daemon: ours.Daemon
    workstation: ours.Workstation
    mirror: Path
    master: peers.ControlMaster

    @property
    def carried(self) -> Carried:
        """What went over the line until now."""
        return self.line.carried()[self.port]

    def rsync(self) -> Took:
        """Bring the mirror up to date."""
        return timed(peers.rsync(self.box, self.mirror, control=self.master.path), deadline=_DEADLINE)


def new_files(laboratory: Laboratory) -> Iterator[Row]:
    """Measure from the moment when thousands of files appear until the last one is published."""
    leaves = laboratory.count(_NEW_LEAVES)
    harvestd, rsync = Measures("harvestd"), Measures("rsync -a, ControlMaster")
    with ExitStack() as stack:
        box = stack.enter_context(Boxes(laboratory.ram / "boxes")).start()
        trees.write_evals(box.root, laboratory.count(_BESIDE_LEAVES), first_run=laboratory.runs)
        for run in range(laboratory.runs):
            trees.write_run(box.root, run)
            # It says where the run's evals lie at home.
            trees.write_leaf(box.root / "eval_runs" / trees.leaf(run, 1, "math"), run)
        trees.wait_until_settled()
        standing = _stand(stack, laboratory, box)
        beside = trees.content(box.root).files
        for run in range(laboratory.runs):
            prepared = box.root / "prepared"
            for step in range(leaves):
                trees.write_leaf(prepared / trees.leaf(run, step), step)
            wait_until_quiet(standing.daemon.pid, _DEADLINE)
            harvestd.add(_appearance(standing, run, prepared))
            rsync.add(standing.rsync())
            _compare(standing, run)
        work = f"warm daemon, {2 * leaves:,} files appear beside {beside:,}, {_FAR:g} ms"
        yield times(work, harvestd.series, rsync.series, at_most=1.0)


def unchanged(laboratory: Laboratory) -> Iterator[Row]:
    """Measure a pass in which nothing changed: its time, its round trips and its bytes on the wire."""
    harvestd, rsync = Measures("harvestd"), Measures("rsync -a, ControlMaster")
    sizes = []
    with ExitStack() as stack:
        box = stack.enter_context(Boxes(laboratory.ram / "boxes")).start()
        trees.write_evals(box.root, laboratory.count(_STANDING_LEAVES))
        trees.wait_until_settled()
        # Only the looks that are asked for.
        standing = _stand(stack, laboratory, box, poll={"interval": "1h"})
        for _ in range(max(laboratory.runs, _PASSES)):
            wait_until_quiet(standing.daemon.pid, _DEADLINE)
            before, passes = standing.carried, len(standing.daemon.events(_POLLED))
            cpu = standing.daemon.processor_time()
            standing.daemon.look_now()
            event = standing.daemon.wait_for(_POLLED, passes)
            harvestd.add(Took(float(event["duration_seconds"]), standing.daemon.processor_time() - cpu))
            after = standing.carried
            sizes.append(after.to_box + after.from_box - before.to_box - before.from_box)
            rsync.add(standing.rsync())
        work = f"unchanged pass, {trees.content(box.root).files:,} files, {_FAR:g} ms"
    yield speed(work, harvestd.series, rsync.series, at_least=8)
    # Each one takes the line's delay at least, so that there can't have been more.
    trips = tuple(float(took.seconds // (_FAR / 1000)) for took in harvestd.took)
    yield figure(work, Series("harvestd", trips, unit="round trips"), at_most=2)
    yield figure(work, Series("harvestd", (float(min(sizes)),), unit="bytes"), at_most=1024, note="the smallest of all")


def _stand(stack: ExitStack, laboratory: Laboratory, box: GpuBox, **sections: dict[str, object]) -> _Standing:
    line = stack.enter_context(Distance([box.port], rtt=_FAR))
    away = box.through(line.port(box.port))
    workstation = ours.Workstation(laboratory.harvestd, laboratory.ram / "ours", [away], **sections)
    mirror = laboratory.ram / "rsync"
    mirror.mkdir()
    daemon = stack.enter_context(ours.Daemon(workstation))
    master = stack.enter_context(peers.ControlMaster(away, laboratory.ram))
    standing = _Standing(away, line, box.port, daemon, workstation, mirror, master)
    daemon.wait_until_all_is_here()
    wait_until_quiet(daemon.pid, _DEADLINE)
    standing.rsync()
    return standing


def _appearance(standing: _Standing, run: int, prepared: Path) -> Took:
    """Let the evals of a run appear all at once; gives what it took until all are at home."""
    name = trees.leaf(run, 0).parts[0]
    evals = standing.workstation.evals_of(run, "math")
    markers = [evals / path.relative_to(prepared) for path in prepared.glob(f"{name}/**/run_meta.json")]
    cpu = standing.daemon.processor_time()
    started = time.monotonic()
    (prepared / name).rename(standing.box.root / "eval_runs" / name)
    published = ours.wait_for_files(markers)
    return Took(published - started, standing.daemon.processor_time() - cpu)


def _compare(standing: _Standing, run: int) -> None:
    """Raise `Unmeasurable` where a run's evals are not whole here and in the mirror; then take them off the box."""
    name = trees.leaf(run, 0).parts[0]
    there = standing.box.root / "eval_runs" / name
    wanted = trees.content(there)
    for copy in (standing.workstation.evals_of(run, "math") / name, standing.mirror / "eval_runs" / name):
        if trees.content(copy) != wanted:
            raise Unmeasurable(f"{copy} has {trees.content(copy)}, the box has {wanted}")
    # The next ones are to be all that rsync has to look at, too.
    trees.remove(there)
