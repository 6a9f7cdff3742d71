"""What the machine says of itself."""
# pathlib has no directory handles:
# ruff: noqa: PTH123

import os
import sys
import threading
import time

from harvestd.remote.probe.program.places import to_raw, to_text
from harvestd.remote.probe.program.wire import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NVIDIA_SECONDS = 5.0
MOST_LINES = 64
# /dev/nvidia* and AMD's: what runs there nobody but their own tools can tell.
GPU_DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/proc/driver/nvidia", "/dev/kfd")
PYTHON = ".".join(str(part) for part in sys.version_info[:3])


def nvidia_smi() -> str:
    """Give the path of nvidia-smi; empty where there is none."""
    for directory in [*os.environ.get("PATH", "").split(":"), "/usr/bin"]:
        program = directory + "/nvidia-smi"
        if directory.startswith("/") and os.access(program, os.X_OK):
            return program
    return ""


def gpu_names() -> "list[str]":
    """Give one name for each GPU, none where nvidia-smi is missing or hangs."""
    program = nvidia_smi()
    return (lines_from(program, "--query-gpu=name") or []) if program else []


def gpu_processes() -> "int | None":
    """Count the processes on all GPUs; 0 where there are none, None where nvidia-smi does not say, or is missing."""
    program = nvidia_smi()
    if not program and any(map(os.path.exists, GPU_DEVICES)):
        return None
    lines = lines_from(program, "--query-compute-apps=pid") if program else []
    return None if lines is None or not all(line.isdigit() for line in lines) else len(lines)


def lines_from(program: str, question: str) -> "list[str] | None":
    """Ask nvidia-smi; None where it hangs or fails."""
    import subprocess  # noqa: PLC0415  (dear, and most of its time for nothing where there is no such program)

    command = [program, question, "--format=csv,noheader"]
    try:
        with open(os.devnull, "r+b") as null:
            running = subprocess.Popen(command, stdin=null, stdout=subprocess.PIPE, stderr=null)  # noqa: S603  (no shell, an absolute path)
            try:
                text, _ = running.communicate(timeout=NVIDIA_SECONDS)
            except subprocess.TimeoutExpired:
                # Not waited for after that: a hanging driver keeps it alive past SIGKILL.
                running.kill()
                return None
    except OSError:
        return None
    if running.returncode:
        return None
    return [line.strip() for line in to_text(text).splitlines() if line.strip()][:MOST_LINES]


class Facts:
    """Answers questions about the machine; `free` is of the first root's file system."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.looking: list[threading.Thread] = []

    def answer(self, request: "dict[str, Any]") -> None:
        """Send the facts, or what is asked for alone because it takes its time: what runs on the GPUs, and the rest."""
        asked = request["do"]
        if asked == "circumstances":
            # The part of this program that came with the question.
            exec(request["program"], globals())  # noqa: S102
            facts = globals()["circumstances_within"](request, self.looking)
        elif asked == "processes":
            facts = {"processes": gpu_processes()}
        else:
            facts = self.machine(request["roots"][:1])
        self.output.json(b"F", dict(facts, id=request["id"]))
        self.output.flush()

    def machine(self, roots: "list[str]") -> "dict[str, Any]":
        """Give what the machine is."""
        free = None
        for root in roots:
            try:
                s = os.statvfs(os.path.realpath(to_raw(root)))
            except OSError:
                break
            free = s.f_bavail * s.f_frsize
        return {
            "gpus": gpu_names(),
            "host": os.uname().nodename,
            "utc_offset": time.localtime().tm_gmtoff,
            "free": free,
            "python": PYTHON,
        }
