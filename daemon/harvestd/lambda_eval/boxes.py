"""The host of a job: a known host with its address, otherwise one created from the address and [ssh]."""

import ipaddress

from harvestd.errors import ExitCode
from harvestd.harvest.host.passes import find_hosts
from harvestd.inventory.host import Host
from harvestd.lambda_eval.failures import SyncFailed
from harvestd.lambda_eval.job_files import Job
from harvestd.settings import Settings
from harvestd.telemetry.sanitize import escaped

SOURCE = "job"
"""The provider name of a host that only a job names."""


async def boxes_of(settings: Settings, job: Job) -> tuple[Host, ...]:
    """Return the hosts at a job's address: one, unless several answer there at different ports.

    Raise `SyncFailed` (5) where the job names no usable address.
    """
    written = [table.name for table in settings.hosts if table.address == job.address]
    found = await find_hosts(settings, written)
    known = tuple(host for host in found.hosts if host.address == job.address)
    return known or (_made_up(job),)


def _made_up(job: Job) -> Host:
    try:
        address = str(ipaddress.ip_address(job.address or ""))
    except ValueError:
        told = f"its lambda_ip is {escaped(job.address[:100])}" if job.address else "it has no lambda_ip"
        raise SyncFailed(f"the box of {job.id} is not known: {told}", exit_code=ExitCode.NO_HOST) from None
    # The cloud reuses addresses, so a host key is pinned for the job only; the address identifies the trees.
    return Host(
        identity=f"{SOURCE}:{job.id}",
        name=address.replace(":", "-").strip("-"),
        address=address,
        source=SOURCE,
        storage=f"address:{address}",
    )
