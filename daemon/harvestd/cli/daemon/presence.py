"""Find the process that holds the data root: a daemon, or a command that ends by itself."""

from harvestd.cli.errors import tell_warning
from harvestd.convention.paths import RESERVED
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
