"""How the analysis scripts are called, what they print, and how their pictures look.

The analysis scripts share it, and it needs matplotlib. A picture takes the place of an older one
whole, and only when there is a new one.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Callable

from harvestd.report.scripts.experiment import Experiment, plain, read_experiment

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
except ImportError:
    sys.exit("This script draws with matplotlib, which is not installed here: python -m pip install matplotlib")

_DPI = 200
_LONGEST_PATH = 4096
_WIDTH = 10.0
_TITLE_HEIGHT = 0.95
_NOTE_HEIGHT = 0.28
_LETTERS_OF_TITLE = 56
"""What fits above a picture in the title's size."""
_WIDEST_NOTE = 108


class NothingToDrawError(Exception):
    """There is no picture yet; the text says why."""


def main(picture: str, summary: str, report: Callable[[Experiment], Iterator[str | Figure]]) -> int:
    """Run one script from its command line; gives its exit code, which is 0 where there is nothing to draw, too.

    `report` gives lines to print and the figure that becomes `picture`; it may raise `NothingToDrawError`.
    """
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("experiment", nargs="?", type=Path, default=here.parent, help="default: the one it stands in")
    parser.add_argument("--output", type=Path, default=here, metavar="DIR", help="default: beside this script")
    arguments = parser.parse_args()
    for directory in (arguments.experiment, arguments.output):
        if not directory.is_dir():
            parser.error(f"there is no directory {directory}")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    # Nobody's matplotlibrc, whatever directory this is called from.
    mpl.rcdefaults()
    _set_style()
    try:
        for result in report(read_experiment(arguments.experiment.resolve())):
            print(_save(result, arguments.output / picture) if isinstance(result, Figure) else result)
    except NothingToDrawError as e:
        print(f"Nothing to draw: {e}")
    return 0


def _set_style() -> None:
    mpl.rcParams.update(
        {
            "font.size": 13,
            "axes.titlesize": 13,
            "axes.titlelocation": "left",
            "axes.grid": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#e4e4e4",
            "legend.fontsize": 12,
            "legend.frameon": False,
            "lines.linewidth": 2,
            "lines.markersize": 6,
            "errorbar.capsize": 3,
            # A name from a box is text, whatever signs it has.
            "text.parse_math": False,
        }
    )


def _save(figure: Figure, path: Path) -> str:
    """Write the picture whole or not at all; one that is the same as before is not written again."""
    drawn = io.BytesIO()
    # A letter that no font has is drawn as a box.
    warnings.filterwarnings("ignore", message="Glyph .* missing from")
    figure.savefig(drawn, format="png", dpi=_DPI, metadata={"Software": None})
    shown = plain(str(path), _LONGEST_PATH)
    if path.is_file() and path.read_bytes() == drawn.getvalue():
        return f"{shown} is as it was."
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(drawn.getvalue())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return f"Wrote {shown}."


def sheet(experiment: Experiment, heading: str, height: float, notes: Sequence[str] = ()) -> Figure:
    """Return an empty picture of `height` inches with its title above and its `notes` below, each a line."""
    lines = [note if len(note) <= _WIDEST_NOTE else note[: _WIDEST_NOTE - 1] + "…" for note in notes]
    foot = 0.1 + _NOTE_HEIGHT * len(lines)
    whole = height + _TITLE_HEIGHT + foot
    engine = ConstrainedLayoutEngine(rect=(0, foot / whole, 1, height / whole), h_pad=0.08, w_pad=0.08)
    figure = Figure(figsize=(_WIDTH, whole), layout=engine)
    size = min(17.0, 17.0 * _LETTERS_OF_TITLE / max(1, len(experiment.name)))
    figure.text(0.012, 1 - 0.12 / whole, experiment.name, size=size, weight="bold", va="top")
    figure.text(0.012, 1 - 0.52 / whole, heading, size=14, color="#444444", va="top")
    figure.text(0.012, 0.08 / whole, "\n".join(lines), size=11, color="#444444", va="bottom", linespacing=1.25)
    return figure


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a text table; the first column is words, the others are figures."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(cells[0]))]
    for row in cells:
        yield "  ".join(
            cell.ljust(widths[n]) if n == 0 else cell.rjust(widths[n]) for n, cell in enumerate(row)
        ).rstrip()
