"""A service manager as the daemon sees one: a socket that words come to."""

import os
import socket
from pathlib import Path

_LARGEST = 65_536


class Manager:
    """Records what the daemon sends, in order."""

    def __init__(self, place: str) -> None:
        """Listen at a path, or, with `@` before it, at an abstract name."""
        self.place = place
        self.words: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind("\0" + place[1:] if place.startswith("@") else place)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def hear(self) -> list[str]:
        """Take what was said since, and give everything so far."""
        while True:
            try:
                message = self._socket.recv(_LARGEST)
            except BlockingIOError:
                return self.words
            self.words += message.decode().splitlines()

    def count(self, word: str) -> int:
        """Return how often a word was said so far."""
        return self.hear().count(word)

    def status(self) -> str:
        """Return the newest line of status; empty where there is none."""
        lines = [word.removeprefix("STATUS=") for word in self.hear() if word.startswith("STATUS=")]
        return lines[-1] if lines else ""


def place_in(directory: Path, *, abstract: bool) -> str:
    """Return a name for a socket that nobody else has."""
    return f"@harvestd-test-{os.getpid()}-{directory.name}" if abstract else str(directory / "notify")
