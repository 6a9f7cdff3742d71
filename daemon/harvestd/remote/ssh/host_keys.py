"""Verify a host by its pinned key, before anything is sent to it.

A pin is *compared* before authentication and *stored* only after it: while a host boots, its address may still be
answered by the previous tenant's sshd, whose key must not be pinned. A pin belongs to an identity, never to an address.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Protocol, Self

import asyncssh

from harvestd.convention.structs import Immutable
from harvestd.remote.ssh.errors import HostKeyChanged, HostKeyUnknown
from harvestd.remote.ssh.target import Target

_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""Plain keys only: a host certificate holds nothing that a pin could be compared with."""
_SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


class PinStore(Protocol):
    """Stores one host key for each identity."""

    async def get(self, identity: str) -> str | None:
        """Return the stored key as an OpenSSH public key line ("ssh-ed25519 AAAA…"), None where there is none."""
        ...

    async def put(self, identity: str, key_line: str) -> None:
        """Store the key of a host that was not known before."""
        ...


def fingerprint(blob: bytes) -> str:
    """Return the fingerprint of a public key as ssh shows it, SHA256:…."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


class HostKey(Immutable):
    """One public host key."""

    algorithm: str
    blob: bytes

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return the key of an OpenSSH public key line, with or without a comment; raise ValueError."""
        match line.split():
            case [algorithm, text, *_]:
                try:
                    return cls(algorithm, base64.b64decode(text, validate=True))
                except binascii.Error as e:
                    raise ValueError("not base64") from e
            case _:
                raise ValueError("not a public key line")

    @classmethod
    def of(cls, key: asyncssh.SSHKey) -> Self:
        """Return the key that a host showed."""
        return cls.parse(key.export_public_key("openssh").decode("ascii", "replace"))

    def __str__(self) -> str:
        """Return the public key line; `parse` reads it back."""
        return f"{self.algorithm} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """The fingerprint as ssh shows it."""
        return fingerprint(self.blob)

    def same_as(self, other: "HostKey") -> bool:
        """Return whether both are the same key."""
        return self.algorithm == other.algorithm and hmac.compare_digest(self.blob, other.blob)


def algorithms(pin: HostKey | None) -> list[str]:
    """Return the host-key algorithms to offer: the pin's first, so that a host with several keys shows the same one.

    The others follow: a host that has lost the pinned key then shows another one, and is refused for it.
    """
    first = _SIGNATURES.get(pin.algorithm, (pin.algorithm,)) if pin else ()
    return [*(a for a in first if a in _ALGORITHMS), *(a for a in _ALGORITHMS if a not in first)]


async def kept_pin(target: Target, pins: PinStore) -> HostKey | None:
    """Return the pinned key of `target`, None where there is none; raise `HostKeyUnknown` where it can't be parsed."""
    line = await pins.get(target.identity)
    if line is None:
        return None
    try:
        return HostKey.parse(line)
    except ValueError as e:
        raise HostKeyUnknown(
            f"{target}: the host key that is kept for it is damaged ({e})", hint=_forget(target)
        ) from e


def _forget(target: Target) -> str:
    return f"if the box was really replaced: harvestd forget-key {target.called}"


@dataclass(slots=True)
class PinCheck:
    """Decides about the keys that a host shows during one connection."""

    pin: HostKey | None
    shown: HostKey | None = field(default=None, init=False)
    """The last key shown, accepted or not."""
    refused: bool = field(default=False, init=False)

    def accepts(self, key: asyncssh.SSHKey) -> bool:
        """Return whether `key` is the pinned key; without a pin the first key is accepted, and has to stay the same."""
        first, self.shown = self.shown, HostKey.of(key)
        expected = self.pin or first
        if expected is not None and not expected.same_as(self.shown):
            self.refused = True
            return False
        return True

    def changed(self, target: Target) -> HostKeyChanged:
        """Return the error for a key that was refused."""
        old = f"{self.pin.fingerprint} ({self.pin.algorithm})" if self.pin else "the key of a moment ago"
        new = f"{self.shown.fingerprint} ({self.shown.algorithm})" if self.shown else "none"
        return HostKeyChanged(
            f"{target}: the host key changed. Kept: {old}, shown now: {new}. Nothing was sent to it",
            hint=_forget(target),
        )
