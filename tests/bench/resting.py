"""What the probe costs a box on which nothing happens: memory and processor time of its Python processes there."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import ours, trees
from bench.boxes import Boxes, GpuBox
from bench.laboratory import Laboratory
from bench.table import Row, Series, figure
from bench.timing import Unmeasurable, processor_time, proportional, resident
from support.processes import descendants

_LEAVES = 5000
_WARM_UP = 40.0
"""Seconds after the last transfer: what was only needed for that has ended, manifests are written."""


def probe(laboratory: Laboratory) -> Iterator[Row]:
    """Watch the probe on a box with ten thousand files, polled as harvestd comes."""
    with ExitStack() as stack:
        box = stack.enter_context(Boxes(laboratory.ram / "boxes")).start()
        trees.write_evals(box.root, laboratory.count(_LEAVES))
        trees.wait_until_settled()
        workstation = ours.Workstation(laboratory.harvestd, laboratory.ram / "ours", [box])
        daemon = stack.enter_context(ours.Daemon(workstation))
        daemon.wait_until_all_is_here()
        time.sleep(_WARM_UP)
        pids = _probes(box)
        began, cpu = time.monotonic(), sum(map(processor_time, pids))
        sizes = [sum(map(resident, pids))]
        while time.monotonic() - began < laboratory.minutes * 60:
            time.sleep(1)
            sizes.append(sum(map(resident, pids)))
        share = 100 * (sum(map(processor_time, pids)) - cpu) / (time.monotonic() - began)
        own = sum(map(proportional, pids))
        if _probes(box) != pids:
            raise Unmeasurable("the probe's processes were not the same all the time")
        work = f"the probe on the box, idle over {trees.content(box.root).files:,} files, {laboratory.minutes:g} min"
    note = f"{len(pids)} process{'es' if len(pids) > 1 else ''}, {own:.0f} MB with what they share divided"
    yield figure(work, Series("harvestd", tuple(sizes), unit="MB resident"), at_most=30, note=note)
    yield figure(work, Series("harvestd", (share,), unit="% of a core"), at_most=0.5, note=note)


def _probes(box: GpuBox) -> list[int]:
    """Return the ids of all Python processes that were started over the box's server."""
    found = [pid for pid in descendants(box.server.pid) if Path(f"/proc/{pid}/comm").read_text().startswith("python")]
    if not found:
        raise Unmeasurable("no probe runs on the box")
    return sorted(found)
