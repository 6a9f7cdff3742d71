"""The process that holds the data root: a daemon and its reported condition, or a command that ends by itself."""

from typing import Final

from harvestd.cli.errors import tell_warning
from harvestd.convention.paths import RESERVED
from harvestd.convention.structs import Immutable
from harvestd.errors import Fatal, HarvestError
from harvestd.settings import Settings
from harvestd.store.lock import Holder, HolderKind, holder
from harvestd.store.root import DataRoot


def daemon_pid(settings: Settings) -> int | None:
    """Return the pid of the process that holds the data root, 0 for one that is starting; None: there is none.

    Where that can't be found out, print a warning with the reason, and return None.
    """
    found = holder_of(settings)
    return None if found is None else found.pid


def holder_of(settings: Settings) -> Holder | None:
    """Return the process that holds the data root; None: there is none, or a warning was printed why it is unknown."""
    try:
        return found_holder(settings)
    except HarvestError as error:
        tell_warning(f"whether a daemon runs can't be found out: {error}", error.hint)
        return None


def watcher_of(settings: Settings) -> Holder | None:
    """Return the daemon that updates states and verdicts; None: none runs, a command may hold the data root."""
    found = holder_of(settings)
    return found if found is not None and found.kind is HolderKind.DAEMON else None


def daemon_document(found: Holder | None) -> dict[str, object]:
    """Return whether a daemon runs, for a JSON document; `found` as returned by `holder_of`."""
    running = found is not None and found.answers
    return {"running": running, "pid": found.pid or None if found is not None and running else None}


def found_holder(settings: Settings) -> Holder | None:
    """Return the process that holds the data root; raise `HarvestError` where that can't be found out."""
    try:
        if not (settings.data_root / RESERVED).is_dir():
            return None
    except OSError as error:
        raise Fatal(f"{settings.data_root} can't be read: {error.strerror}") from error
    with DataRoot.open(settings.data_root, create=False) as root:
        return holder(root)


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
    from harvestd.cli.client import Absent, DaemonClient  # noqa: PLC0415  (httpx: only beside a daemon)

    try:
        told = DaemonClient(settings, patience=_PATIENCE).state()["daemon"]
        return Condition(answers=True, paused=bool(told["paused"]), stuck=str(told["stuck"]))
    except (Absent, KeyError, TypeError):
        return Condition(answers=False)
