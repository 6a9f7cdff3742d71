"""Prefix lines with levels for systemd's journal: `<N>`, which the journal removes and stores as the priority.

sd-daemon(3) defines the form, systemd.exec(5) `JOURNAL_STREAM`. Nothing here connects to the journal: it receives a
unit's output by itself.
"""

import os
from collections.abc import Mapping
from typing import Final, TextIO

from structlog.typing import EventDict, Processor, WrappedLogger

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
