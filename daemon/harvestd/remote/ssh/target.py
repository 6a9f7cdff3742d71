"""Where one host is and how to log in there. The settings make it; only `connecting` reads it."""

from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from msgspec.structs import replace

from harvestd.convention.structs import Immutable
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
    """Empty: as the configuration files say, else `default_user`."""
    identity_files: tuple[Path, ...] = ()
    """Private keys, or public halves of an agent's keys, in the order in which they are tried. None given: as the
    configuration files say, else `default_identity_files`."""
    agent: bool = True
    """Whether keys of an agent may be used too."""
    host_keys: Literal["pin", "known_hosts"] = "pin"
    known_hosts: Path | None = None
    """None: as the configuration files say, else ~/.ssh/known_hosts."""
    connect_timeout: timedelta = timedelta(seconds=15)
    """For everything from the configuration files to the end of authentication, whatever trickles in meanwhile."""
    keepalive: timedelta = timedelta(seconds=10)
    """Between two questions to a silent link; it is dead when three of them got no answer."""
    config_files: tuple[Path, ...] = ()
    """OpenSSH client configurations to read; none: not even ~/.ssh/config is."""
    proxy_jump: str = ""
    """`[user@]host[:port]`, several with commas; empty: as the configuration files say, else none."""
    name: str = ""
    """What the operator calls it; empty: the identity says enough."""
    default_user: str = ""
    """Where neither the operator nor the files name a user. Empty: the local account's name."""
    default_identity_files: tuple[Path, ...] = ()
    """Where neither the operator nor the files name one. None given: ssh's own default names."""
    agent_socket: str = ""
    """Empty: as the configuration files say, else SSH_AUTH_SOCK."""
    identities_only: bool | None = None
    """Whether of the agent's keys only those of the named files are offered; None: as the files say, else no."""

    def __str__(self) -> str:
        """Return the host as errors name it."""
        port = f":{self.port}" if self.port else ""
        user = f"{self.user}@" if self.user else ""
        return f"{self.called} ({user}{self.address}{port})"

    @property
    def called(self) -> str:
        """What errors and their hints call it."""
        return self.name or self.identity

    def jump(self, spec: str) -> Self:
        """Return the target of the last hop in `spec` (see `proxy_jump`), reached through the hops before it.

        Of this target it has the time-outs; user and keys of this one are its defaults, below the configuration
        files, since harvestd's own configuration has no others for it. It has a pinned key of its own, under the name
        `jump:{host}:{port}`. Raises `HostQuarantined` where `spec` can't be read.
        """
        before, _, last = spec.rpartition(",")
        user, _, place = last.strip().removeprefix("ssh://").rpartition("@")
        host, port = _host_and_port(place)
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
            user=user,
            default_user=self.user or self.default_user,
            identity_files=(),
            default_identity_files=self.identity_files or self.default_identity_files,
            proxy_jump=before.strip(),
        )


def _host_and_port(place: str) -> tuple[str, int]:
    """Return `host`, `host:port`, `[v6]:port` or a bare IPv6 address in parts; port 0: none, -1: a bad one."""
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
