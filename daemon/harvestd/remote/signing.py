"""Logging in with a key's signature at once, instead of asking first whether the key would do: a round trip less.

That question spares a person who has to confirm or to touch a key, so it is still asked of an agent's keys; those from
files sign by themselves. asyncssh has no option for it: its class for this way to log in is replaced by one that
differs in the first message alone, and left alone where a later asyncssh keeps it elsewhere.
"""

from functools import cache
from typing import Any

from asyncssh import auth
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
