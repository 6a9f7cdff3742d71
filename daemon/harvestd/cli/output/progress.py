"""The progress display of a pass: a bar for each host on the terminal of standard error; none off a terminal.

`ProgressListener` reports the bytes; the display never delays a transfer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from harvestd.cli.output.page import console_on
from harvestd.harvest.monitor import NullListener, ProgressListener


@contextmanager
def progress_of(hosts: Sequence[str], stream: TextIO) -> Iterator[tuple[ProgressListener, TextIO]]:
    """Show the progress of a pass over `hosts` on `stream` while the body runs.

    Yield the monitor of the progress, and a stream for lines that do not disturb the bars.
    """
    console = console_on(stream)
    if console is None or console.is_dumb_terminal:
        yield NullListener(), stream
        return
    from harvestd.cli.output.rich_output import Bars, lines_above, progress_on  # noqa: PLC0415  (rich: only a terminal needs it)

    with progress_on(console) as progress:
        yield Bars(progress, hosts), lines_above(console, stream)
