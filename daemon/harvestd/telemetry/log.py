"""Output of events: one JSON object a line, or readable lines on a terminal, with levels for the journal.

`configure` is called once, by the command that starts; other packages call `get_logger` and report `Event`s. Messages
of libraries through `logging` and `warnings` go to the same stream in the same form, at warning and above.

Render events for a terminal: time, level, event, and the rest as key=value. One event is one line; a traceback
follows on lines of its own. The fields have been made plain and escaped by `serialize`; the only control characters
added here are colours.

Prefix lines with levels for systemd's journal: `<N>`, which the journal removes and stores as the priority.
sd-daemon(3) defines the form, systemd.exec(5) `JOURNAL_STREAM`. Nothing here connects to the journal: it receives a
unit's output by itself.

The stream that events are written to, by lines. A daemon must outlive the reader of its output: a full disk, a closed
pipe or a reader that pauses loses lines, never raises an error in the code that logs, and is reported once writing
works again. Nothing else writes to the stream.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import UnsupportedOperation
from typing import Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from harvestd.json_text import json_text
from harvestd.telemetry.event_buffer import buffer_event
from harvestd.telemetry.events import Event
from harvestd.telemetry.serialize import PROCESSORS

_BOLD, _DIM, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_LEVEL_WIDTH = 8
_EVENT_WIDTH = 20
_TIME = slice(len("2025-01-01T"), len("2025-01-01T00:00:00"))


class ConsoleLine:
    """A structlog renderer; `coloured`: whether the terminal shows colours."""

    def __init__(self, *, coloured: bool) -> None:
        self._colours: dict[str, str] = _COLOURS if coloured else {}
        self._bold, self._dim, self._reset = (_BOLD, _DIM, _RESET) if coloured else ("", "", "")

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        """Return one event as a line; a traceback follows on lines of its own, indented."""
        fields = dict(event)
        time = str(fields.pop("timestamp", ""))[_TIME]
        level = str(fields.pop("level", ""))
        name = str(fields.pop("event", ""))
        trace = fields.pop("exception", None)
        colour = self._colours.get(level, "")
        head = (
            f"{self._dim}{time}{self._reset} {colour}{level:<{_LEVEL_WIDTH}}{self._reset if colour else ''}"
            f" {self._bold}{name:<{_EVENT_WIDTH}}{self._reset}"
        )
        pairs = [f"{self._dim}{key}={self._reset}{_shown(value)}" for key, value in fields.items()]
        lines = trace if isinstance(trace, list) else []
        return "\n    ".join((" ".join((head, *pairs)).rstrip(), *map(str, lines)))


def _shown(value: object) -> str:
    """Return a value as readable text; what `escaped` has escaped is not escaped again."""
    if isinstance(value, str) and value and not set(value) & set(' ="'):
        return value
    return json.dumps(value, ensure_ascii=False).replace(r"\\", "\\")


_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_NOTICE: Final = 5
"""For a missing level."""


def is_journal(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Return whether output to `stream` goes to the journal: it is the socket that `env` names.

    An inherited variable alone is no proof: the output may have been redirected since.
    """
    named = env.get("JOURNAL_STREAM", "")
    try:
        # Not a local path: the descriptor that the process was started with.
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return bool(named) and named == f"{found.st_dev}:{found.st_ino}"


class JournalLine:
    """A structlog renderer that prefixes each line of another with the level."""

    def __init__(self, renderer: Processor) -> None:
        self._renderer = renderer

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """Return one event with prefixed lines."""
        prefix = f"<{_PRIORITIES.get(str(event.get('level')), _NOTICE)}>"
        lines = str(self._renderer(logger, method, event)).split("\n")
        return "\n".join(prefix + line for line in lines)


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
        self.waiting: list[str] = []
        self.size = 0
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
            if self._in_background and self.size > _MOST_WAITING:
                self.lost += 1
                return
            self.waiting.append(line)
            self.size += len(line)
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
                while self._held or not self.waiting:
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
        lines, lost = self.waiting, self.lost
        if lines:
            self.waiting, self.size, self.lost = [], 0, 0
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


Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]


def get_logger() -> FilteringBoundLogger:
    """Return a logger: `get_logger().info(Event.HOST_CONNECTED, host="gpu-a")`; `.bind(host=…)` keeps fields."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def batched_events() -> AbstractContextManager[None]:
    """Write the events of the body in one call when it ends: for a body that logs hundreds and does not wait."""
    lines = structlog.get_config()["logger_factory"]()
    return lines.together() if isinstance(lines, LineStream) else nullcontext()


def configure(form: Format = "auto", level: Level = "info", *, stream: TextIO | None = None) -> LineStream:
    """Send all events of `level` and above to `stream` (standard output if not given) and return their writer.

    "auto" is readable on a terminal and JSON off one. NO_COLOR (not empty) and TERM=dumb disable colours. A second call
    replaces the first.
    """
    target = sys.stdout if stream is None else stream
    renderer = renderer_for(form, target)
    if is_journal(target, os.environ):
        renderer = JournalLine(renderer)
    lines = LineStream(target, lambda lost: _rendered(renderer, {"event": Event.LOG_LOST, "lines": lost}))
    structlog.configure(
        processors=[*PROCESSORS, buffer_event, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    _route_libraries()
    return lines


def speak_through_logging() -> None:
    """Send events as lines to the logger "harvestd" of `logging`: for programs that use harvestd as a library.

    Do nothing where structlog is configured already, and never change the program's own logging.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[*PROCESSORS, ConsoleLine(coloured=False)],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: logging.getLogger("harvestd"),
        cache_logger_on_first_use=False,
    )


def renderer_for(form: Format, stream: TextIO) -> Processor:
    """Return the renderer of plain events for this form and stream."""
    terminal = stream.isatty()
    if form == "json" or (form == "auto" and not terminal):
        return _json_line
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return ConsoleLine(coloured=terminal and not plain)


def _json_line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return json_text(event)


def _rendered(renderer: Processor, event: EventDict) -> str:
    """Return an event that no logger reports as text, at warning."""
    for processor in PROCESSORS:
        event = processor(None, "warning", event)
    return str(renderer(None, "warning", event))


class _Forwarding(logging.Handler):
    """Forwards records of `logging` as events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record; one whose arguments don't fit its message is forwarded without them."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        get_logger().log(
            # Libraries may have levels between; structlog has only five.
            max(logging.WARNING, min(record.levelno // 10 * 10, logging.CRITICAL)),
            Event.LOG_FORWARDED,
            logger=record.name,
            message=message.strip(),
            exc_info=record.exc_info,
        )


def _route_libraries() -> None:
    """Make `_Forwarding` the only handler of `logging`, and send warnings through `logging`."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_Forwarding(logging.WARNING))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
