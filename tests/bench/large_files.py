"""One large file: a finished run's adapter, near and far, beside scp with its default cipher and rsync."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import ours, peers, trees
from bench.boxes import Boxes, GpuBox
from bench.distance import Distance
from bench.laboratory import Laboratory
from bench.table import Row, Series, figure, speed
from bench.timing import Measures, Took, Unmeasurable, timed

_NEAR_SIZE = 10**9
_FAR_SIZE = 512 * 1024 * 1024
_FAR, _RATE = 100.0, 1000.0
"""Milliseconds, and megabits a second."""
_DEADLINE = 300.0


def near(laboratory: Laboratory) -> Iterator[Row]:
    """Measure one file without delay, Python's start included."""
    size = laboratory.count(_NEAR_SIZE)
    with Boxes(laboratory.ram / "boxes") as boxes:
        box = boxes.start()
        yield from _compared(laboratory, box, size, f"one file of {size / 1e6:,.0f} MB, no delay", at_least=0.9)


def far(laboratory: Laboratory) -> Iterator[Row]:
    """Measure one file over a long and fast line with stock TCP buffers."""
    size = laboratory.count(_FAR_SIZE)
    with Boxes(laboratory.ram / "boxes") as boxes:
        box = boxes.start()
        with Distance([box.port], rtt=_FAR, rate=_RATE) as line:
            away = box.through(line.port(box.port))
            work = f"one file of {size / 1e6:,.0f} MB, {_FAR:g} ms, {_RATE:g} Mbit/s"
            yield from _compared(laboratory, away, size, work, at_least=4)


def _compared(laboratory: Laboratory, box: GpuBox, size: int, work: str, *, at_least: float) -> Iterator[Row]:
    trees.write_run(box.root, 0)
    adapter = trees.write_checkpoint(box.root, 0, size)
    trees.wait_until_settled()
    workstation = ours.Workstation(laboratory.harvestd, laboratory.ram / "ours", [box])
    harvestd, scp, rsync = Measures("harvestd"), Measures("scp"), Measures("rsync -a")
    mirror = laboratory.ram / "mirror"
    for _ in range(laboratory.runs):
        workstation.clear()
        harvestd.add(workstation.once())
        workstation.clear()
        scp.add(_copy(peers.scp(box, adapter, mirror / adapter.name), adapter, mirror))
        rsync.add(_copy(peers.rsync(box, mirror), adapter, mirror))
    yield speed(work, harvestd.series, scp.series, at_least=at_least)
    yield speed(work, harvestd.series, rsync.series)
    yield figure(work, _rates(harvestd.series, size), note=", ".join(_told(each.series, size) for each in (scp, rsync)))


def _copy(command: Sequence[str], adapter: Path, mirror: Path) -> Took:
    trees.remove(mirror)
    mirror.mkdir()
    took = timed(command, deadline=_DEADLINE)
    copied = next(mirror.rglob(adapter.name), None)
    if not took.cut_off and (copied is None or copied.stat().st_size != adapter.stat().st_size):
        raise Unmeasurable(f"{command[0]} did not bring {adapter.name} as it is")
    trees.remove(mirror)
    return took


def _rates(series: Series, size: int) -> Series:
    return Series(series.who, tuple(size / 1e6 / value for value in series.values), unit="MB/s")


def _told(series: Series, size: int) -> str:
    return f"{series.who} {size / 1e6 / series.median:.0f} MB/s"
