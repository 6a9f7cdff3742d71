"""Tables on a terminal and off one."""

import io

from rich.console import Console

from harvestd.cli.output import rich_output
from harvestd.cli.output.page import Column, Row, Styled, off_terminal

COLUMNS = (Column("SIZE", "right"), Column("HOST"), Column("FROM", wide=True), Column("TO", wide=True, mark="→ "))
ROWS: list[Row] = [
    ("1.0 KiB", "gpu-a", "/home/ubuntu/a", "there/a"),
    ("12 B", Styled("gpu-long", "red"), "/b", ""),
]


def shown(rows: list[Row], width: int = 80) -> list[str]:
    """Return the lines of the table on a terminal without colours."""
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(rich_output.table(COLUMNS, rows))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_off_a_terminal_a_row_is_a_line() -> None:
    """Off a terminal each row is one aligned line, whatever its length, without blanks at its end."""
    assert list(off_terminal(COLUMNS, ROWS)) == [
        "   SIZE  HOST      FROM            TO",
        "1.0 KiB  gpu-a     /home/ubuntu/a  there/a",
        "   12 B  gpu-long  /b",
    ]


def test_off_a_terminal_nothing_is_cut() -> None:
    """A path longer than any terminal stays whole."""
    long = "/".join(["directory"] * 100)
    assert list(off_terminal(COLUMNS, [("1 B", "a", long, "x")]))[1].split() == ["1", "B", "a", long, "x"]


def test_wide_characters_are_two_columns() -> None:
    """Columns stay aligned beside characters that a terminal shows twice as wide."""
    lines = list(off_terminal((Column("A"), Column("B")), [("漢字", "x"), ("abcd", "y")]))
    assert lines == ["A     B", "漢字  x", "abcd  y"]


def test_on_a_terminal_wide_columns_stand_below_each_other() -> None:
    """On a terminal the wide columns share the last one, each value on a line of its own, empty ones on none."""
    assert shown(ROWS) == [
        "   SIZE  HOST      FROM",
        "1.0 KiB  gpu-a     /home/ubuntu/a",
        "                   → there/a",
        "   12 B  gpu-long  /b",
    ]


def test_on_a_terminal_a_long_path_is_folded_and_whole() -> None:
    """A path that does not fit is continued on the next line; narrow columns stay readable."""
    path = "/" + "x" * 100
    lines = shown([("1.0 KiB", "gpu-a", path, "")], width=60)
    assert lines[1].startswith("1.0 KiB  gpu-a")
    assert all(len(line) <= 60 for line in lines)
    assert "".join(line[16:] for line in lines[1:]).replace(" ", "") == path


def test_names_of_boxes_are_only_shown() -> None:
    """Escape sequences, line ends, broken UTF-8 and markup in a name are text, on a terminal and off one."""
    row: Row = ("1 B", "gpu-a", "/a\x1b[31m\n[bold]b[/bold]\udcff", "")
    expected = r"/a\x1b[31m\n[bold]b[/bold]\udcff"
    assert list(off_terminal(COLUMNS, [row]))[1].endswith(expected)
    assert shown([row])[1].endswith(expected)
