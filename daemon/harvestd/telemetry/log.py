"""Output of events: one JSON object a line, or readable lines on a terminal, with levels for the journal.

`configure` is called once, by the command that starts; other packages call `get_logger` and report `Event`s. Messages
of libraries through `logging` and `warnings` go to the same stream in the same form, at warning and above.
"""

import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from harvestd.json_text import json_text
from harvestd.telemetry.console import ConsoleLine
from harvestd.telemetry.event_buffer import remembered
from harvestd.telemetry.events import Event
from harvestd.telemetry.journal import JournalLine, is_journal
from harvestd.telemetry.lines import LineStream
from harvestd.telemetry.serialize import PROCESSORS

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]


def get_logger() -> FilteringBoundLogger:
    """Return a logger: `get_logger().info(Event.HOST_CONNECTED, host="gpu-a")`; `.bind(host=…)` keeps fields."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def told_together() -> AbstractContextManager[None]:
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
        processors=[*PROCESSORS, remembered, renderer],
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
