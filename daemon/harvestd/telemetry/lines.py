"""The stream that events are written to, a line at a time.

A daemon must outlive the reader of its output: a full disk or a closed pipe loses lines, is never an error of the room
that spoke, and is told once lines go through again. Nothing else writes to the stream.
"""

import threading
from collections.abc import Callable
from typing import TextIO


class LineStream:
    """Writes lines to `stream` and flushes each; safe to use from several threads.

    `notice` gives the line that says how many were lost.
    """

    def __init__(self, stream: TextIO, notice: Callable[[int], str]) -> None:
        self._stream = stream
        self._notice = notice
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._lock = threading.Lock()
        self.lost = 0
        """Lines that could not be written since the last one that could."""

    def write(self, line: str) -> None:
        """Write one line, or count it as lost; characters that the stream can't encode are written out."""
        with self._lock:
            text = f"{self._notice(self.lost)}\n{line}\n" if self.lost else f"{line}\n"
            try:
                if not text.isascii():
                    text = text.encode(self._encoding, "backslashreplace").decode(self._encoding)
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # a ValueError: the stream was closed
                self.lost += 1
            else:
                self.lost = 0

    # structlog calls the method that is named like the level.
    debug = info = warning = error = critical = msg = log = write
