"""The content of the status screen at one moment, as plain values of any source.

Texts are unchanged from a host or a file: `screen` escapes what it draws. Times are Unix times, sizes bytes.
"""

from typing import Final

from harvestd.cli.output.tables import Cell, Styled
from harvestd.convention.structs import Immutable

_FIRST: Final = ("ending", "failed", "quarantined", "lost", "stalled")
"""States that need attention, the worst first."""
_LAST: Final = ("not configured", "gone")


def end_of(path: str) -> str:
    """Return the last two parts of a path: the parts above are the same for all of a run."""
    return "/".join(path.rstrip("/").split("/")[-2:])


class HostLine(Immutable):
    """One host."""

    name: str
    state: Styled
    last_success: float | None
    pending: int
    """Bytes that are wanted and not here."""
    verdict: Cell = ""
    """Safe or not, and the first reason; empty: there is no verdict."""
    cost: str = ""
    """What it costs an hour; empty: unknown."""
    note: str = ""
    """The problem of the host."""

    @property
    def urgency(self) -> tuple[int, str]:
        """A sort key: hosts that need attention first, and ended ones last."""
        state = self.state.text
        if state in _FIRST:
            return _FIRST.index(state), self.name
        return len(_FIRST) + (state in _LAST), self.name


class TransferLine(Immutable):
    """One file, or group of files, in transfer."""

    host: str
    what: str
    moved: int
    size: int | None
    """None: unknown."""
    rate: float | None = None
    """Bytes a second."""
    seconds_left: float | None = None


class RunLine(Immutable):
    """One run that is in progress or stalled, or that died recently."""

    name: str
    host: str
    steps: str
    seconds_left: float | None
    state: Styled = Styled("", "")


class EventLine(Immutable):
    """One event."""

    at: str
    """The time of day."""
    level: str
    event: str
    said: str
    """Its most important fields."""


class Scene(Immutable):
    """Everything shown at one moment, each kind with the most important first."""

    head: Styled
    """The source: the daemon, or the catalogue and since when no daemon answers."""
    hosts: tuple[HostLine, ...] = ()
    transfers: tuple[TransferLine, ...] = ()
    runs: tuple[RunLine, ...] = ()
    events: tuple[EventLine, ...] = ()
