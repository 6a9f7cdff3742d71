"""Where and how much is measured: what was said on the command line, and what kind of machine this is."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import peers
from bench.ours import Program

_NO_DISK = frozenset({"tmpfs", "ramfs", "devtmpfs"})


@dataclass(frozen=True, slots=True)
class Laboratory:
    """What every scenario needs to know."""

    ram: Path
    """A directory of our own on a RAM disk, removed in the end."""
    disk: Path
    """A directory of our own that should lie on a disk."""
    harvestd: Program
    """What is measured."""
    runs: int = 5
    """How often everything is measured that takes seconds."""
    scale: float = 1.0
    """Below 1: a trial with fewer and smaller files, whose figures say nothing."""
    minutes: float = 2.0
    """How long an idle daemon is watched."""
    timeout: float = 60.0
    """Seconds that a peer gets that takes minutes."""

    def count(self, number: int) -> int:
        """Return how many there are in a full measurement, scaled."""
        return max(2, round(number * self.scale))


def filesystem(path: Path) -> str:
    """Return the kind of the file system that an existing directory lies on."""
    path = path.resolve()
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    covering = [(len(place), kind) for _, place, kind, *_ in mounts if path.is_relative_to(place)]
    # Of two at the same place the later one covers the earlier.
    return max(reversed(covering), key=lambda each: each[0])[1] if covering else "?"


def is_disk(path: Path) -> bool:
    """Return whether what is written there reaches a disk."""
    return filesystem(path) not in _NO_DISK


def conditions(laboratory: Laboratory) -> dict[str, object]:
    """Return what figures depend on, as JSON has it."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "harvestd": str(laboratory.harvestd.path),
        "commit": _commit(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "load": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "asyncssh": version("asyncssh"),
        "peers": peers.versions(),
        "ram": f"{laboratory.ram} ({filesystem(laboratory.ram)})",
        "disk": f"{laboratory.disk} ({filesystem(laboratory.disk)})",
        "runs": laboratory.runs,
        "scale": laboratory.scale,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")


def _commit() -> str:
    """Return the commit that is measured, marked where files differ from it; "?" outside a checkout."""
    if shutil.which("git") is None:
        return "?"
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    return done.stdout.strip() or "?"
