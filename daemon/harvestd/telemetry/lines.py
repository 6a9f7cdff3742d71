"""The stream that events are written to, by lines.

A daemon must outlive the reader of its output: a full disk, a closed pipe or a reader that pauses loses lines, never
raises an error in the code that logs, and is reported once writing works again. Nothing else writes to the stream.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import UnsupportedOperation
from typing import Final, TextIO

_MOST_WAITING: Final = 4 * 1024 * 1024
"""Most characters that wait for the writer; lines beyond them are lost, and counted."""
_LAST_LINES: Final = 1.0
"""Seconds for the waiting lines when the writer ends."""


class LineStream:
    """Writes lines to `stream`; safe to use from several threads.

    A line is written and flushed at once by the caller; within `background` a thread does that, so that a reader that
    pauses delays nothing. `notice` returns the line on the number of lost lines.
    """

    def __init__(self, stream: TextIO, notice: Callable[[int], str]) -> None:
        self._stream = stream
        self._notice = notice
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        """Notified when the writer has something to do."""
        self._waiting: list[str] = []
        self._size = 0
        """Characters of the waiting lines."""
        self._held = 0
        """How many callers are inside `together`."""
        self._in_background = False
        self._ending = False
        self.lost = 0
        """Lines that could not be written since the last one that was."""

    def write(self, line: str) -> None:
        """Write one line, or count it as lost; characters that the stream can't encode are escaped."""
        with self._lock:
            if self._in_background and self._size > _MOST_WAITING:
                self.lost += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            if not self._held:
                self._write_out()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write the body's lines in one call when it ends; lines of other threads meanwhile are kept in order.

        A system call for each of thousands of lines costs more than producing them.
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

    @contextmanager
    def background(self) -> Iterator[None]:
        """Have a thread write during the body: neither a slow reader nor a slow disk delays the callers.

        Lines that wait at the end are written within `_LAST_LINES` seconds, or are lost.
        """
        writer = threading.Thread(target=self._keep_writing, name="log writer", daemon=True)
        self._in_background = True
        writer.start()
        try:
            yield
        finally:
            with self._lock:
                self._ending = True
                self._ready.notify()
            writer.join(_LAST_LINES)
            with self._lock:
                # While the thread still waits for the reader, nothing more is written: the caller would wait, too.
                self._in_background = writer.is_alive()
                self._ending = False

    def _keep_writing(self) -> None:
        while True:
            with self._lock:
                while self._held or not self._waiting:
                    if self._ending:
                        return
                    self._ready.wait()
                lines, lost = self._taken()
            written = self._put(lines, lost)
            if not written:
                with self._lock:
                    self.lost += lost + len(lines)

    def _write_out(self) -> None:
        if self._in_background:
            self._ready.notify()
            return
        lines, lost = self._taken()
        if lines and not self._put(lines, lost):
            self.lost = lost + len(lines)

    def _taken(self) -> tuple[list[str], int]:
        """Remove and return all waiting lines, and the number of lines lost before them."""
        lines, lost = self._waiting, self.lost
        if lines:
            self._waiting, self._size, self.lost = [], 0, 0
        return lines, lost

    def _put(self, lines: Sequence[str], lost: int) -> bool:
        """Write lines; return whether that succeeded."""
        text = "\n".join([self._notice(lost), *lines] if lost else lines) + "\n"
        try:
            data = text.encode(self._encoding, "backslashreplace")
            if self._in_background and (number := self._number()) is not None:
                # Not through the stream's buffer: flushing it at the end would wait for a reader that pauses.
                while data:
                    data = data[os.write(number, data) :]
            else:
                self._stream.write(data.decode(self._encoding))
                self._stream.flush()
        except (OSError, ValueError):  # a ValueError: the stream was closed
            return False
        return True

    def _number(self) -> int | None:
        try:
            return self._stream.fileno()
        except UnsupportedOperation:
            return None

    # structlog calls the method that is named like the level.
    debug = info = warning = error = critical = msg = log = write
