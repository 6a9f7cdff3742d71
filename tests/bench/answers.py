"""How long a person waits for commands that move nothing."""

from collections.abc import Iterator

from bench import ours, trees
from bench.boxes import Boxes
from bench.laboratory import Laboratory
from bench.table import Row, figure
from bench.timing import Measures

_LEAVES = 2000


def commands(laboratory: Laboratory) -> Iterator[Row]:
    """Measure `harvestd --help`, and `harvestd status` from a catalogue of thousands of files."""
    program = laboratory.harvestd
    told = Measures("harvestd")
    program.timed("--help")
    for _ in range(laboratory.runs):
        told.add(program.timed("--help"))
    yield figure("harvestd --help", told.series, at_most=0.3)
    with Boxes(laboratory.ram / "boxes") as boxes:
        box = boxes.start()
        trees.write_evals(box.root, laboratory.count(_LEAVES))
        trees.wait_until_settled()
        workstation = ours.Workstation(program, laboratory.ram / "ours", [box])
        workstation.once()
        known = Measures("harvestd")
        for _ in range(laboratory.runs + 1):
            known.add(workstation.status())
        del known.took[0]
        yield figure(f"harvestd status, {trees.content(box.root).files:,} files", known.series, at_most=0.7)
