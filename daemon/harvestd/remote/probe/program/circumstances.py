"""Collect the evidence for or against terminating the machine, beside its trees."""
# pathlib has no directory handles:
# ruff: noqa: PTH123

import os
import threading
import time

from harvestd.remote.probe.program.belongings import GIT_SHARE, LIMITED, outside, walked
from harvestd.remote.probe.program.carriers import SAMPLE_SECONDS, at_work, carriers_now
from harvestd.remote.probe.program.checkouts import checkouts
from harvestd.remote.probe.program.facts import gpu_processes, nothing
from harvestd.remote.probe.program.links import wait_for
from harvestd.remote.probe.program.places import Refused, root_handle, to_raw
from harvestd.remote.probe.program.sessions import gpu_users, log_ins, processes_now
from harvestd.remote.probe.program.wire import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Share of the time for a verdict's whole request, beside those of `belongings`.
GPU_SHARE = 0.15
MACHINE_ID = "/etc/machine-id"
MACHINE_ID_CHARACTERS = 64


def machine_id() -> str:
    """Return the machine's id; empty where it has none."""
    try:
        with open(MACHINE_ID, "rb") as file:
            return file.read(MACHINE_ID_CHARACTERS).decode("ascii", "replace").strip()
    except OSError:
        return ""


def device_of(root: str) -> "int | None":
    """Return the device number of a root; None where the root does not exist."""
    try:
        handle = root_handle(root)
    except (OSError, Refused):
        return None
    try:
        return os.fstat(handle).st_dev
    finally:
        os.close(handle)


def activity(kept: "dict[tuple[int, int], float]", roots: "list[str]", seconds: float) -> "dict[str, Any]":
    """Return the activity on the machine: programs on the GPUs, log-ins, and transfer programs.

    `seconds`: the time for a verdict's whole request.
    """
    began = time.monotonic()
    processes = processes_now()
    carriers = carriers_now(processes)
    on_gpus, why = gpu_processes(nothing, GPU_SHARE * seconds)
    if carriers:
        time.sleep(max(0.0, began + SAMPLE_SECONDS - time.monotonic()))
    places = [os.path.realpath(to_raw(root)) for root in roots]
    return dict(
        at_work(carriers, places, kept),
        processes=None if on_gpus is None else max(on_gpus, gpu_users(processes)),
        gpus_unclear=why,
        log_ins=log_ins(processes),
    )


def circumstances(request: "dict[str, Any]", kept: "dict[tuple[int, int], float]") -> "dict[str, Any]":
    """Collect all evidence; `trees` are the watched ones, `lately` is a number of seconds.

    Where `lately` is 0 only the machine and its activity are checked: no file changed within no time.
    """
    found = dict(
        activity(kept, request["roots"], request["seconds"]),
        machine=machine_id(),
        host=os.uname().nodename,
        devices=[device_of(root) for root in request["roots"]],
    )
    if request["lately"]:
        near, far = walked(request)
        found["checkouts"], found["unclear"] = checkouts(near, GIT_SHARE * request["seconds"])
        found["outside"] = outside(near, far)
    return found


def circumstances_within(
    request: "dict[str, Any]",
    looking: "list[threading.Thread]",
    kept: "dict[tuple[int, int], float]",
    output: Output,
) -> "dict[str, Any]":
    """Collect the evidence in a thread of its own; what takes longer than the time limit is unknown.

    `looking` keeps the thread: while a file system blocks it, no other is started. `kept` carries state from one answer
    to the next.
    """
    found: list[dict[str, Any]] = []
    looking[:] = [thread for thread in looking if thread.is_alive()]
    if not looking:
        looking.append(threading.Thread(target=lambda: found.append(circumstances(request, kept)), daemon=True))
        looking[0].start()
        wait_for(looking[0], request["seconds"], output)
    unknown = {"machine": machine_id(), "host": os.uname().nodename, "devices": [None for _ in request["roots"]]}
    return found[0] if found else dict(unknown, unclear=f"it took longer than {request['seconds']:g} s" + LIMITED)
