"""Choose and read the keys to log in with: identity files with their certificates, and those of an ssh-agent.

Choose the keys to log in with: those of the named files, in their order, then those of the agent. Key material never
appears in an error or a log: only paths and fingerprints do.

Read identity files: a private key with its certificates, or the public half of an agent's key. A file beside a key
that belongs to another key (a stale `KEY.pub` or `KEY-cert.pub`) never keeps the key from being offered: it is left
out with a warning. Key material never appears in an error or a log: only paths and fingerprints do.

Read the keys of an ssh-agent within a deadline; an agent that does not answer is treated as having no keys. An agent
may wait for a person (a locked keyring, a confirmation) or be the forwarded agent of a dead session. It is queried
again only after a pause, so that not every connection attempt spends its time on it. The failure is logged once until
the agent answers.
"""

import base64
import errno
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from pathlib import Path

import anyio
import asyncssh

from harvestd.convention.structs import Immutable
from harvestd.errors import Retry
from harvestd.remote.ssh.config import AGENT_VARIABLE, ResolvedConfig
from harvestd.remote.ssh.errors import AuthenticationRefused, raise_if_short
from harvestd.remote.ssh.host_keys import fingerprint
from harvestd.remote.ssh.run_ssh import in_thread
from harvestd.remote.ssh.target import Target
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

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


_PAUSE = 60.0
"""Seconds before an agent that did not answer is queried again."""

_silent: dict[str, tuple[float, str]] = {}
"""Agents that did not answer, by socket: monotonic time of the next query, and the failure."""


class Held(Immutable):
    """The keys of an agent."""

    keys: tuple[asyncssh.SSHKeyPair, ...] = ()
    silent: str = ""
    """How the agent failed to answer; empty where it answered, or where there is no agent."""


async def keys_of(agent: asyncssh.SSHAgentClient, socket: str, limit: float) -> Held:
    """Return the agent's keys; none where it does not answer within `limit` seconds."""
    until, silent = _silent.get(socket, (0.0, ""))
    if time.monotonic() < until:
        return Held(silent=silent)
    try:
        with anyio.fail_after(limit):
            found = tuple(await agent.get_keys())
    except TimeoutError:
        silent = f"did not answer within {limit:g} s"
        _report(socket, silent, _PAUSE)
        return Held(silent=silent)
    except (OSError, ValueError) as e:
        # asyncssh raises ValueError for an agent that can't be reached and for an invalid answer.
        _report(socket, f"can't be asked ({e})", 0.0)
        return Held()
    _silent.pop(socket, None)
    return Held(found)


def _report(socket: str, problem: str, pause: float) -> None:
    if socket not in _silent:
        error = f"the ssh-agent {problem}, so that its keys are not used"
        get_logger().warning(Event.SSH_AGENT_SILENT, socket=socket, error=error)
    _silent[socket] = (time.monotonic() + pause, problem)


_MOST_KEYS = 5
"""sshd closes the connection after MaxAuthTries, 6 by default: each key offered is one try."""
_DEFAULT_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")
_warned: set[str] = set()
"""Warnings about key files that were logged in this process."""


class Identities(Immutable):
    """The keys to offer, and the details for the error when none of them is accepted."""

    keys: tuple[asyncssh.SSHKeyPair, ...]
    tried: tuple[str, ...]
    """The name of each key in an error."""
    unusable: tuple[str, ...]
    """Files that could not be offered, each with the reason, and keys of the agent beyond the limit."""

    def refused(self, target: Target, said: str = "", *, wants_more: bool = False) -> AuthenticationRefused:
        """Return the error for a host that accepted none of the keys.

        `said`: the host's own text, made safe. `wants_more`: no key can continue the log-in there.
        """
        tried = ", ".join(self.tried) or "none"
        left_out = f"; not offered: {', '.join(self.unusable)}" if self.unusable else ""
        user = target.user or "the local account's name"
        reported = f". The host says: {said}" if said else ""
        written = "ssh.user and ssh.identity_files"
        if target.config_files:
            written += ", and User and IdentityFile in ssh.config_files"
        hint = f"check {written}, or give the key to the box: ssh-copy-id {_address(target)}"
        if wants_more:
            reported = f". It asks for something that is no key, such as a password or a second factor{reported}"
            hint = (
                "harvestd uses keys alone: see PubkeyAuthentication and AuthenticationMethods of the box's sshd_config"
            )
        return AuthenticationRefused(
            f"{target}: the host refused to log in {user}. Keys offered: {tried}{left_out}{reported}",
            hint=f"the host's own words come first; else {hint}" if said else hint,
        )


def _address(target: Target) -> str:
    port = f"-p {target.port} " if target.port not in {0, 22} else ""
    return f"{port}{target.user}@{target.address}" if target.user else f"{port}{target.address}"


class _Files(Immutable):
    named: tuple[KeyFile, ...]
    certificates: tuple[Certificate, ...]
    warnings: tuple[str, ...]


