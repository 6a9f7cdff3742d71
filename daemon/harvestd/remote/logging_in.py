"""Logging in without two questions whose answers are known: each costs a round trip on every connection.

May we log in? Every server says yes, and takes what comes behind the question in its turn. Would this key do? That
spares a person who has to confirm or to touch a key, so it is still asked of an agent's keys; those from files sign by
themselves. asyncssh has no option for either: what it does is wrapped, and left alone where a later one does it
elsewhere.
"""

from functools import cache
from typing import Any

from asyncssh import SSHClientConnection, auth
from asyncssh.public_key import SSHLocalKeyPair

_METHOD = b"publickey"


@cache
def sign_at_once() -> None:
    """Have the log-ins of this process begin with a signature."""
    handlers: dict[bytes, Any] = getattr(auth, "_client_auth_handlers", {})
    theirs = handlers.get(_METHOD)
    if not hasattr(theirs, "_send_signed_request"):
        return

    class SignsAtOnce(theirs):  # type: ignore[misc, valid-type]  # of whatever class this asyncssh has
        """As asyncssh's, but for a question that a signature answers as well."""

        async def send_request(self, *words: bytes, key: object = None, trivial: bool = True) -> None:
            if key is None and isinstance(getattr(self, "_keypair", None), SSHLocalKeyPair):
                await self._send_signed_request()
            else:
                await super().send_request(*words, key=key, trivial=trivial)

    handlers[_METHOD] = SignsAtOnce


def begin_at_once(connection: SSHClientConnection) -> None:
    """Have a connection, before its key exchange, begin to log in right behind the request that it may."""
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
            # That is the answer to the request. Whatever begins another time is no repetition.
            connection.try_next_auth = begin  # type: ignore[method-assign]

    connection.send_service_request = ask_and_begin  # type: ignore[method-assign]
    connection.try_next_auth = begun  # type: ignore[method-assign]
