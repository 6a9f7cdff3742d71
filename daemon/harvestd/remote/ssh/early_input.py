"""Send a command's first input directly behind the request to execute it, which saves a round trip a connection.

OpenSSH's server opens a session's channel with a window of zero, and grants 2 MiB when it executes the command. Data
that arrives behind that request finds the window open, though the grant is still on its way to the client. Where the
command is refused, the data is dropped.

RFC 4254 (5.2) requires waiting for a grant, so only OpenSSH is sent anything early, and no more than one packet. It is
deducted from the grant before anything else is sent: OpenSSH drops data beyond a window. asyncssh has no option for
this; where a later one stores a channel's window elsewhere, the input waits for the grant.
"""

from asyncssh import SSHClientChannel
from asyncssh.constants import MSG_CHANNEL_DATA
from asyncssh.packet import String

_OPENSSH = "SSH-2.0-OpenSSH_"


class EarlyWords:
    """The first input on one channel; no other data may be sent on it until the command is executed."""

    def __init__(self, channel: SSHClientChannel[bytes]) -> None:
        """Wrap a channel that is open and on which nothing else was sent."""
        self._channel = channel
        self._owed = 0
        self._rest = b""

    def send(self, words: bytes) -> None:
        """Send the command's first input after the request to execute it. Raise `OSError` where the channel closes."""
        room = self._room()
        if not room:
            self._channel.write(words)
            return
        early, self._rest = words[:room], words[room:]
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
