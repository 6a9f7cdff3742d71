"""The bars of a pass on a terminal, one for each host, as rich draws them.

`progress` imports this where there is a terminal, and only there.
"""

from collections.abc import Sequence
from typing import TextIO, cast

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from harvestd.cli.output import units


def progress_on(console: Console) -> Progress:
    """Return the display on `console`; it is there while its context lasts, and leaves nothing behind."""
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
    """Return where lines for `stream` may be written meanwhile: the bars are drawn anew below each."""
    # A FileProxy is a TextIO in all but its type.
    return cast("TextIO", FileProxy(console, stream))


def _whole() -> Column:
    """Return a column that keeps its width: on a narrow terminal only the bar shrinks."""
    return Column(no_wrap=True)


class _Amount(ProgressColumn):
    """How much came, of how much; in the units of every other page."""

    def render(self, task: Task) -> Text:
        """Return the cell."""
        if task.total is None:
            return Text("connecting", style="dim")
        return Text(f"{units.size(int(task.completed))} of {units.size(int(task.total))}")


class _Rate(ProgressColumn):
    """How fast it comes."""

    def render(self, task: Task) -> Text:
        """Return the cell."""
        return Text(f"{units.size(int(task.speed))}/s" if task.speed else "", style="dim")


class Bars:
    """One bar for each host; a host's bar pulses until it is known how much there is to fetch."""

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
        """Fill a host's bar by what was here before."""
        self.moved(host, size)

    def failed(self, host: str) -> None:
        """Leave that to the events."""

    def polled(self, host: str, seconds: float) -> None:
        """Leave that to the events."""

    def host_failed(self, host: str) -> None:
        """Show nothing: its event does."""

    def service_failed(self, service: str) -> None:
        """Show nothing: its event does."""

    def settled(self, host: str, files: int) -> None:
        """Count files that are at their places."""
        self._settled[host] += files
        self._show(host)

    def _show(self, host: str) -> None:
        # A growing file, or one that is tried again, brings more than was planned: the bar then ends where it is.
        total = max(self._sizes[host], self._moved[host])
        files = f"{self._settled[host]}/{max(self._files[host], self._settled[host])}"
        self._progress.update(self._tasks[host], total=total, completed=self._moved[host], files=files)
