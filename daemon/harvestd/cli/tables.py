"""Tables for two kinds of reader: a person at a terminal, and a program or a file.

Paths here are often longer than a terminal is wide. So on one, the wide columns of a row stand below each other at its
end, each on lines of its own; off one, every row is one line and every column is aligned.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from harvestd.telemetry.escaping import escaped


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    title: str
    justify: Literal["left", "right"] = "left"
    wide: bool = False
    """Holds paths or sentences: on a terminal it shares the last column with the other wide ones."""
    mark: str = ""
    """What stands before a value of a wide column below another, such as an arrow."""


@dataclass(frozen=True, slots=True)
class Styled:
    """A value with a style of rich's, such as "green"."""

    text: str
    style: str


Cell = str | Styled
Row = Sequence[Cell]

_GAP: Final = "  "


def on_terminal(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """Give the table for a terminal."""
    narrow = [index for index, column in enumerate(columns) if not column.wide]
    wide = [index for index, column in enumerate(columns) if column.wide]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index in narrow:
        table.add_column(columns[index].title, justify=columns[index].justify, no_wrap=True)
    if wide:
        table.add_column(columns[wide[0]].title, overflow="fold")
    for row in rows:
        cells = [_text(row[index]) for index in narrow]
        if wide:
            cells.append(_stacked([(columns[index], row[index]) for index in wide]))
        table.add_row(*cells)
    return table


def off_terminal(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[str]:
    """Give the table's lines, without drawing, and without blanks at their ends."""
    lines = [[column.title for column in columns], *([_plain(cell) for cell in row] for row in rows)]
    widths = [max(cell_len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = (_padded(text, width, column) for text, width, column in zip(line, widths, columns, strict=True))
        yield _GAP.join(padded).rstrip()


def _padded(text: str, width: int, column: Column) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if column.justify == "right" else text + blanks


def _plain(cell: Cell) -> str:
    return escaped(cell.text if isinstance(cell, Styled) else cell)


def _text(cell: Cell) -> Text:
    return Text(_plain(cell), style=cell.style if isinstance(cell, Styled) else "")


def _stacked(cells: Sequence[tuple[Column, Cell]]) -> Text:
    stack = Text()
    for column, cell in cells:
        text = _text(cell)
        if not text:
            continue
        if stack:
            stack.append(f"\n{column.mark}")
        stack.append_text(text)
    return stack
