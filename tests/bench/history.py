"""What files of past experiments cost a daemon that starts: time until its first scan, and memory."""

from collections.abc import Iterator

from bench import ours, trees
from bench.boxes import Boxes
from bench.laboratory import Laboratory
from bench.past import add_past_experiments
from bench.table import Row, Series, figure
from bench.timing import Unmeasurable, resident, wait_until_quiet

_BARS = {100_000: (0.3, 20.0), 1_000_000: (3.0, 200.0)}
"""By files: the most seconds, and MB, above an empty catalogue."""
_SCANNED = "host.polled"
_TIMEOUT = 300.0
Start = tuple[float, float]
"""Seconds from the start to the first scan, and MB resident once all is quiet."""


def history(laboratory: Laboratory) -> Iterator[Row]:
    """Measure starts with more and more files of past experiments in the catalogue."""
    with Boxes(laboratory.ram / "boxes") as boxes:
        box = boxes.start()
        trees.write_evals(box.root, trees.LEAVES_PER_RUN)
        trees.wait_until_settled()
        workstation = ours.Workstation(laboratory.harvestd, laboratory.ram / "ours", [box])
        workstation.once()
        empty_seconds, empty_size = _medians(_starts(laboratory, workstation))
        each = trees.content(box.root).files
        added = 0
        for files, (most_seconds, most_size) in _BARS.items():
            experiments = range(added, max(1, round(laboratory.scale * files / each)))
            if add_past_experiments(workstation.home, experiments) != each:
                raise Unmeasurable(f"the catalogue has other files than {box.name}")
            added = experiments.stop
            starts = _starts(laboratory, workstation)
            work = f"start beside {added * each:,} files of past experiments"
            seconds = Series("harvestd", tuple(seconds - empty_seconds for seconds, _ in starts))
            sizes = Series("harvestd", tuple(size - empty_size for _, size in starts), unit="MB resident")
            note = f"above {empty_seconds:.2f} s with an empty catalogue"
            yield figure(f"{work}: to the first scan", seconds, at_most=most_seconds, note=note)
            note = f"above {empty_size:.0f} MB with an empty catalogue"
            yield figure(f"{work}: memory", sizes, at_most=most_size, note=note)


def _starts(laboratory: Laboratory, workstation: ours.Workstation) -> list[Start]:
    return [_start(workstation) for _ in range(laboratory.runs)]


def _start(workstation: ours.Workstation) -> Start:
    with ours.Daemon(workstation) as daemon:
        daemon.wait_for(_SCANNED, 0, _TIMEOUT)
        seconds = daemon.age()
        wait_until_quiet(daemon.pid, _TIMEOUT)
        return seconds, resident(daemon.pid)


def _medians(starts: list[Start]) -> Start:
    seconds, sizes = (Series("harvestd", values) for values in zip(*starts, strict=True))
    return seconds.median, sizes.median
