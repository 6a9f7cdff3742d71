"""What the operator's OpenSSH configuration files add to a target: jump hosts, key files, a ProxyCommand.

Only files that were named are read, never ~/.ssh/config by itself. A jump host's own ProxyJump line is not followed.
"""

from pathlib import Path

import asyncssh

from harvestd.convention.values import Immutable
from harvestd.errors import HostQuarantined
from harvestd.remote.failures import raise_if_short
from harvestd.remote.target import Target


class Route(Immutable):
    """What the configuration files add to a target."""

    jump: str = ""
    identity_files: tuple[Path, ...] = ()
    own_dialer: bool = True
    """False where a ProxyCommand opens the transport."""


async def route_to(target: Target) -> Route:
    """Give the way to `target`; raises `HostQuarantined` where its configuration files can't be used."""
    jump = target.proxy_jump
    if not target.config_files:
        return Route("" if jump == "none" else jump)
    try:
        options = await asyncssh.SSHClientConnectionOptions.construct(
            config=config(target), host=target.address, **login(target), client_keys=None, known_hosts=None
        )
    except (asyncssh.Error, OSError, ValueError) as e:
        raise_if_short(target, e)
        raise HostQuarantined(
            f"{target}: the SSH configuration can't be used ({e})", hint="check ssh.config_files"
        ) from e
    if not jump and isinstance(options.tunnel, str):
        jump = options.tunnel
    files = options.config.get("IdentityFile", ())
    return Route(
        jump="" if jump == "none" else jump,
        identity_files=tuple(Path(name) for name in files if isinstance(name, str)),
        own_dialer=bool(jump) or not options.proxy_command,
    )


def config(target: Target) -> list[str] | None:
    """Give asyncssh's argument for the configuration files that the operator named."""
    # None, not just nothing: without a word asyncssh reads ~/.ssh/config.
    return [str(path) for path in target.config_files] or None


def login(target: Target) -> dict[str, object]:
    """Give asyncssh's arguments for what the target itself says: it stands above the files."""
    arguments: dict[str, object] = {}
    if target.port:
        arguments["port"] = target.port
    if target.user:
        arguments["username"] = target.user
    return arguments
