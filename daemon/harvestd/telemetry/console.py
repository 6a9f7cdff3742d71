"""Render events for a terminal: time, level, event, and the rest as key=value.

One event is one line; a traceback follows on lines of its own. The fields have been made plain and escaped by
`serialize`; the only control characters added here are colours.
"""

import json

from structlog.typing import EventDict, WrappedLogger

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
