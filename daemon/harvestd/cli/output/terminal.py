"""Create a rich console for a stream that is a terminal, and none for others.

rich takes a twentieth of a second to import. Scripts, services and timers avoid that: off a terminal rich is not used.
"""

import os
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_SAYS_SO: Final = ("FORCE_COLOR", "TTY_COMPATIBLE")
"""Variables that make rich treat a stream as a terminal which is none, such as the log of a CI job."""


def console_on(stream: TextIO) -> "Console | None":
    """Return the console for `stream`; None where it is no terminal. Text is never interpreted as markup."""
    if not stream.isatty() and not any(os.environ.get(name) for name in _SAYS_SO):
        return None
    from rich.console import Console  # noqa: PLC0415  (only a terminal needs it; see above)

    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    return console if console.is_terminal else None
