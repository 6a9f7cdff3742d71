"""Collect facts about the machine."""
# pathlib has no directory handles:
# ruff: noqa: PTH123, PTH208

import os
import sys
import threading
import time
from contextlib import suppress

from harvestd.remote.probe.program.places import to_raw, to_text
from harvestd.remote.probe.program.wire import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Without a persistent driver each call initialises all GPUs, which takes many seconds on a machine of eight.
NVIDIA_SECONDS = 45.0
WAITED_SECONDS = 1.0
NVIDIA_GPUS = "/proc/driver/nvidia/gpus"
MOST_LINES = 64
MOST_BYTES = 4096
LONGEST_OUTPUT = 300
# NVIDIA's and AMD's devices: only their own tools can report what runs on them.
GPU_DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/proc/driver/nvidia", "/dev/kfd")
PYTHON = ".".join(str(part) for part in sys.version_info[:3])


def nvidia_smi() -> str:
    """Return the path of nvidia-smi; empty where there is none."""
    for directory in [*os.environ.get("PATH", "").split(":"), "/usr/bin"]:
        program = directory + "/nvidia-smi"
        if directory.startswith("/") and os.access(program, os.X_OK):
            return program
    return ""


def gpu_names(waiting: "Callable[[], None]") -> "list[str]":
    """Return one name for each GPU, by nvidia-smi or, where that fails or hangs, by the driver's entries in /proc."""
    program = nvidia_smi()
    lines = lines_from(program, "--query-gpu=name", waiting, NVIDIA_SECONDS)[0] if program else []
    return names_by_driver() if lines is None else lines


def names_by_driver() -> "list[str]":
    """Return the names of the machine's GPUs by the driver's entries in /proc; none where there are no entries."""
    names = []
    try:
        for gpu in sorted(os.listdir(NVIDIA_GPUS))[:MOST_LINES]:
            with open(f"{NVIDIA_GPUS}/{gpu}/information", "rb") as file:
                lines = to_text(file.read(MOST_BYTES)).splitlines()
            names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    except OSError:
        return []
    return names


def gpu_processes(waiting: "Callable[[], None]", seconds: float = NVIDIA_SECONDS) -> "tuple[int | None, str]":
    """Count the processes on all GPUs, 0 without GPUs; None and the reason where nvidia-smi does not report them."""
    program = nvidia_smi()
    if not program:
        return (None, "there is no nvidia-smi to ask") if any(map(os.path.exists, GPU_DEVICES)) else (0, "")
    lines, why = lines_from(program, "--query-compute-apps=pid", waiting, seconds)
    if lines is None or not all(line.isdigit() for line in lines):
        return None, why or "nvidia-smi says " + "; ".join(lines or [])[:LONGEST_OUTPUT]
    return len(lines), ""


def lines_from(
    program: str, question: str, waiting: "Callable[[], None]", seconds: float
) -> "tuple[list[str] | None, str]":
    """Return the output lines of nvidia-smi, calling `waiting` meanwhile.

    None and the reason where it hangs or fails.
    """
    import subprocess  # noqa: PLC0415  (expensive, and not needed where there is no nvidia-smi)

    command = [program, question, "--format=csv,noheader"]
    try:
        with open(os.devnull, "rb") as null:
            running = subprocess.Popen(command, stdin=null, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603  (no shell, an absolute path)
    except OSError as e:
        return None, f"nvidia-smi does not start: {e.strerror}"
    output = None
    until = time.monotonic() + seconds
    while output is None and time.monotonic() < until:
        try:
            output = running.communicate(timeout=WAITED_SECONDS)
        except subprocess.TimeoutExpired:
            waiting()
    if output is None:
        # Do not wait long after that: a hanging driver keeps it alive past SIGKILL.
        running.kill()
        with suppress(subprocess.TimeoutExpired):
            running.wait(timeout=WAITED_SECONDS)
        for pipe in (running.stdout, running.stderr):
            pipe.close()  # type: ignore[union-attr]
        return None, f"nvidia-smi did not answer within {seconds:g} s, see limits.inspect_time"
    if running.returncode:
        words = " ".join(to_text(b"\n".join(output)).split())[:LONGEST_OUTPUT]
        return None, f"nvidia-smi ended with status {running.returncode}: {words}"
    return [line.strip() for line in to_text(output[0]).splitlines() if line.strip()][:MOST_LINES], ""


def nothing() -> None:
    """Do nothing during a wait."""


class Facts:
    """Answers requests for facts about the machine; `free` is of the first root's file system."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.looking: list[threading.Thread] = []
        self.resolving: list[threading.Thread] = []
        self.kept: dict[tuple[int, int], float] = {}

    def answer(self, request: "dict[str, Any]") -> None:
        """Send the facts, or one of the slower answers: processes on the GPUs, circumstances, links."""
        asked = request["do"]
        if "program" in request:
            # The part of this program that was sent with the request.
            exec(request["program"], globals())  # noqa: S102
        if asked == "circumstances":
            facts = globals()["circumstances_within"](request, self.looking, self.kept, self.output)
        elif asked == "links":
            facts = globals()["links_within"](request, self.resolving, self.output)
        elif asked == "processes":
            facts = {"processes": gpu_processes(self.output.progress)[0]}
        else:
            facts = self.machine(request["roots"][:1])
        self.output.json(b"F", dict(facts, id=request["id"]))
        self.output.flush()

    def machine(self, roots: "list[str]") -> "dict[str, Any]":
        """Return the facts about the machine."""
        free = None
        for root in roots:
            try:
                s = os.statvfs(os.path.realpath(to_raw(root)))
            except OSError:
                break
            free = s.f_bavail * s.f_frsize
        return {
            "gpus": gpu_names(self.output.progress),
            "host": os.uname().nodename,
            "utc_offset": time.localtime().tm_gmtoff,
            "free": free,
            "python": PYTHON,
        }
