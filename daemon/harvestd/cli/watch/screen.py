"""The status screen: a scene as lines of text that fit a terminal of any size, each cut to its width.

`loop` imports this only where there is a terminal. Rows that do not fit the height are counted in a line of their own;
rows of hosts are dropped last.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harvestd.cli.output import units
from harvestd.cli.output.page import Cell, Styled
from harvestd.cli.watch.scene import EventLine, HostLine, RunLine, Scene, TransferLine, end_of
from harvestd.telemetry.sanitize import escaped

LineT = TypeVar("LineT")

_AT_LEAST: Final = (4, 3, 2, 4)
"""Rows that hosts, transfers, runs and events keep when there is little space, in the order of precedence."""
_FRAME: Final = 2
"""A section's title, and the blank line before it."""
_LEVELS: Final = {"warning": "yellow", "error": "red", "critical": "red", "debug": "dim"}
_BAR: Final = 12
_NAME: Final = 20


def drawn(scene: Scene, console: Console) -> RenderableType:
    """Return the scene for a console, at most as wide as it is and at least one line less high."""
    counts = (len(scene.hosts), len(scene.transfers), len(scene.runs), len(scene.events))
    rooms = shares(console.height - 2, counts)
    parts: list[RenderableType] = [_text(scene.head.text, scene.head.style)]
    if not scene.hosts:
        parts.append(_text("no hosts: none is configured, and none was ever seen", "dim"))
    parts += _section(scene.hosts, rooms[0], _hosts)
    parts += _section(scene.transfers, rooms[1], _transfers)
    parts += _section(scene.runs, rooms[2], _runs)
    # The number of older events is not shown: it has no meaning.
    parts += _section(scene.events[: rooms[3]], rooms[3], _events)
    return Group(*parts)


def shares(room: int, counts: Sequence[int]) -> list[int]:
    """Divide `room` lines among sections of `counts` rows; return the rows of each, without its frame.

    A section without space for a single row is left out.
    """
    given = [0] * len(counts)
    for index, (count, least) in enumerate(zip(counts, _AT_LEAST, strict=True)):
        if count and room > _FRAME:
            given[index] = min(count, least, room - _FRAME)
            room -= given[index] + _FRAME
    for index, count in enumerate(counts):
        if given[index]:
            more = min(count - given[index], max(room, 0))
            given[index] += more
            room -= more
    return given


def _section(lines: Sequence[LineT], room: int, table: Callable[[Sequence[LineT]], Table]) -> list[RenderableType]:
    if not room:
        return []
    shown = lines if len(lines) <= room else lines[: room - 1]
    parts: list[RenderableType] = [Text(""), table(shown)]
    if len(shown) < len(lines):
        parts.append(_text(f"… and {len(lines) - len(shown)} more", "dim"))
    return parts


def _hosts(hosts: Sequence[HostLine]) -> Table:
    table = _table()
    _fitting(table, "HOST", _NAME)
    _fitting(table, "STATE", 14)
    _fixed(table, "SUCCESS", 8, right=True)
    _fixed(table, "PENDING", 9, right=True)
    table.add_column("VERDICT", no_wrap=True, overflow="ellipsis", ratio=1)
    if any(host.cost for host in hosts):
        _fitting(table, "COST", 10)
    for host in hosts:
        success = units.age(host.last_success).removesuffix(" ago")
        cells = [
            _text(host.name),
            _cell(host.state),
            _text("now" if success == "just now" else success),
            _text(units.size(host.pending) if host.pending else units.NOTHING),
            _text(host.note, "yellow") if host.note else _cell(host.verdict or Styled("not judged", "dim")),
            _text(host.cost),
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def _cell(cell: Cell) -> Text:
    return _text(cell.text, cell.style) if isinstance(cell, Styled) else _text(cell)


def _transfers(transfers: Sequence[TransferLine]) -> Table:
    table = _table()
    _fitting(table, "HOST", 12)
    table.add_column("TRANSFER", no_wrap=True, overflow="ellipsis", ratio=1)
    _fixed(table, "", _BAR)
    _fixed(table, "", 4, right=True)
    _fixed(table, "RATE", 12, right=True)
    _fixed(table, "LEFT", 7, right=True)
    for each in transfers:
        size = each.size or 0
        part = f"{min(each.moved / size, 1):.0%}" if size else ""
        # An unknown size has an empty bar, not one that pulses: the screen is redrawn only for changes.
        bar = ProgressBar(total=max(size, 1), completed=each.moved if size else 0, width=_BAR)
        rate = f"{units.size(int(each.rate))}/s" if each.rate else units.NOTHING
        left = units.duration(each.seconds_left)
        table.add_row(_text(each.host), _text(end_of(each.what)), bar, _text(part), _text(rate), _text(left))
    return table


def _runs(runs: Sequence[RunLine]) -> Table:
    table = _table()
    table.add_column("RUN", no_wrap=True, overflow="ellipsis", ratio=1)
    _fitting(table, "HOST", _NAME)
    _fixed(table, "STEP", 15, right=True)
    _fixed(table, "LEFT", 7, right=True)
    _fitting(table, "STATE", 20)
    for run in runs:
        left = units.duration(run.seconds_left)
        table.add_row(_text(run.name), _text(run.host), _text(run.steps), _text(left), _cell(run.state))
    return table


def _events(events: Sequence[EventLine]) -> Table:
    table = _table()
    _fixed(table, "TIME", 8)
    _fitting(table, "EVENT", _NAME)
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for each in events:
        table.add_row(_text(each.at, "dim"), _text(each.event, _LEVELS.get(each.level, "")), _text(each.said))
    return table


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)


def _fitting(table: Table, title: str, most: int) -> None:
    """Add a column for values that rarely change: as wide as its longest text."""
    table.add_column(title, no_wrap=True, overflow="ellipsis", max_width=most)


def _fixed(table: Table, title: str, width: int, *, right: bool = False) -> None:
    """Add a column for values that change often: a fixed width, so that nothing beside it moves."""
    table.add_column(title, justify="right" if right else "left", no_wrap=True, overflow="ellipsis", width=width)


def _text(text: str, style: str = "") -> Text:
    """Return text that is only displayed, on one line."""
    return Text(escaped(text), style=style, no_wrap=True, overflow="ellipsis")
