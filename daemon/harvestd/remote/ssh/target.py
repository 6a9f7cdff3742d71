"""The address of one host and how to log in there; made from the settings."""

from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from msgspec.structs import replace

from harvestd.convention.structs import Immutable
from harvestd.errors import HostQuarantined

_LAST_PORT = 65535


class Target(Immutable):
    """One host's address and the operator's settings for connecting to it."""

    identity: str
    """The cloud's instance id or the operator's name: a pinned host key belongs to it. Never the address."""
    address: str
    """A name or an IP address; with `config_files` also an alias from these files."""
    port: int = 22
    """0: as the configuration files set it, else 22."""
    user: str = "ubuntu"
    """Empty: as the configuration files set it, else `default_user`."""
    identity_files: tuple[Path, ...] = ()
    """Private keys, or public halves of an agent's keys, in the order in which they are tried.

    Empty: as the configuration files set them, else `default_identity_files`.
    """
    agent: bool = True
    """Whether keys of an agent may be used too."""
    host_keys: Literal["pin", "known_hosts"] = "pin"
    known_hosts: Path | None = None
    """None: as the configuration files set it, else ~/.ssh/known_hosts."""
    connect_timeout: timedelta = timedelta(seconds=15)
    """For everything from the configuration files to the end of authentication, even while data arrives."""
    keepalive: timedelta = timedelta(seconds=10)
    """A silent link is dead after four times this time: keepalives that it sent meanwhile got no answer."""
    config_files: tuple[Path, ...] = ()
    """OpenSSH client configurations to read; empty: none, not even ~/.ssh/config."""
    proxy_jump: str = ""
    """`[user@]host[:port]`, several separated by commas; empty: as the configuration files set it, else none."""
    name: str = ""
    """The operator's name for the host; empty: the identity is used."""
    default_user: str = ""
    """The user where neither the operator nor the files name one. Empty: the local account's name."""
    default_identity_files: tuple[Path, ...] = ()
    """The keys where neither the operator nor the files name one. Empty: ssh's own default names."""
    agent_socket: str = ""
    """Empty: as the configuration files set it, else SSH_AUTH_SOCK."""
    identities_only: bool | None = None
    """Whether only those keys of the agent are offered that the files name; None: as the files set it, else no."""

    def __str__(self) -> str:
        """Return the host as errors name it."""
        port = f":{self.port}" if self.port else ""
        user = f"{self.user}@" if self.user else ""
        return f"{self.called} ({user}{self.address}{port})"

    @property
    def called(self) -> str:
        """The host's name in errors and their hints."""
        return self.name or self.identity

    def jump(self, spec: str) -> Self:
        """Return the target of the last hop in `spec` (see `proxy_jump`), reached through the hops before it.

        It has the time-outs of this target. User and keys of this target are its defaults, after the configuration
        files, since harvestd's own configuration has no others for it. It has a pinned key of its own, under the name
        `jump:{host}:{port}`. Raise `HostQuarantined` where `spec` can't be parsed.
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
    """Return the parts of `host`, `host:port`, `[v6]:port` or a bare IPv6 address; port 0: none, -1: an invalid one."""
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
