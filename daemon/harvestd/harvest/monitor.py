"""The interface of progress displays and metrics, and its null implementation."""

from typing import Protocol


class ProgressListener(Protocol):
    """Receives progress and failures as they happen; sizes in bytes."""

    def planned(self, host: str, size: int, files: int) -> None:
        """Count what a scan found to fetch, apart from what is being fetched already."""

    def moved(self, host: str, size: int) -> None:
        """Count `size` more bytes received from a host."""

    def resumed(self, host: str, size: int) -> None:
        """Count `size` bytes that were received before this process began, and are still valid."""

    def settled(self, host: str, files: int) -> None:
        """Count `files` more published files."""

    def failed(self, host: str) -> None:
        """Count a file that could not be fetched this time."""

    def polled(self, host: str, seconds: float) -> None:
        """Record the seconds that a scan, and everything that it triggered at once, took."""

    def host_failed(self, host: str) -> None:
        """Count an unexpected exception of a host's task."""

    def service_failed(self, service: str) -> None:
        """Count an unexpected exception of a service beside the hosts."""


class NullListener:
    """Ignores everything."""

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
