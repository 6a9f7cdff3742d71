"""The path of the daemon's socket in the state directory, which the command line finds the same way."""

from pathlib import Path
from typing import Final

from harvestd.settings import Settings

NAME: Final = "api.sock"


def socket_path(settings: Settings) -> Path:
    """Return the socket's path; it may be longer than a socket's path can be, see `store.sockets.short_path`."""
    return settings.state / NAME