def read_files(target: Target, config: ResolvedConfig) -> _Files:
    """Return the content of the identity files and certificates for a host; blocks."""
    certificates, warnings = read_certificates(target, config.certificate_files)
    paths = config.identity_files if config.identity_files is not None else _default_files(target)
    named = tuple(read_key_file(target, path, certificates) for path in paths)
    return _Files(named, certificates, (*warnings, *(each for file in named for each in file.warnings)))


def _default_files(target: Target) -> list[Path]:
    directory = Path.home() / ".ssh"
    names = (*target.default_identity_files, *(directory / name for name in _DEFAULT_NAMES))
    return [path for path in names if path.exists()]


@asynccontextmanager
async def identities(target: Target, config: ResolvedConfig) -> AsyncIterator[Identities]:
    """Yield the keys to offer to `target`; those of the agent work only within this context.

    Raise `AuthenticationRefused` where there is no key to offer at all, `Retry` where an agent did not answer and there
    is no other key, `Short` where this machine has no descriptor left to open one.
    """
    files = await in_thread(read_files, target, config)
    _warn(target, files.warnings)
    socket = _socket(target, config)
    agent = asyncssh.SSHAgentClient(socket) if socket else None
    try:
        timeout = target.connect_timeout.total_seconds() / 2
        held = await keys_of(agent, socket, timeout) if agent else Held()
        found = _chosen(target, config, files, held, has_agent=agent is not None)
        if not found.keys and held.silent:
            raise Retry(
                f"{target}: there is no key to log in with: {', '.join(found.unusable)}",
                hint="does the agent wait for a person? ssh-add -l shows whether it answers; it has half of "
                "ssh.connect_timeout for that",
            )
        if not found.keys:
            raise AuthenticationRefused(
                f"{target}: there is no key to log in with"
                + (f": {', '.join(found.unusable)}" if found.unusable else ""),
                hint="set ssh.identity_files, or load a key into the agent: ssh-add",
            )
        yield found
    finally:
        if agent:
            agent.close()


def _socket(target: Target, config: ResolvedConfig) -> str:
    if not target.agent:
        return ""
    return os.environ.get(AGENT_VARIABLE, "") if config.agent_socket is None else config.agent_socket


def _warn(target: Target, warnings: Iterable[str]) -> None:
    for message in warnings:
        if message not in _warned:
            _warned.add(message)
            get_logger().warning(Event.SSH_KEY_WARNING, host=target.called, message=message)


def _chosen(target: Target, config: ResolvedConfig, files: _Files, held: Held, *, has_agent: bool) -> Identities:
    """Return the keys in the order in which they are offered."""
    keys: list[asyncssh.SSHKeyPair] = []
    tried: list[str] = []
    unusable: list[str] = []
    rest = list(held.keys)
    no_agent = ", no agent is used" if not target.agent else f", there is no agent ({AGENT_VARIABLE})"
    for file in files.named:
        of_agent = [pair for pair in rest if _key_blob(pair) == file.blob]
        rest = [pair for pair in rest if _key_blob(pair) != file.blob]
        if file.pairs:
            keys += file.pairs
            tried.append(str(file.path))
        elif of_agent:
            keys += _certified(of_agent, files.certificates)
            tried.append(f"{fingerprint(of_agent[0].public_data)} of the agent")
        else:
            needs_agent = file.reason == LOCKED and not has_agent
            unusable.append(f"{file.path} ({file.reason}{no_agent if needs_agent else ''})")
    if not config.identities_only:
        # sshd counts each key as a try and allows few tries; an agent may hold more keys than that.
        more = rest[: max(0, _MOST_KEYS - len(keys))]
        keys += _certified(more, files.certificates)
        tried += [f"{fingerprint(pair.public_data)} of the agent" for pair in more]
        if len(rest) > len(more):
            unusable.append(f"{len(rest) - len(more)} further keys of the agent (name one by its .pub file)")
    if held.silent:
        unusable.append(f"the keys of the agent (it {held.silent})")
    return Identities(tuple(keys), tuple(tried), tuple(unusable))


def _key_blob(pair: asyncssh.SSHKeyPair) -> bytes:
    """Return the public key of a pair, without the certificate that an agent may hold for it."""
    if b"-cert-" not in pair.algorithm:
        return pair.public_data
    line = pair.algorithm + b" " + base64.b64encode(pair.public_data)
    try:
        return asyncssh.import_certificate(line).key.public_data
    except ValueError:
        return pair.public_data


def _certified(pairs: Iterable[asyncssh.SSHKeyPair], certificates: Iterable[Certificate]) -> list[asyncssh.SSHKeyPair]:
    """Return an agent's keys, each after its copies with the certificates that belong to it."""
    found: list[asyncssh.SSHKeyPair] = []
    for pair in pairs:
        for certificate in certificates:
            if certificate.content.key.public_data == pair.public_data:
                with_certificate = copy(pair)
                with_certificate.set_certificate(certificate.content)
                found.append(with_certificate)
        found.append(pair)
    return found
