"""Tables for a terminal, and as plain text for programs and files.

Off a terminal every row is one line and every column is aligned, which is done here. On a terminal `rich_tables` draws
them.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from harvestd.convention.structs import Immutable
from harvestd.telemetry.sanitize import escaped


class Column(Immutable):
    """One column."""

    title: str
    justify: Literal["left", "right"] = "left"
    wide: bool = False
    """Holds paths or sentences: on a terminal it shares the last column with the other wide ones."""
    mark: str = ""
    """Text before a value of a wide column that is stacked below another, such as an arrow."""


class Styled(Immutable):
    """A value with a style of rich's, such as "green"."""

    text: str
    style: str


Cell = str | Styled
Row = Sequence[Cell]

_GAP: Final = "  "


def off_terminal(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table's lines, without borders and without trailing blanks."""
    lines = [[column.title for column in columns], *([plain(cell) for cell in row] for row in rows)]
    widths = [max(_width(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = (_padded(text, width, column) for text, width, column in zip(line, widths, columns, strict=True))
        yield _GAP.join(padded).rstrip()


def _padded(text: str, width: int, column: Column) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if column.justify == "right" else text + blanks


def _width(text: str) -> int:
    """Return the number of terminal columns of `text`."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415  (its tables of characters; most names need none)

    return cell_len(text)


def plain(cell: Cell) -> str:
    """Return a cell's text, escaped."""
    return escaped(cell.text if isinstance(cell, Styled) else cell)
