"""What a progress display wants to hear of a pass. The daemon itself is content with events."""

from typing import Protocol


class Monitor(Protocol):
    """Hears of bytes as they are planned and moved."""

    def planned(self, host: str, size: int, files: int) -> None:
        """Hear that a look found this much to fetch, beside what is under way."""

    def moved(self, host: str, size: int) -> None:
        """Hear that this many more bytes came from a host."""

    def settled(self, host: str, files: int) -> None:
        """Hear that this many more files are at their places."""


class Silent:
    """Shows nothing."""

    def planned(self, host: str, size: int, files: int) -> None:
        """Ignore it."""

    def moved(self, host: str, size: int) -> None:
        """Ignore it."""

    def settled(self, host: str, files: int) -> None:
        """Ignore it."""
