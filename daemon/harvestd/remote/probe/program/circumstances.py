"""What speaks for or against switching the machine off, beside its trees."""
# pathlib has no directory handles:
# ruff: noqa: PTH123

import os
import threading

from harvestd.remote.probe.program.belongings import outside, walked
from harvestd.remote.probe.program.checkouts import checkouts
from harvestd.remote.probe.program.facts import gpu_processes
from harvestd.remote.probe.program.places import Refused, root_handle
from harvestd.remote.probe.program.sessions import gpu_users, log_ins, processes_now, transfers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Beyond all the deadlines of its parts: then something hangs that no deadline reaches.
ALL_SECONDS = 45.0
MACHINE_ID = "/etc/machine-id"
MACHINE_ID_CHARACTERS = 64


def machine_id() -> str:
    """Give the machine's id; empty where it has none."""
    try:
        with open(MACHINE_ID, "rb") as file:
            return file.read(MACHINE_ID_CHARACTERS).decode("ascii", "replace").strip()
    except OSError:
        return ""


def device_of(root: str) -> "int | None":
    """Give the number of the device that a root lies on; None where it is not there."""
    try:
        handle = root_handle(root)
    except (OSError, Refused):
        return None
    try:
        return os.fstat(handle).st_dev
    finally:
        os.close(handle)


def circumstances(request: "dict[str, Any]") -> "dict[str, Any]":
    """Look into all of it; `trees` are those that are watched, `lately` is a number of seconds."""
    processes = processes_now()
    near, far = walked(request)
    held = checkouts(near)
    on_gpus = gpu_processes()
    return {
        "machine": machine_id(),
        "host": os.uname().nodename,
        "processes": None if on_gpus is None else max(on_gpus, gpu_users(processes)),
        "log_ins": log_ins(processes),
        "transfers": transfers(processes),
        "devices": [device_of(root) for root in request["roots"]],
        "outside": outside(near, far),
        "checkouts": held,
    }


def circumstances_within(request: "dict[str, Any]", looking: "list[threading.Thread]") -> "dict[str, Any]":
    """As `circumstances`, in a thread of its own; where a file system holds that one, nobody can tell.

    `looking` keeps it: while it hangs no other is started.
    """
    told: list[dict[str, Any]] = []
    looking[:] = [thread for thread in looking if thread.is_alive()]
    if not looking:
        looking.append(threading.Thread(target=lambda: told.append(circumstances(request)), daemon=True))
        looking[0].start()
        looking[0].join(ALL_SECONDS)
    unknown = {"machine": machine_id(), "host": os.uname().nodename, "devices": [None for _ in request["roots"]]}
    return told[0] if told else unknown
