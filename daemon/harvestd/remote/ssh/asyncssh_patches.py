"""Reduce the round trips of asyncssh's log-in, on harvestd's own connections only.

Two requests have a known answer and cost a round trip each on every connection. A SERVICE_REQUEST for authentication is
accepted by every server, which processes what follows it in order. A query whether a public key would be accepted only
saves a person a confirmation or a touch, so it is kept for keys of an agent and dropped for keys from files.

An RSA key waits for the server's list of signature algorithms (EXT_INFO, RFC 8308). The list arrives at any time
between the server's NEWKEYS and its SERVICE_ACCEPT. Without it asyncssh signs with SHA-1, which current servers refuse.

asyncssh has no option for any of this. The methods of one connection are wrapped, never those of a class: the process
may use asyncssh for other purposes. Where a later asyncssh lacks these methods, it logs in without the changes.

Send a command's first input directly behind the request to execute it, which saves a round trip a connection.
OpenSSH's server opens a session's channel with a window of zero, and grants 2 MiB when it executes the command. Data
that arrives behind that request finds the window open, though the grant is still on its way to the client. Where the
command is refused, the data is dropped.

RFC 4254 (5.2) requires waiting for a grant, so only OpenSSH is sent anything early, and no more than one packet. It is
deducted from the grant before anything else is sent: OpenSSH drops data beyond a window. asyncssh has no option for
this; where a later one stores a channel's window elsewhere, the input waits for the grant.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

from asyncssh import SSHClientChannel, SSHClientConnection, SSHKeyPair
from asyncssh.agent import SSHAgentKeyPair
from asyncssh.constants import MSG_CHANNEL_DATA
from asyncssh.packet import String
from asyncssh.public_key import SSHLocalKeyPair

_METHOD = b"publickey"
_RSA = b"ssh-rsa"
"""The key type, and the signature algorithm with SHA-1."""
_RSA_UNTOLD = b"rsa-sha2-512"
"""The signature algorithm for a server that announces none: OpenSSH 7.2 and newer accept it."""


def is_rsa(pair: SSHKeyPair) -> bool:
    """Return whether a key pair's signature algorithm depends on what the server accepts."""
    return _RSA in pair.sig_algorithms


def with_fallbacks(pairs: Sequence[SSHKeyPair]) -> list[SSHKeyPair]:
    """Return the key pairs, those with RSA set to SHA-2 and followed by a copy that signs with SHA-1.

    The copy is for servers that announce no algorithms and support none with SHA-2; `speed_up` skips it for others.
    """
    found: list[SSHKeyPair] = []
    for pair in pairs:
        found.append(pair)
        if is_rsa(pair):
            old = copy(pair)
            pair.set_sig_algorithm(_RSA_UNTOLD)
            if not pair.has_cert:
                old.set_sig_algorithm(_RSA)
                found.append(old)
    return found


def speed_up(connection: SSHClientConnection, pairs: Sequence[SSHKeyPair]) -> None:
    """Wrap the log-in methods of a connection before its key exchange; `pairs` are the keys that it will offer."""
    _note_methods(connection)
    _skip_weak_copies(connection, pairs)
    _sign_at_once(connection)
    if pairs and not is_rsa(pairs[0]):
        _begin_at_once(connection)


def is_signing(connection: SSHClientConnection) -> bool:
    """Return whether a key of an agent was accepted and only the agent's signature is missing."""
    return bool(getattr(connection, "_harvestd_waits_for_agent", False))


def takes_no_keys(connection: SSHClientConnection) -> bool:
    """Return whether the server reported that no public key can continue the log-in."""
    return bool(getattr(connection, "_harvestd_takes_no_keys", False))


def _note_methods(connection: SSHClientConnection) -> None:
    """Record when the server's list of methods that can continue has none that is used here: for an error's text."""
    begin = getattr(connection, "try_next_auth", None)
    if begin is None:
        return

    def noted(*, next_method: bool = False) -> None:
        if not next_method and getattr(connection, "_auth_methods", None) == []:
            connection._harvestd_takes_no_keys = True  # type: ignore[attr-defined]  # noqa: SLF001
        begin(next_method=next_method)

    connection.try_next_auth = noted  # type: ignore[method-assign]


