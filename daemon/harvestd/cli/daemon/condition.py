"""How the daemon that runs is doing: whether it answers, is paused, or is stuck, as it says itself."""

from typing import Final

from harvestd.convention.structs import Immutable
from harvestd.settings import Settings
from harvestd.store.lock import Holder

_PATIENCE: Final = 5.0
"""Seconds for the daemon's answer: it gives one within some tenths of one."""


class Condition(Immutable):
    """What is known of the daemon's work beyond that its process lives; None: not known."""

    answers: bool | None = None
    """None: there is no daemon, or its configuration has no socket for questions."""
    paused: bool | None = None
    stuck: str | None = None
    """What is past its deadline; empty: nothing."""

    @property
    def trouble(self) -> str:
        """What a person should know of it, in some words; empty: all is well."""
        if self.answers is False:
            return "it does not answer: it starts at this moment, or hangs"
        if self.stuck:
            return f"it is stuck: {self.stuck} is past its deadline"
        return "it is paused: nothing is fetched" if self.paused else ""


def condition_of(settings: Settings, daemon: Holder | None) -> Condition:
    """Ask the daemon; the answer is there within `_PATIENCE` seconds."""
    if daemon is None or not settings.api.socket:
        return Condition()
    from harvestd.cli.daemon.client import Absent, DaemonClient  # noqa: PLC0415  (httpx: only beside a daemon)

    try:
        told = DaemonClient(settings, patience=_PATIENCE).state()["daemon"]
        return Condition(answers=True, paused=bool(told["paused"]), stuck=str(told["stuck"]))
    except (Absent, KeyError, TypeError):
        return Condition(answers=False)
