"""Where the daemon's socket lies: in the state directory, which the command line knows as well as the daemon does."""

from pathlib import Path
from typing import Final

from harvestd.settings import Settings

NAME: Final = "api.sock"


def socket_path(settings: Settings) -> Path:
    """Return the socket's place; it may be longer than a socket's path can be, see `store.sockets.short_path`."""
    return settings.state / NAME
