"""The answer on standard output: one JSON document, or a page of lines and tables.

A page on a terminal has colours and fits its width; off a terminal it is plain aligned text, one row a line, nothing
cut. All text is escaped here and never interpreted as markup, so that a name from a host is only displayed (promise
I6).
"""

import json
import sys
from collections.abc import Iterable, Sequence

from harvestd.cli.errors import answering
from harvestd.cli.output import tables
from harvestd.cli.output.tables import Column, Row
from harvestd.cli.output.terminal import console_on
from harvestd.telemetry.sanitize import escaped


def print_json(document: object) -> None:
    """Print one JSON document in ASCII, whatever the locale, so that every name survives."""
    _write(json.dumps(document, indent=2, allow_nan=False))


class Page:
    """A page on standard output; created once by a command that answers people."""

    def __init__(self) -> None:
        self._console = console_on(sys.stdout)
        self._empty = True

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
            for line in tables.off_terminal(columns, found):
                _write(line)
        else:
            from harvestd.cli.output import rich_tables  # noqa: PLC0415  (rich: only a terminal needs it)

            self._console.print(rich_tables.table(columns, found))

    def _print(self, text: str, style: str) -> None:
        self._empty = False
        if self._console is None:
            _write(escaped(text))
        else:
            from harvestd.cli.output import rich_tables  # noqa: PLC0415  (the same)

            self._console.print(rich_tables.paragraph(text, style), soft_wrap=True)


def _write(line: str) -> None:
    # Not every locale can represent every name: an escaped name is better than an incomplete answer.
    encoding = sys.stdout.encoding or "utf-8"
    with answering():
        sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
