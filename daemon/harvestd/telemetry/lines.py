"""The stream that events are written to, by lines.

A daemon must outlive the reader of its output: a full disk or a closed pipe loses lines, is never an error of the room
that spoke, and is told once lines go through again. Nothing else writes to the stream.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


class LineStream:
    """Writes lines to `stream` and flushes them; safe to use from several threads.

    `notice` gives the line that says how many were lost.
    """

    def __init__(self, stream: TextIO, notice: Callable[[int], str]) -> None:
        self._stream = stream
        self._notice = notice
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self._held = 0
        """How many have asked for their lines to be written in one go."""
        self.lost = 0
        """Lines that could not be written since the last one that could."""

    def write(self, line: str) -> None:
        """Write one line, or count it as lost; characters that the stream can't encode are written out."""
        with self._lock:
            self._waiting.append(line)
            if not self._held:
                self._write_out()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write the body's lines in one go when it ends, and in their order those that come in other threads meanwhile.

        A system call for each of thousands of lines costs more than all that is said in them.
        """
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1
                if not self._held:
                    self._write_out()

    def _write_out(self) -> None:
        lines, self._waiting = self._waiting, []
        if not lines:
            return
        text = "\n".join([self._notice(self.lost), *lines] if self.lost else lines) + "\n"
        try:
            if not text.isascii():
                text = text.encode(self._encoding, "backslashreplace").decode(self._encoding)
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a ValueError: the stream was closed
            self.lost += len(lines)
        else:
            self.lost = 0

    # structlog calls the method that is named like the level.
    debug = info = warning = error = critical = msg = log = write
