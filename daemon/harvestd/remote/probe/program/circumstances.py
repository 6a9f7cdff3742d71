"""What speaks for or against switching the machine off, beside its trees."""
# pathlib has no directory handles:
# ruff: noqa: PTH123

import os

from harvestd.remote.probe.program.belongings import outside, walked
from harvestd.remote.probe.program.checkouts import checkouts
from harvestd.remote.probe.program.facts import gpu_processes
from harvestd.remote.probe.program.places import Refused, root_handle
from harvestd.remote.probe.program.sessions import gpu_users, log_ins, processes_now, transfers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
