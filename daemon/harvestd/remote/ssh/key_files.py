"""Read identity files: a private key with its certificates, or the public half of an agent's key.

A file beside a key that belongs to another key (a stale `KEY.pub` or `KEY-cert.pub`) never keeps the key from being
offered: it is left out with a warning. Key material never appears in an error or a log: only paths and fingerprints do.
"""

import errno
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from harvestd.convention.structs import Immutable
from harvestd.remote.ssh.errors import raise_if_short
from harvestd.remote.ssh.target import Target

_LARGEST = 256 * 1024
"""Bytes read of a file at most, as a key or a certificate."""
_SECURITY_KEY = b"sk-"
LOCKED = "has a passphrase that can't be asked for here"


class Certificate(Immutable, eq=False):
    """A certificate, and the file that it was read from."""

    path: Path
    content: asyncssh.SSHCertificate


class KeyFile(Immutable, eq=False):
    """The content of one identity file."""

    path: Path
    pairs: tuple[asyncssh.SSHKeyPair, ...] = ()
    """What can be offered without an agent: the key with each of its certificates, then the key alone."""
    reason: str = ""
    """Why there are no pairs."""
    blob: bytes | None = None
    """The public half, by which an agent's key is recognised; None where it is not known."""
    warnings: tuple[str, ...] = ()


def read_key_file(target: Target, path: Path, certificates: Sequence[Certificate] = ()) -> KeyFile:
    """Return the content of one identity file; raise `Short` where this machine has no descriptor left for it."""
    try:
        data = _read(path)
    except FileNotFoundError:
        return KeyFile(path, reason="does not exist", blob=_public_blob(path))
    except OSError as e:
        raise_if_short(target, e)
        return KeyFile(path, reason=(e.strerror or "can't be read").lower(), blob=_public_blob(path))
    if b"PRIVATE KEY" not in data:
        try:
            blob = asyncssh.import_public_key(data).public_data
        except ValueError:
            return KeyFile(path, reason="is no private key", blob=_public_blob(path))
        return KeyFile(path, reason="is a public key, whose private half no agent here holds", blob=blob)
    return _private(path, data, certificates)


def read_certificates(target: Target, paths: Sequence[Path]) -> tuple[tuple[Certificate, ...], tuple[str, ...]]:
    """Return the certificates of these files, and a warning for each that can't be used; raise `Short`."""
    found, warnings = [], []
    for path in paths:
        try:
            found.append(Certificate(path, asyncssh.import_certificate(_read(path))))
        except OSError as e:
            raise_if_short(target, e)
            warnings.append(f"the certificate {path} is left out: {(e.strerror or 'it cannot be read').lower()}")
        except ValueError:
            warnings.append(f"the certificate {path} is left out: it is no certificate")
    return tuple(found), tuple(warnings)


def _private(path: Path, data: bytes, certificates: Sequence[Certificate]) -> KeyFile:
    try:
        key = asyncssh.import_private_key(data)
    except asyncssh.KeyEncryptionError:
        return KeyFile(path, reason=LOCKED, blob=_public_blob(path) or _blob_within(data))
    except ValueError as e:
        # asyncssh raises either class for a missing passphrase; only the text differs.
        locked = "assphrase" in str(e)
        reason = LOCKED if locked else "is no private key"
        return KeyFile(path, reason=reason, blob=_public_blob(path) or (_blob_within(data) if locked else None))
    warnings = [
        f"{public.name} beside {path} belongs to another key, and is ignored"
        for public in (path.with_name(path.name + ".pub"),)
        if _public_blob(path) not in {None, key.public_data}
    ]
    if key.algorithm.startswith(_SECURITY_KEY):
        return KeyFile(path, (), "is a security key, with which only an agent can sign", key.public_data, (*warnings,))
    own, warning = _certificate_beside(path, key.public_data)
    own += [each.content for each in certificates if each.content.key.public_data == key.public_data]
    pairs = [pair for each in own for pair in asyncssh.load_keypairs([key], certlist=[each]) if pair.has_cert]
    return KeyFile(path, (*pairs, *asyncssh.load_keypairs([key])), blob=key.public_data, warnings=(*warnings, *warning))


def _certificate_beside(path: Path, blob: bytes) -> tuple[list[asyncssh.SSHCertificate], list[str]]:
    beside = path.with_name(path.name + "-cert.pub")
    try:
        found = asyncssh.import_certificate(_read(beside))
    except FileNotFoundError:
        return [], []
    except (OSError, ValueError):
        return [], [f"{beside.name} beside {path} can't be read as a certificate, and is ignored"]
    if found.key.public_data == blob:
        return [found], []
    return [], [f"{beside.name} beside {path} belongs to another key, and is ignored"]


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        # Reading from a pipe would block until another process writes to it.
        raise OSError(errno.EINVAL, "is no file")
    with path.open("rb") as file:
        return file.read(_LARGEST)


def _public_blob(path: Path) -> bytes | None:
    """Return the public half in the file beside a private key, None without one."""
    try:
        return asyncssh.import_public_key(_read(path.with_name(path.name + ".pub"))).public_data
    except (OSError, ValueError):
        return None


def _blob_within(data: bytes) -> bytes | None:
    """Return the public half that OpenSSH's own format stores in clear within a locked private key."""
    try:
        return asyncssh.import_public_key(data).public_data
    except ValueError:
        return None
