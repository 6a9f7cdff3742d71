"""What the machine says of itself."""
# pathlib has no directory handles:
# ruff: noqa: PTH123

import os
import sys
import time

from harvestd.remote.probe.program.places import to_raw, to_text
from harvestd.remote.probe.program.wire import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NVIDIA_SECONDS = 5.0
PYTHON = ".".join(str(part) for part in sys.version_info[:3])


def gpu_names() -> "list[str]":
    """Give one name for each GPU, none where nvidia-smi is missing or hangs."""
    search = [*os.environ.get("PATH", "").split(":"), "/usr/bin"]
    for directory in search:
        program = directory + "/nvidia-smi"
        if directory.startswith("/") and os.access(program, os.X_OK):
            return names_from(program)
    return []


def names_from(program: str) -> "list[str]":
    """Ask nvidia-smi."""
    import subprocess  # noqa: PLC0415  (dear, and most of its time for nothing where there is no such program)

    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        with open(os.devnull, "r+b") as null:
            running = subprocess.Popen(command, stdin=null, stdout=subprocess.PIPE, stderr=null)  # noqa: S603  (no shell, an absolute path)
            try:
                text, _ = running.communicate(timeout=NVIDIA_SECONDS)
            except subprocess.TimeoutExpired:
                # Not waited for after that: a hanging driver keeps it alive past SIGKILL.
                running.kill()
                return []
    except OSError:
        return []
    return [line.strip() for line in to_text(text).splitlines() if line.strip()][:64]


class Facts:
    """Answers the question for facts; `free` is of the first root's file system."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def answer(self, request: "dict[str, Any]") -> None:
        """Send the facts."""
        free = None
        for root in request["roots"][:1]:
            try:
                s = os.statvfs(os.path.realpath(to_raw(root)))
            except OSError:
                break
            free = s.f_bavail * s.f_frsize
        facts = {
            "id": request["id"],
            "gpus": gpu_names(),
            "host": os.uname().nodename,
            "utc_offset": time.localtime().tm_gmtoff,
            "free": free,
            "python": PYTHON,
        }
        self.output.json(b"F", facts)
        self.output.flush()
