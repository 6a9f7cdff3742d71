"""Render text of hosts and operators in Markdown: always a code span, displayed and never interpreted (promise I6)."""

import re
from typing import Final

from harvestd.telemetry.sanitize import escaped

LONGEST: Final = 300
"""Characters that are shown of one text."""
_BACKTICKS: Final = re.compile("`+")


def code(text: str) -> str:
    """Return `text` as a code span on one line: no HTML, link, control character, or end of harvestd's comments."""
    shown = escaped(text)
    if len(shown) > LONGEST:
        shown = f"{shown[:LONGEST]}…"
    # Programs that read the file as bytes, as harvestd does, ignore code spans: there must be no comment in it.
    shown = shown.replace("<!--", "<! --").replace("-->", "-- >")
    fence = "`" * (1 + max(map(len, _BACKTICKS.findall(shown)), default=0))
    edge = " " if len(fence) > 1 or not shown.strip() else ""
    return f"{fence}{edge}{shown or ' '}{edge}{fence}"


def cell(text: str) -> str:
    """Return `text` as a code span in a table, where even within one a bar would end the cell."""
    return code(text).replace("|", r"\|")


def row(cells: list[str]) -> str:
    """Return one line of a table; its cells are Markdown already."""
    return f"| {' | '.join(cells)} |"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table."""
    return [row(head), row(["---"] * len(head)), *map(row, rows)]
