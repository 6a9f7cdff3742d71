"""Errors of a connection to a host; each names the host, the reason and a hint.

Only this module translates asyncssh's and the system's errors into harvestd's. Text that a host sent (a disconnect's
reason, a program's complaint) appears only cut and escaped.
"""

import asyncio
import errno
import os
import socket

import asyncssh

from harvestd.errors import HarvestError, HostQuarantined, Retry
from harvestd.remote.ssh.target import Target
from harvestd.telemetry.sanitize import masked

_FOREIGN_TEXT = 300


class Unreachable(Retry):
    """No SSH server answered at the address, or none in time."""


class LinkLost(Retry):
    """The connection, or a channel of it, ended while it was in use."""


class Stuck(Retry):
    """The link is alive, but one request gets no answer: a file system on the host hangs. Others may be answered."""


class AuthenticationRefused(HostQuarantined):
    """The host does not accept the log-in: a wrong key or a wrong user."""


class HostKeyChanged(HostQuarantined):
    """The host shows another key than the pinned one. Nothing was sent to it."""


class HostKeyUnknown(HostQuarantined):
    """The host's key can't be checked: it is not in known_hosts, or the stored pin is damaged."""


class ChannelRefused(Retry):
    """The connection is open, but the host refuses a further session on it (sshd's MaxSessions)."""


def quoted(text: str | bytes) -> str:
    """Return untrusted text cut, escaped for a terminal or a log, and without what looks like a secret."""
    plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    plain = masked(plain.strip())
    cut = plain if len(plain) <= _FOREIGN_TEXT else plain[:_FOREIGN_TEXT] + "…"
    return cut.encode("unicode_escape").decode("ascii") if not cut.isprintable() or not cut.isascii() else cut


_NOT_FOUND = 127
"""A shell's exit status where there is no such program."""
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_OUR_LIMIT = "this machine gives harvestd no more: raise its limit of open files (systemd: LimitNOFILE), or watch fewer"
_WAYS_OUT = {
    errno.EMFILE: _OUR_LIMIT,
    errno.ENFILE: _OUR_LIMIT,
    errno.ECONNREFUSED: "is sshd up, and is this its port? A booting box refuses for up to a minute",
    errno.EHOSTUNREACH: "is the box running, and does the network lead there?",
    errno.ENETUNREACH: "does this machine have a network that leads there?",
    errno.ETIMEDOUT: "is the box running, and does a firewall let port and address through?",
}


_SESSIONS = "sshd's MaxSessions is 10 by default"


class Short(Retry):
    """This machine has no descriptor or memory left for a connection: neither the host nor the keys are at fault."""


def raise_if_short(target: Target, error: BaseException) -> None:
    """Raise `Short` for an error that only reports a local shortage; call it before quarantining a host for a file."""
    if isinstance(error, OSError) and error.errno in _SHORT:
        raise Short(f"{target}: no connection ({os.strerror(error.errno)})", hint=_OUR_LIMIT) from error


def unreachable(target: Target, error: OSError) -> Unreachable:
    """Return the error for a connection that could not be opened."""
    if isinstance(error, socket.gaierror):
        return Unreachable(f"{target}: the name can't be resolved ({error.strerror})", hint="is the address right?")
    # asyncio puts sentences of its own in place of the system's text for the number.
    reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    hint = next((way for number, way in _WAYS_OUT.items() if error.errno == number), "is the box running?")
    return Unreachable(f"{target}: no connection ({reason})", hint=hint)


def flooded(target: Target) -> HostQuarantined:
    """Return the error for a host that was cut off for sending too much unrequested data."""
    return HostQuarantined(
        f"{target}: the host sent far more than it was asked for; the connection was cut",
        hint="this is no normal sshd; have a look at the box before it is tried again",
    )


def not_connected(
    target: Target, error: asyncssh.Error | OSError | ValueError, said: str = "", *, answered: bool = False
) -> HarvestError:
    """Return the error for a failed attempt to connect; host keys and authentication have errors of their own.

    `said`: the host's own text, made safe. `answered`: whether any bytes arrived from the host.
    """
    reported = f". It said: {said}" if said else ""
    match error:
        case asyncssh.ConnectionLost() | ConnectionResetError() | BrokenPipeError():
            return Unreachable(
                f"{target}: the connection was closed before the log-in was done{reported}",
                hint=_why_closed(said) or "a booting box, or sshd's MaxStartups is reached; it is tried again",
            )
        case asyncssh.ChannelOpenError():
            return Unreachable(
                f"{target}: the jump host does not connect further ({quoted(error.reason)})",
                hint="is the box reachable from there, and does its sshd allow AllowTcpForwarding?",
            )
        case asyncssh.DisconnectError():
            return Unreachable(
                f"{target}: the SSH handshake failed ({quoted(error.reason)}){reported}", hint="is this an sshd?"
            )
        case OSError():
            return unreachable(target, error)
        case _ if answered:
            return Unreachable(
                f"{target}: what answers there breaks the SSH protocol ({quoted(str(error))}){reported}",
                hint="is this an sshd, and is this its port?",
            )
        case _:
            return HostQuarantined(
                f"{target}: the SSH configuration can't be used ({quoted(str(error))})",
                hint="check the host's ssh settings and config_files",
            )


def _why_closed(said: str) -> str:
    """Return a hint for sshd's text before it closed the connection; empty where there is none."""
    if "not allowed at this time" in said.casefold():
        return "sshd refuses this address for a while (PerSourcePenalties) after log-ins that failed; it is tried again"
    if "exceeded maxstartups" in said.casefold():
        return "sshd's MaxStartups is reached; it is tried again"
    return "the host says why; it is tried again" if said else ""


def proxy_failed(target: Target, status: int | None, said: bytes, error: Exception) -> HarvestError:
    """Return the error for a ProxyCommand that did not lead to the host."""
    reported = f", saying {quoted(said)}" if said.strip() else ""
    if status == _NOT_FOUND:
        return HostQuarantined(
            f"{target}: the program of its ProxyCommand is not found{reported}",
            hint="install it, or write its whole path: the PATH of a service is not that of your shell",
        )
    if status is None:
        return Unreachable(
            f"{target}: its ProxyCommand does not lead to an SSH server ({quoted(str(error))}){reported}"
        )
    return Unreachable(
        f"{target}: its ProxyCommand ended with status {status} before the log-in was done{reported}",
        hint="try it by hand, as the daemon's user: its PATH, home and agent are not those of your shell",
    )


def link_lost(target: Target, error: BaseException | None) -> Retry:
    """Return the error for an established connection that ended, or for a channel on it."""
    match error:
        case asyncssh.ChannelOpenError():
            forbidden = error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
            hint = (
                "its sshd_config, or the key's options in authorized_keys, forbid sessions" if forbidden else _SESSIONS
            )
            return ChannelRefused(f"{target}: no further session ({quoted(error.reason)})", hint=hint)
        case asyncssh.Error():
            silent = "not responding to keepalive" in error.reason
            hint = "the host or the network hangs; ssh.keepalive says how long a link may be silent" if silent else ""
            return LinkLost(f"{target}: the connection was lost ({quoted(error.reason)})", hint=hint)
        case OSError() | asyncio.IncompleteReadError():
            return LinkLost(f"{target}: the connection was lost ({quoted(str(error))})")
        case _:
            return LinkLost(f"{target}: the connection was lost")
