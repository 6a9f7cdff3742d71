"""Whether a daemon is at work on the data root."""

from harvestd.cli.ending import tell_warning
from harvestd.convention.paths import RESERVED
from harvestd.errors import HarvestError
from harvestd.settings import Settings
from harvestd.store.lock import holder
from harvestd.store.root import DataRoot


def daemon_pid(settings: Settings) -> int | None:
    """Give the process that holds the data root, 0 for one that starts at this moment; None: there is none.

    Where that can't be found out, a warning says why, and the answer is None too.
    """
    try:
        return process_of_daemon(settings)
    except HarvestError as error:
        tell_warning(f"whether a daemon runs can't be found out: {error}", error.hint)
        return None


def process_of_daemon(settings: Settings) -> int | None:
    """Give the same; raises `HarvestError` where it can't be found out."""
    if not (settings.data_root / RESERVED).is_dir():
        return None
    with DataRoot.open(settings.data_root, create=False) as root:
        return holder(root)
