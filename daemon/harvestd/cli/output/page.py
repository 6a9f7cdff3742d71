"""The answer on standard output: one JSON document, or a page of lines and tables, drawn by rich on a terminal.

The answer on standard output: one JSON document, or a page of lines and tables. A page on a terminal has colours and
fits its width; off a terminal it is plain aligned text, one row a line, nothing cut. All text is escaped here and
never interpreted as markup, so that a name from a host is only displayed.

Tables for a terminal, and as plain text for programs and files. Off a terminal every row is one line and every column
is aligned, which is done here. On a terminal `rich_output` draws them.

Create a rich console for a stream that is a terminal, and none for others. rich takes a twentieth of a second to
import. Scripts, services and timers avoid that: off a terminal rich is not used.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal, TextIO

from harvestd.cli.errors import answering
from harvestd.convention.structs import Immutable
from harvestd.telemetry.sanitize import escaped

if TYPE_CHECKING:
    from rich.console import Console


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


_SAYS_SO: Final = ("FORCE_COLOR", "TTY_COMPATIBLE")
"""Variables that make rich treat a stream as a terminal which is none, such as the log of a CI job."""


def console_on(stream: TextIO) -> "Console | None":
    """Return the console for `stream`; None where it is no terminal. Text is never interpreted as markup."""
    if not stream.isatty() and not any(os.environ.get(name) for name in _SAYS_SO):
        return None
    from rich.console import Console  # noqa: PLC0415  (only a terminal needs it; see above)

    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    return console if console.is_terminal else None


def print_json(document: object) -> None:
    """Print one JSON document in ASCII, whatever the locale, so that every name survives."""
    _write(json.dumps(document, indent=2, allow_nan=False))


def print_text(text: str) -> None:
    """Print text that has its own form, such as CSV; each line of it ends in a line break."""
    for line in text.splitlines():
        _write(line)


class Page:
    """A page on standard output; created once by a command that answers people."""

    def __init__(self) -> None:
        self._console = console_on(sys.stdout)
        self._empty = True

    @property
    def width(self) -> int | None:
        """The number of columns of the terminal; None off a terminal, where no line is too long."""
        return None if self._console is None else self._console.width

    def line(self, text: str, style: str = "") -> None:
        """Print one paragraph, not wrapped."""
        self._print(text, style)

    def heading(self, text: str) -> None:
        """Begin a section of the page."""
        if not self._empty:
            self._print("", "")
        self._print(text, "bold")

    def table(self, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Print a table; nothing where there are no rows."""
        found = list(rows)
        if not found:
            return
        self._empty = False
        if self._console is None:
            for line in off_terminal(columns, found):
                _write(line)
        else:
            from harvestd.cli.output import rich_output  # noqa: PLC0415  (rich: only a terminal needs it)

            self._console.print(rich_output.table(columns, found))

    def _print(self, text: str, style: str) -> None:
        self._empty = False
        if self._console is None:
            _write(escaped(text))
        else:
            from harvestd.cli.output import rich_output  # noqa: PLC0415  (the same)

            self._console.print(rich_output.paragraph(text, style), soft_wrap=True)


def _write(line: str) -> None:
    # Not every locale can represent every name: an escaped name is better than an incomplete answer.
    encoding = sys.stdout.encoding or "utf-8"
    with answering():
        sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
