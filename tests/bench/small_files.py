"""Thousands of small files at once, from one box: a first pass, near and far, into RAM and onto a disk."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import ours, peers, trees
from bench.boxes import Boxes, GpuBox
from bench.distance import Distance
from bench.laboratory import Laboratory, is_disk
from bench.table import Row, Series, times
from bench.timing import Measures, Took, Unmeasurable, timed

_LEAVES = 2000
_FAR = 50.0
"""Milliseconds."""
_DEADLINE = 300.0
Command = Callable[[GpuBox, Path], list[str]]


def far(laboratory: Laboratory) -> Iterator[Row]:
    """Measure a first pass at 50 ms, Python's start included; the slow peers get one try each."""
    with Boxes(laboratory.ram / "boxes") as boxes:
        box = _box(boxes, laboratory)
        with Distance([box.port], rtt=_FAR) as line:
            away = box.through(line.port(box.port))
            harvestd, rsync = _against_rsync(laboratory, away, laboratory.ram)
            work = f"cold once, {_files(box)}, {_FAR:g} ms"
            yield times(work, harvestd, rsync, at_most=1.0)
            yield from _slow_peers(laboratory, away, work, harvestd)


def near(laboratory: Laboratory) -> Iterator[Row]:
    """Measure a first pass without delay, with and without Python's start."""
    with Boxes(laboratory.ram / "boxes") as boxes:
        box = _box(boxes, laboratory)
        imports = Measures("Python's start and imports")
        harvestd, rsync = _against_rsync(
            laboratory, box, laboratory.ram, between=lambda: imports.add(laboratory.harvestd.imports())
        )
        work = f"cold once, {_files(box)}, no delay"
        start = imports.series.median
        working = Series("harvestd", tuple(value - start for value in harvestd.values))
        yield times(work, working, rsync, at_most=1.2, note=f"without {start:.2f} s of start and imports")
        yield times(work, harvestd, rsync, at_most=2.0, note="with them")
        yield from _slow_peers(laboratory, box, work, harvestd)


def onto_disk(laboratory: Laboratory) -> Iterator[Row]:
    """Measure a first pass near and far onto a disk, everything synced."""
    if not is_disk(laboratory.disk):
        raise Unmeasurable(f"{laboratory.disk} does not lie on a disk: name one with --disk")
    with Boxes(laboratory.ram / "boxes") as boxes:
        box = _box(boxes, laboratory)
        for rtt in (0.0, _FAR):
            with Distance([box.port], rtt=rtt) as line:
                away = box.through(line.port(box.port)) if rtt else box
                harvestd, rsync = _against_rsync(laboratory, away, laboratory.disk, "--fsync")
                delay = f"{rtt:g} ms" if rtt else "no delay"
                yield times(f"cold once, {_files(box)}, {delay}, onto disk", harvestd, rsync)


def _box(boxes: Boxes, laboratory: Laboratory) -> GpuBox:
    box = boxes.start()
    trees.write_evals(box.root, laboratory.count(_LEAVES))
    trees.wait_until_settled()
    return box


def _files(box: GpuBox) -> str:
    return f"{trees.content(box.root).files:,} files"


def _nothing() -> None:
    """Measure nothing else."""


def _against_rsync(
    laboratory: Laboratory, box: GpuBox, where: Path, *extra: str, between: Callable[[], None] = _nothing
) -> tuple[Series, Series]:
    """Measure us and rsync (and what `between` measures) in turns, each time from nothing."""
    workstation = ours.Workstation(laboratory.harvestd, where / "ours", [box])
    mirror = where / "rsync"
    harvestd, rsync = Measures("harvestd"), Measures(" ".join(("rsync -a", *extra)))
    _pass(workstation)
    for _ in range(laboratory.runs):
        harvestd.add(_pass(workstation))
        between()
        rsync.add(_copy(peers.rsync(box, mirror, *extra), box, mirror, _DEADLINE))
    return harvestd.series, rsync.series


def _pass(workstation: ours.Workstation) -> Took:
    workstation.clear()
    took = workstation.once()
    workstation.clear()
    return took


def _copy(command: Sequence[str], box: GpuBox, mirror: Path, deadline: float) -> Took:
    """Time a peer, from nothing; raises `Unmeasurable` where it ended without having everything."""
    trees.remove(mirror)
    mirror.mkdir(parents=True)
    took = timed(command, deadline=deadline)
    if not took.cut_off and trees.content(mirror) != trees.content(box.root):
        raise Unmeasurable(f"{command[0]} brought {trees.content(mirror)}, the box has {trees.content(box.root)}")
    trees.remove(mirror)
    return took


def _slow_peers(laboratory: Laboratory, box: GpuBox, work: str, harvestd: Series) -> Iterator[Row]:
    commands: dict[str, Command] = {
        "scp": lambda box, target: peers.scp(box, box.root, target),
        "lftp": peers.lftp,
        "rclone": peers.rclone,
    }
    for name, command in commands.items():
        if peers.has(name):
            mirror = laboratory.ram / name
            measures = Measures(name)
            measures.add(_copy(command(box, mirror), box, mirror, laboratory.timeout))
            yield times(work, harvestd, measures.series, note="one run of the peer")
