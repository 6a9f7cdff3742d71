"""Where one host is and how to log in there. The settings make it; only `connecting` reads it."""

from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from msgspec import field
from msgspec.structs import replace

from harvestd.convention.values import Immutable
from harvestd.errors import HostQuarantined

_LAST_PORT = 65535


class Target(Immutable):
    """One host's address and everything that the operator said about connecting to it."""

    identity: str
    """The cloud's instance id or the operator's name: what a pinned host key belongs to. Never the address."""
    address: str
    """A name or an IP address; with `config_files` also an alias that stands there."""
    port: int = 22
    """0: as the configuration files say, else 22."""
    user: str = "ubuntu"
    """Empty: as the configuration files say, else the local account's name."""
    identity_files: tuple[Path, ...] = ()
    """Private keys, in the order in which they are tried. None given: ssh's own default names."""
    agent: bool = True
    """Whether keys of the agent at SSH_AUTH_SOCK may be used too."""
    host_keys: Literal["pin", "known_hosts"] = "pin"
    known_hosts: Path = field(default_factory=lambda: Path.home() / ".ssh" / "known_hosts")
    connect_timeout: timedelta = timedelta(seconds=15)
    """For everything from the name's resolution to the end of authentication, whatever trickles in meanwhile."""
    keepalive: timedelta = timedelta(seconds=10)
    """Between two questions to a silent link; it is dead when three of them got no answer."""
    config_files: tuple[Path, ...] = ()
    """OpenSSH client configurations to read; none: not even ~/.ssh/config is."""
    proxy_jump: str = ""
    """`[user@]host[:port]`, several with commas; empty: as the configuration files say, else none."""
    name: str = ""
    """What the operator calls it; empty: the identity says enough."""

    def __str__(self) -> str:
        """Give the host as errors name it."""
        port = f":{self.port}" if self.port else ""
        user = f"{self.user}@" if self.user else ""
        return f"{self.called} ({user}{self.address}{port})"

    @property
    def called(self) -> str:
        """What errors and their hints call it."""
        return self.name or self.identity

    def jump(self, spec: str) -> Self:
        """Give the target of the last hop in `spec` (see `proxy_jump`), reached through the hops before it.

        A jump host has a pinned key of its own, under the name `jump:{host}:{port}`. Raises `HostQuarantined` where
        `spec` can't be read.
        """
        before, _, last = spec.rpartition(",")
        user, _, place = last.strip().rpartition("@")
        host, port = _host_and_port(place.removeprefix("ssh://"))
        if not host or port < 0:
            raise HostQuarantined(
                f"{self}: the jump host {last!r} can't be read", hint="write proxy_jump as [user@]host[:port]"
            )
        return replace(
            self,
            identity=f"jump:{host}:{port or 22}",
            name="",
            address=host,
            port=port,
            user=user or self.user,
            proxy_jump=before.strip() or "none",
        )


def _host_and_port(place: str) -> tuple[str, int]:
    """Split `host`, `host:port`, `[v6]:port` or a bare IPv6 address; port 0 where none stands, -1 where it is bad."""
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        text = rest.removeprefix(":")
    elif place.count(":") == 1:
        host, _, text = place.partition(":")
    else:
        host, text = place, ""
    if not text:
        return host, 0
    return host, int(text) if text.isascii() and text.isdecimal() and 0 < int(text) <= _LAST_PORT else -1
