"""The condition of the running daemon: whether it answers, is paused, or is stuck, by its own report."""

from typing import Final

from harvestd.convention.structs import Immutable
from harvestd.settings import Settings
from harvestd.store.lock import Holder

_PATIENCE: Final = 5.0
"""Seconds for the daemon's answer, which takes some tenths of a second."""


class Condition(Immutable):
    """The state of the daemon's work, beyond its process being alive; None: not known."""

    answers: bool | None = None
    """None: there is no daemon, or its configuration has no API socket."""
    paused: bool | None = None
    stuck: str | None = None
    """What is past its deadline; empty: nothing."""

    @property
    def trouble(self) -> str:
        """A short text on the problem; empty: there is none."""
        if self.answers is False:
            return "it does not answer: it starts at this moment, or hangs"
        if self.stuck:
            return f"it is stuck: {self.stuck} is past its deadline"
        return "it is paused: nothing is fetched" if self.paused else ""


def condition_of(settings: Settings, daemon: Holder | None) -> Condition:
    """Query the daemon; return within `_PATIENCE` seconds."""
    if daemon is None or not settings.api.socket:
        return Condition()
    from harvestd.cli.daemon.client import Absent, DaemonClient  # noqa: PLC0415  (httpx: only beside a daemon)

    try:
        told = DaemonClient(settings, patience=_PATIENCE).state()["daemon"]
        return Condition(answers=True, paused=bool(told["paused"]), stuck=str(told["stuck"]))
    except (Absent, KeyError, TypeError):
        return Condition(answers=False)
