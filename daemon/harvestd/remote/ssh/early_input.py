"""What a command is to read, sent right behind the request to execute it: a round trip less on each connection.

OpenSSH's server opens a session's channel without any window, and grants 2 MiB in the moment in which it executes the
command. What arrives behind that request finds the window open, though the grant is still on its way to us; where the
command is refused, it is dropped. RFC 4254 (5.2) wants a grant waited for, so that OpenSSH alone hears anything early,
no more than one packet, which is taken off the grant before anything else is sent: what exceeds a window, OpenSSH
drops. asyncssh has no option for it: where a later one keeps a channel's window elsewhere, we wait as ever.
"""

from asyncssh import SSHClientChannel
from asyncssh.constants import MSG_CHANNEL_DATA
from asyncssh.packet import String

_OPENSSH = "SSH-2.0-OpenSSH_"


class EarlyWords:
    """The first words on one channel, on which nobody else says anything until the command is executed."""

    def __init__(self, channel: SSHClientChannel[bytes]) -> None:
        """Made when the channel is open, before anything else is sent on it."""
        self._channel = channel
        self._owed = 0
        self._rest = b""

    def send(self, words: bytes) -> None:
        """Send what the command is to read first, once it was asked for. Raises `OSError` where the channel closes."""
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
        """Take what was sent early off the grant, and send the rest: when the command is said to be executed."""
        if self._owed:
            # A grant of less than that was none of OpenSSH's: what it means, only the next one tells.
            self._channel._send_window = max(0, self._channel._send_window - self._owed)  # noqa: SLF001  (see above)
            self._owed = 0
        if self._rest:
            self._channel.write(self._rest)
            self._rest = b""
