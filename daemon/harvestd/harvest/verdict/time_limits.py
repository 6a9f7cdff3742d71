"""How long a verdict may take, by the configured limits: no waiting task gives up before one of its parts does.

The daemon names the part that took too long; a command that requests a verdict waits a little longer, so that it gets
this answer.
"""

from datetime import timedelta
from typing import Final

from harvestd.remote.api import Limits

_WAYS: Final = 2
"""Connect time-outs on the way to a host: its own, and one for a jump host."""
_BEGINNING: Final = 180.0
"""Seconds until a full scan can begin, behind the transfer that is in progress."""
_QUESTIONS: Final = 2
"""Queries of a verdict besides the trees, each at most `Limits.inspect_time`: circumstances, and targets of links."""
_MARGIN: Final = 30.0
"""Seconds for noticing a request, and for recording the answer."""


def to_connect(connect_timeout: timedelta, limits: Limits) -> float:
    """Return the seconds until a host is connected and read, or is known not to be."""
    return _WAYS * connect_timeout.total_seconds() + limits.answer_time.total_seconds()


def to_judge(limits: Limits) -> float:
    """Return the seconds for a full verdict on a connected host."""
    return _BEGINNING + _QUESTIONS * limits.inspect_time.total_seconds() + limits.scan_time.total_seconds()


def to_answer(connect_timeout: timedelta, limits: Limits) -> float:
    """Return the seconds after which the daemon has answered a request for a verdict, whatever the host does."""
    return to_connect(connect_timeout, limits) + to_judge(limits) + _MARGIN
