"""What the status screen shows at one moment, as plain values; where they come from is no matter here.

Texts are as a box or a file gave them: `screen` escapes what it draws. Times are Unix times, sizes bytes.
"""

from typing import Final

from harvestd.cli.output.tables import Cell, Styled
from harvestd.convention.structs import Immutable

_FIRST: Final = ("ending", "failed", "quarantined", "lost", "stalled")
"""States that somebody should look at, the worst first."""
_LAST: Final = ("not configured", "gone")


def end_of(path: str) -> str:
    """Return the last two parts of a path: what is above them is the same for all of a run."""
    return "/".join(path.rstrip("/").split("/")[-2:])


class HostLine(Immutable):
    """One host."""

    name: str
    state: Styled
    last_success: float | None
    pending: int
    """Bytes that are wanted and not here."""
    verdict: Cell = ""
    """Safe or not, and the first reason; empty: nobody has judged it."""
    cost: str = ""
    """What it costs an hour; empty: nobody knows."""
    note: str = ""
    """What is wrong with it."""

    @property
    def urgency(self) -> tuple[int, str]:
        """Sorts what needs a person first, and what is over last."""
        state = self.state.text
        if state in _FIRST:
            return _FIRST.index(state), self.name
        return len(_FIRST) + (state in _LAST), self.name


class TransferLine(Immutable):
    """One file, or group of files, on its way."""

    host: str
    what: str
    moved: int
    size: int | None
    """None: nobody knows."""
    rate: float | None = None
    """Bytes a second."""
    seconds_left: float | None = None


class RunLine(Immutable):
    """One run that goes on or should, or that died lately."""

    name: str
    host: str
    steps: str
    seconds_left: float | None
    state: Styled = Styled("", "")


class EventLine(Immutable):
    """One thing that happened."""

    at: str
    """The time of day."""
    level: str
    event: str
    said: str
    """Its fields, the telling ones first."""


class Scene(Immutable):
    """All that is shown at one moment, each kind with the most important first."""

    head: Styled
    """Who tells this: the daemon, or the catalogue and since when there is none."""
    hosts: tuple[HostLine, ...] = ()
    transfers: tuple[TransferLine, ...] = ()
    runs: tuple[RunLine, ...] = ()
    events: tuple[EventLine, ...] = ()
