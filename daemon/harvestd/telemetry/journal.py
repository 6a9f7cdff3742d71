"""Levels for systemd's journal: before each line stands `<N>`, which the journal takes off again and files by.

sd-daemon(3) has the form, systemd.exec(5) what `JOURNAL_STREAM` is. Nothing here talks to the journal: a unit's output
goes there by itself.
"""

import os
from collections.abc import Mapping
from typing import Final, TextIO

from structlog.typing import EventDict, Processor, WrappedLogger

_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_NOTICE: Final = 5
"""Of a level that nobody told."""


def is_journal(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Return whether what is written to `stream` goes to the journal: it is the very socket that `env` names.

    A variable that was inherited is no proof: the output may have been sent elsewhere since.
    """
    named = env.get("JOURNAL_STREAM", "")
    try:
        # Not a local path: the descriptor that we were started with.
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return bool(named) and named == f"{found.st_dev}:{found.st_ino}"


class JournalLine:
    """A structlog renderer that puts the level before each line of another."""

    def __init__(self, renderer: Processor) -> None:
        self._renderer = renderer

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """Render one event."""
        prefix = f"<{_PRIORITIES.get(str(event.get('level')), _NOTICE)}>"
        lines = str(self._renderer(logger, method, event)).split("\n")
        return "\n".join(prefix + line for line in lines)
