"""How the daemon is doing, in one line for a person: kept by those who work, read by whoever reports."""

from dataclasses import dataclass, field
from datetime import datetime

from harvestd.harvest.monitor import Silent


@dataclass
class Tally(Silent):
    """Counts what this process saw; nothing of it outlives the process."""

    connected: set[str] = field(default_factory=set)
    """Names of hosts whose link is up."""
    files: int = 0
    """Put at their places since the start."""
    last_success: datetime | None = None
    """When a look at any host, and all that it asked for at once, was last done."""

    def settled(self, host: str, files: int) -> None:  # noqa: ARG002  (one line speaks of all hosts)
        """Count them."""
        self.files += files

    def line(self, hosts: int) -> str:
        """Give the line, for so many hosts in all."""
        last = f"last success {self.last_success:%Y-%m-%d %H:%M:%S %Z}" if self.last_success else "no success yet"
        return f"{len(self.connected)} of {hosts} hosts connected; {last}; {self.files} files since the start"
