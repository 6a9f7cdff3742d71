"""Tables and paragraphs on a terminal, drawn by rich.

Paths are often longer than a terminal is wide. So the wide columns of a row are stacked at its end, each on lines of
its own. `page` imports this only where there is a terminal.
"""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from harvestd.cli.output.tables import Cell, Column, Row, Styled, plain
from harvestd.telemetry.sanitize import escaped


def paragraph(text: str, style: str) -> Text:
    """Return text that is only displayed, never interpreted as markup."""
    return Text(escaped(text), style=style)


def table(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """Return the table."""
    narrow = [index for index, column in enumerate(columns) if not column.wide]
    wide = [index for index, column in enumerate(columns) if column.wide]
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index in narrow:
        drawn.add_column(columns[index].title, justify=columns[index].justify, no_wrap=True)
    if wide:
        drawn.add_column(columns[wide[0]].title, overflow="fold")
    for row in rows:
        cells = [_text(row[index]) for index in narrow]
        if wide:
            cells.append(_stacked([(columns[index], row[index]) for index in wide]))
        drawn.add_row(*cells)
    return drawn


def _text(cell: Cell) -> Text:
    return Text(plain(cell), style=cell.style if isinstance(cell, Styled) else "")


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
