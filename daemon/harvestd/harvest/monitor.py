"""What a progress display wants to hear of a pass, and whoever counts what a daemon does."""

from typing import Protocol


class Monitor(Protocol):
    """Hears of bytes as they are planned and moved."""

    def planned(self, host: str, size: int, files: int) -> None:
        """Hear that a look found this much to fetch, beside what is under way."""

    def moved(self, host: str, size: int) -> None:
        """Hear that this many more bytes came from a host."""

    def resumed(self, host: str, size: int) -> None:
        """Hear that this many bytes came from a host before this process began, and are good still."""

    def settled(self, host: str, files: int) -> None:
        """Hear that this many more files are at their places."""

    def failed(self, host: str) -> None:
        """Hear that something could not be brought home this time."""

    def polled(self, host: str, seconds: float) -> None:
        """Hear that a look, and all that it asked for at once, took this long."""

    def host_failed(self, host: str) -> None:
        """Count an unexpected exception of a host's task."""

    def service_failed(self, service: str) -> None:
        """Count an unexpected exception of a service beside the hosts."""


class Silent:
    """Shows nothing."""

    def planned(self, host: str, size: int, files: int) -> None:
        """Ignore it."""

    def moved(self, host: str, size: int) -> None:
        """Ignore it."""

    def resumed(self, host: str, size: int) -> None:
        """Ignore it."""

    def settled(self, host: str, files: int) -> None:
        """Ignore it."""

    def failed(self, host: str) -> None:
        """Ignore it."""

    def polled(self, host: str, seconds: float) -> None:
        """Ignore it."""

    def host_failed(self, host: str) -> None:
        """Ignore it."""

    def service_failed(self, service: str) -> None:
        """Ignore it."""
