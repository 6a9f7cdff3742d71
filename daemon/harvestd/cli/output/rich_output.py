"""Output on a terminal, drawn by rich: tables, paragraphs, and a progress bar for each host.

The progress bars of a pass on a terminal, one for each host, drawn by rich. `pass_pages` imports this only where there
is a terminal.

Tables and paragraphs on a terminal, drawn by rich. Paths are often longer than a terminal is wide. So the wide
columns of a row are stacked at its end, each on lines of its own. `page` imports this only where there is a terminal.
"""

from collections.abc import Sequence
from typing import TextIO, cast

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column as RichColumn
from rich.table import Table
from rich.text import Text

from harvestd.cli.output import units
from harvestd.cli.output.page import Cell, Column, Row, Styled, plain
from harvestd.telemetry.sanitize import escaped


def progress_on(console: Console) -> Progress:
    """Return the display on `console`; it is visible within its context and removed afterwards."""
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=_whole()),
        BarColumn(bar_width=None),
        _Amount(table_column=_whole()),
        _Rate(table_column=_whole()),
        TimeRemainingColumn(compact=True, table_column=_whole()),
        TextColumn("{task.fields[files]} files", markup=False, table_column=_whole()),
        console=console,
        transient=True,
        expand=True,
    )


def lines_above(console: Console, stream: TextIO) -> TextIO:
    """Return a stream for lines above the bars, which are redrawn below each line."""
    # A FileProxy is a TextIO in all but its type.
    return cast("TextIO", FileProxy(console, stream))


def _whole() -> RichColumn:
    """Return a column that keeps its width: on a narrow terminal only the bar shrinks."""
    return RichColumn(no_wrap=True)


class _Amount(ProgressColumn):
    """The transferred and the total amount, in the units of every other page."""

    def render(self, task: Task) -> Text:
        """Return the cell."""
        if task.total is None:
            return Text("connecting", style="dim")
        return Text(f"{units.size(int(task.completed))} of {units.size(int(task.total))}")


class _Rate(ProgressColumn):
    """The transfer rate."""

    def render(self, task: Task) -> Text:
        """Return the cell."""
        return Text(f"{units.size(int(task.speed))}/s" if task.speed else "", style="dim")


class Bars:
    """One bar for each host; a host's bar pulses until the amount to fetch is known."""

    def __init__(self, progress: Progress, hosts: Sequence[str]) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {host: progress.add_task(host, total=None, files="0/0") for host in hosts}
        self._sizes = dict.fromkeys(hosts, 0)
        self._moved = dict.fromkeys(hosts, 0)
        self._files = dict.fromkeys(hosts, 0)
        self._settled = dict.fromkeys(hosts, 0)

    def planned(self, host: str, size: int, files: int) -> None:
        """Make a host's bar longer."""
        self._sizes[host] += size
        self._files[host] += files
        self._show(host)

    def moved(self, host: str, size: int) -> None:
        """Fill a host's bar."""
        self._moved[host] += size
        self._show(host)

    def resumed(self, host: str, size: int) -> None:
        """Fill a host's bar by the bytes from earlier transfers."""
        self.moved(host, size)

    def failed(self, host: str) -> None:
        """Show nothing: events report it."""

    def polled(self, host: str, seconds: float) -> None:
        """Show nothing: events report it."""

    def host_failed(self, host: str) -> None:
        """Show nothing: its event reports it."""

    def service_failed(self, service: str) -> None:
        """Show nothing: its event reports it."""

    def settled(self, host: str, files: int) -> None:
        """Count files that were published."""
        self._settled[host] += files
        self._show(host)

    def _show(self, host: str) -> None:
        # A growing file, or one that is tried again, brings more than was planned: the bar's end is then the present
        # amount.
        total = max(self._sizes[host], self._moved[host])
        files = f"{self._settled[host]}/{max(self._files[host], self._settled[host])}"
        self._progress.update(self._tasks[host], total=total, completed=self._moved[host], files=files)


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
