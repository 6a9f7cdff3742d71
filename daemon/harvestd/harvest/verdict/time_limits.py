"""How long a verdict may take, by the limits of the configuration: nobody who waits gives up before one of its parts.

The daemon names what took too long; a command that asks it waits a little longer, so that this answer reaches it.
"""

from datetime import timedelta
from typing import Final

from harvestd.remote.api import Limits

_WAYS: Final = 2
"""Connect time-outs for the way to a host: its own, and one for a jump host."""
_BEGINNING: Final = 180.0
"""Seconds until a whole scan can begin, behind whatever is being fetched just now."""
_QUESTIONS: Final = 2
"""What a verdict asks beside the trees, each at most `Limits.inspect_time`: circumstances, and where links lead."""
_MARGIN: Final = 30.0
"""Seconds for taking notice of a question, and for writing the answer down."""


def to_connect(connect_timeout: timedelta, limits: Limits) -> float:
    """Return the seconds until a host is connected and read, or is known not to be."""
    return _WAYS * connect_timeout.total_seconds() + limits.answer_time.total_seconds()


def to_judge(limits: Limits) -> float:
    """Return the seconds for a verdict in full on a host that is connected."""
    return _BEGINNING + _QUESTIONS * limits.inspect_time.total_seconds() + limits.scan_time.total_seconds()


def to_answer(connect_timeout: timedelta, limits: Limits) -> float:
    """Return the seconds after which the daemon has answered who asks for a verdict, whatever the host does."""
    return to_connect(connect_timeout, limits) + to_judge(limits) + _MARGIN
