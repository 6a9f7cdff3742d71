"""With which private keys we log in: the operator's files, then those of the agent.

Key material never reaches an error or a log: only paths and fingerprints do.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import asyncssh

from harvestd.convention.values import Immutable
from harvestd.remote.failures import AuthenticationRefused, raise_if_short
from harvestd.remote.host_keys import fingerprint
from harvestd.remote.target import Target

_MOST_KEYS = 5
"""sshd closes the connection after MaxAuthTries, 6 by default: each key offered is one try."""
_DEFAULT_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")


class Identities(Immutable):
    """The keys to offer, and what to tell the operator when none of them is accepted."""

    keys: tuple[asyncssh.SSHKeyPair, ...]
    tried: tuple[str, ...]
    """How each key is called in an error."""
    unusable: tuple[str, ...]
    """Files that could not be offered, each with the reason."""

    def refused(self, target: Target) -> AuthenticationRefused:
        """Give the error for a host that accepted none of the keys."""
        tried = ", ".join(self.tried) or "none"
        left_out = f"; not offered: {', '.join(self.unusable)}" if self.unusable else ""
        user = target.user or "the local account's name"
        return AuthenticationRefused(
            f"{target}: the host refused to log in {user}. Keys offered: {tried}{left_out}",
            hint=f"check ssh.user and ssh.identity_files, or give the key to the box: ssh-copy-id {_address(target)}",
        )


def _address(target: Target) -> str:
    port = f"-p {target.port} " if target.port not in {0, 22} else ""
    return f"{port}{target.user}@{target.address}" if target.user else f"{port}{target.address}"


def _public_blob(path: Path) -> bytes | None:
    """Give the public half that lies beside a private key, None without one."""
    try:
        return asyncssh.read_public_key(path.with_name(path.name + ".pub")).public_data
    except (OSError, asyncssh.KeyImportError):
        return None


def _load(target: Target, path: Path) -> tuple[list[asyncssh.SSHKeyPair], str]:
    """Give the keys of one file, or none and the reason; raises `Short`."""
    try:
        return list(asyncssh.load_keypairs([str(path)])), ""
    except FileNotFoundError:
        return [], "does not exist"
    except OSError as e:
        raise_if_short(target, e)
        return [], (e.strerror or "can't be read").lower()
    except asyncssh.KeyEncryptionError:
        return [], "has a passphrase that can't be asked for here"
    except asyncssh.KeyImportError as e:
        # asyncssh reports a missing passphrase as either class, told apart by their text only.
        return [], "has a passphrase that can't be asked for here" if "assphrase" in str(e) else "is no private key"


class _Files(Immutable):
    keys: tuple[asyncssh.SSHKeyPair, ...]
    tried: tuple[str, ...]
    locked: tuple[tuple[Path, str, bytes | None], ...]
    """Files that were no use: path, reason and the public half, by which the agent may know them."""


def _read_files(target: Target, paths: Sequence[Path]) -> _Files:
    keys: list[asyncssh.SSHKeyPair] = []
    tried: list[str] = []
    locked = []
    for path in (given.expanduser() for given in paths):
        loaded, reason = _load(target, path)
        keys += loaded
        if loaded:
            tried.append(str(path))
        else:
            locked.append((path, reason, _public_blob(path)))
    return _Files(tuple(keys), tuple(tried), tuple(locked))


def _default_files() -> list[Path]:
    return [path for name in _DEFAULT_NAMES if (path := Path.home() / ".ssh" / name).exists()]


@asynccontextmanager
async def identities(target: Target, configured: Sequence[Path] = ()) -> AsyncIterator[Identities]:
    """Give the keys to offer to `target`; those of the agent work only within this context.

    `configured` are IdentityFile lines of the configuration files, for a target without files of its own. Raises
    `AuthenticationRefused` where there is no key to offer at all, `Short` where none could be opened now.
    """
    paths = list(target.identity_files) or list(configured) or await anyio.to_thread.run_sync(_default_files)
    files = await anyio.to_thread.run_sync(_read_files, target, paths)
    socket = os.environ.get("SSH_AUTH_SOCK", "") if target.agent else ""
    agent = asyncssh.SSHAgentClient(socket) if socket else None
    try:
        held = await _agent_keys(agent) if agent else []
        known = {blob for _, _, blob in files.locked if blob}
        # The agent's keys that the operator named come first: an agent may hold more keys than sshd has patience for.
        held.sort(key=lambda pair: pair.public_data not in known)
        have = {pair.public_data for pair in files.keys}
        extra = [pair for pair in held if pair.public_data not in have]
        extra = extra[: max(0, _MOST_KEYS - len(files.keys))]
        offered = {pair.public_data for pair in extra}
        no_agent = "" if agent else ", no agent is used" if not target.agent else ", there is no agent (SSH_AUTH_SOCK)"
        found = Identities(
            keys=(*files.keys, *extra),
            tried=(*files.tried, *(f"{fingerprint(pair.public_data)} of the agent" for pair in extra)),
            unusable=tuple(
                f"{path} ({reason}{no_agent if 'passphrase' in reason else ''})"
                for path, reason, blob in files.locked
                if blob not in offered
            ),
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


async def _agent_keys(agent: asyncssh.SSHAgentClient) -> list[asyncssh.SSHKeyPair]:
    try:
        return list(await agent.get_keys())
    except ValueError:
        # asyncssh's word for an agent that does not answer: there are no keys then, and the error names the files.
        return []
