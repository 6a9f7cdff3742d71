"""The progress display of a pass: a bar for each host on the terminal of standard error; off a terminal there is none.

It hears of bytes through `Monitor` and never holds a transfer up.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from harvestd.cli.output.terminal import console_on
from harvestd.harvest.monitor import Monitor, Silent


@contextmanager
def progress_of(hosts: Sequence[str], stream: TextIO) -> Iterator[tuple[Monitor, TextIO]]:
    """Show the progress of a pass over `hosts` on `stream` while the body runs.

    Gives what hears of the progress, and where lines may be written meanwhile without disturbing the bars.
    """
    console = console_on(stream)
    if console is None or console.is_dumb_terminal:
        yield Silent(), stream
        return
    from harvestd.cli.output.bars import Bars, lines_above, progress_on  # noqa: PLC0415  (rich: only a terminal needs it)

    with progress_on(console) as progress:
        yield Bars(progress, hosts), lines_above(console, stream)
