"""One pass over hosts, for the commands that make one: run it with its progress, print its failures, and rate it.

`once` and `plan` make a pass over the hosts of their arguments, `fetch` over the hosts that show what was requested.
"""

import sys
from collections.abc import Sequence

from harvestd.cli.errors import print_error, print_warning
from harvestd.cli.flags import Flags
from harvestd.cli.output import units
from harvestd.cli.output.pass_pages import progress_of
from harvestd.errors import DiskFull, ExitCode, HarvestError, Retry
from harvestd.harvest.host import passes
from harvestd.harvest.host.passes import HostOutcome
from harvestd.inventory.host import Host
from harvestd.settings import Settings
from harvestd.telemetry.log import configure


async def visit(settings: Settings, flags: Flags, hosts: Sequence[Host]) -> list[HostOutcome]:
    """Make a pass over these hosts with a progress display on standard error; raise `Fatal` and `HaltedForSafety`."""
    with progress_of([host.name for host in hosts], sys.stderr) as (monitor, stream):
        configure(flags.form_for_people, flags.log_level or "warning", stream=stream)
        return await passes.once(settings, hosts, monitor)


def pass_exit_code(outcomes: Sequence[HostOutcome], failures: Sequence[Retry] = ()) -> ExitCode:
    """Return the most severe result of a pass; `failures` are those of the providers of hosts."""
    results = [outcome.result for outcome in outcomes if outcome.result]
    if any(result.disk_full for result in results):
        return ExitCode.DISK_FULL
    if (outcomes or failures) and all(outcome.error for outcome in outcomes):
        return ExitCode.NO_HOST
    incomplete = any(result.failed or result.conflicts for result in results)
    if failures or incomplete or any(outcome.error or outcome.missing_roots for outcome in outcomes):
        return ExitCode.PARTIAL
    return ExitCode.OK


def print_failures(settings: Settings, outcomes: Sequence[HostOutcome], failures: Sequence[Retry]) -> None:
    """Print the general failures of a pass on standard error."""
    for failure in failures:
        print_error(failure)
    if not outcomes and not failures:
        print_warning(
            "no hosts are known",
            "add a [[hosts]] table or a file of targets to the configuration, or enable [lambda_cloud]",
        )
    for outcome in outcomes:
        if outcome.error is not None:
            print_error(outcome.error)
        for root in sorted(outcome.missing_roots):
            print_error(
                Retry(
                    f"{outcome.host.name}: the root {root} does not exist on the box",
                    hint="is its file system mounted? Otherwise set remote.roots, or roots in the host's table",
                )
            )
    if any(outcome.result and outcome.result.disk_full for outcome in outcomes):
        print_error(_no_room(settings))


def _no_room(settings: Settings) -> HarvestError:
    floor = units.size(settings.limits.free_space)
    return DiskFull(
        f"not everything was fetched: {settings.data_root} would have less than limits.free_space ({floor}) left",
        hint="make room there, or set a lower limits.free_space",
    )