def _skip_weak_copies(connection: SSHClientConnection, pairs: Sequence[SSHKeyPair]) -> None:
    """Skip the SHA-1 copies of RSA keys where the server has announced its signature algorithms."""
    choose = getattr(connection, "_choose_signature_alg", None)
    if choose is None:
        return
    weak = {id(pair) for pair in pairs if is_rsa(pair) and not pair.has_cert and pair.sig_algorithm == _RSA}

    def choose_one(pair: Any) -> bool:  # noqa: ANN401  (asyncssh's own private signature)
        if id(pair) in weak and getattr(connection, "_server_sig_algs", None):
            return False
        return bool(choose(pair))

    connection._choose_signature_alg = choose_one  # type: ignore[method-assign, assignment]  # noqa: SLF001  (see the module)


def _sign_at_once(connection: SSHClientConnection) -> None:
    """Send a signature in place of the query whether a key from a file would be accepted."""
    send = getattr(connection, "send_userauth_request", None)
    if send is None:
        return

    async def send_or_sign(method: bytes, *data: bytes, key: Any = None, trivial: bool = True) -> None:  # noqa: ANN401
        handler = getattr(connection, "_auth", None)
        sign = getattr(handler, "_send_signed_request", None)
        is_query = method == _METHOD and key is None
        if is_query and sign is not None and isinstance(getattr(handler, "_keypair", None), SSHLocalKeyPair):
            await sign()
            return
        connection._harvestd_waits_for_agent = isinstance(key, SSHAgentKeyPair)  # type: ignore[attr-defined]  # noqa: SLF001
        await send(method, *data, key=key, trivial=trivial)
        connection._harvestd_waits_for_agent = False  # type: ignore[attr-defined]  # noqa: SLF001

    connection.send_userauth_request = send_or_sign  # type: ignore[method-assign]


def _begin_at_once(connection: SSHClientConnection) -> None:
    """Begin the log-in directly behind the service request, without waiting for its answer."""
    ask = getattr(connection, "send_service_request", None)
    begin = getattr(connection, "try_next_auth", None)
    if ask is None or begin is None:
        return

    def ask_and_begin(service: bytes) -> None:
        ask(service)
        begin()

    def begun(*, next_method: bool = False) -> None:
        if next_method:
            begin(next_method=True)
        else:
            # This call is asyncssh's reaction to SERVICE_ACCEPT. A later call is no repetition.
            connection.try_next_auth = begin  # type: ignore[method-assign]

    connection.send_service_request = ask_and_begin  # type: ignore[method-assign]
    connection.try_next_auth = begun  # type: ignore[method-assign]


_OPENSSH = "SSH-2.0-OpenSSH_"


class EarlyInput:
    """The first input on one channel; no other data may be sent on it until the command is executed."""

    def __init__(self, channel: SSHClientChannel[bytes]) -> None:
        """Wrap a channel that is open and on which nothing else was sent."""
        self._channel = channel
        self._owed = 0
        self._rest = b""

    def send(self, data: bytes) -> None:
        """Send the command's first input after the request to execute it. Raise `OSError` where the channel closes."""
        room = self._room()
        if not room:
            self._channel.write(data)
            return
        early, self._rest = data[:room], data[room:]
        self._owed = len(early)
        self._channel.send_packet(MSG_CHANNEL_DATA, String(early))

    def _room(self) -> int:
        version = str(self._channel.get_extra_info("server_version", ""))
        if not version.startswith(_OPENSSH) or getattr(self._channel, "_send_window", None) != 0:
            return 0
        return int(getattr(self._channel, "_send_pktsize", 0))

    def settle(self) -> None:
        """Deduct the early data from the grant and send the rest; call it when the command is reported as executed."""
        if self._owed:
            # A smaller grant is not OpenSSH's first one; only the next grant makes the window certain.
            self._channel._send_window = max(0, self._channel._send_window - self._owed)  # noqa: SLF001  (see above)
            self._owed = 0
        if self._rest:
            self._channel.write(self._rest)
            self._rest = b""
