"""One pass over some hosts in parallel: with fetching (`once`), or only planning (`plan`).

Work on one host without a daemon: watched for as long as a command needs it, or scanned once. Both use the daemon's
own parts. Watching holds the data root, fetches what the host shows, and handles the requests that are made
meanwhile.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
from msgspec.structs import replace

from harvestd.bulkhead import described
from harvestd.catalogue.entries import FAILED, HostRecord
from harvestd.convention.structs import Immutable
from harvestd.errors import (
    ExitCode,
    Fatal,
    HaltedForSafety,
    HarvestError,
    HostFailed,
    HostQuarantined,
    Retry,
    unwrapped,
)
from harvestd.harvest.context import Context
from harvestd.harvest.fleet.connections import connected
from harvestd.harvest.fleet.fleet import Fleet
from harvestd.harvest.host.failures import PassResult
from harvestd.harvest.metrics import FleetMetrics, NullListener, ProgressListener
from harvestd.harvest.startup import open_context, open_read_only_context
from harvestd.harvest.sync import Broadcast
from harvestd.inventory.host import Host
from harvestd.inventory.providers import Providers, placed
from harvestd.planning.plan import Plan
from harvestd.safety.verdict import Reason, ReasonKind, Verdict, VerdictAnswer
from harvestd.settings import Settings
from harvestd.store.lock import HolderKind
from harvestd.store.root import DataRoot


class HostOutcome(Immutable):
    """The result of a single pass, or of a plan, for one host."""

    host: Host
    result: PassResult | None = None
    plan: Plan | None = None
    error: HarvestError | None = None
    """Why the host could not be read at all."""
    missing_roots: frozenset[str] = frozenset()
    """Configured roots that do not exist on the host."""
    seconds: float = 0.0
    """How long it took."""


class Found(Immutable):
    """The hosts that are known now, and the failures of providers."""

    hosts: tuple[Host, ...]
    failures: tuple[Retry, ...] = ()


async def hosts_of(settings: Settings, names: Sequence[str] = ()) -> list[Host]:
    """Return the hosts that are known now, or those called `names`.

    Raise `Fatal` (exit code 4) for an unknown name, `Retry` if a provider can't list its hosts.
    """
    found = await find_hosts(settings, names)
    if found.failures:
        raise found.failures[0]
    return list(found.hosts)


async def find_hosts(settings: Settings, names: Sequence[str] = ()) -> Found:
    """Return the hosts that are known now, or those called `names`, as far as the providers answer.

    With `names`, the cloud is queried only if the other providers do not list all of them. Raise `Fatal` (exit code 4)
    for an unknown name if all providers answered.
    """
    providers = Providers(settings)
    failures = await providers.query(names)
    found = {host.name: placed(host, settings) for host in providers.hosts}
    unknown = [name for name in names if name not in found]
    if unknown and not failures:
        raise Fatal(
            f"no host is called {', '.join(unknown)}",
            hint=f"known: {', '.join(sorted(found)) or 'none; add [[hosts]] to the configuration'}",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    wanted = dict.fromkeys(names) or sorted(found)
    return Found(tuple(found[name] for name in wanted if name in found), failures)


async def once(settings: Settings, hosts: Sequence[Host], monitor: ProgressListener) -> list[HostOutcome]:
    """Make one whole pass over these hosts in parallel. Raise `Fatal` and `HaltedForSafety`."""
    with unwrapped():
        async with open_context(settings, monitor) as (context, root):
            return await visited(hosts, context, root)


async def visited(hosts: Sequence[Host], context: Context, root: DataRoot) -> list[HostOutcome]:
    """Make one whole pass over these hosts with an open context, and record the result for each host."""
    context.fleet.known = len(hosts)
    context.fleet.rescue.take(hosts, None)
    for host in hosts:
        context.requests.awaits(host.name)

    async def visit(host: Host) -> HostOutcome:
        try:
            result = await _single_pass(host, context, root)
        except BaseException:
            context.requests.record_leaving(host.name)
            raise
        return HostOutcome(host, result=result, missing_roots=result.missing_roots)

    outcomes = await _side_by_side(hosts, context, visit)
    await context.catalogue_opened.wait()
    for outcome in outcomes:
        await context.catalogue.hosts.save(_record(outcome))
    from harvestd.harvest.experiments.reports import Reports  # noqa: PLC0415  (imported by a thread of `startup.open`)

    await Reports(context, root).finish()
    return outcomes


async def _single_pass(host: Host, context: Context, root: DataRoot) -> PassResult:
    async with connected(host, context) as (box, facts):
        await context.catalogue_opened.wait()
        from harvestd.harvest.host.executor import SinglePass  # noqa: PLC0415  (imported by a thread of `startup.open`)

        return await SinglePass(host, context, root, box, facts).make()


async def plan(settings: Settings, hosts: Sequence[Host]) -> list[HostOutcome]:
    """Plan a pass over these hosts without fetching or changing anything here; works beside a running daemon."""
    with unwrapped():
        async with open_read_only_context(settings) as context:
            context.fleet.known = len(hosts)

            async def plan_host(host: Host) -> HostOutcome:
                async with connected(host, context) as (box, facts):
                    await context.catalogue_opened.wait()
                    from harvestd.harvest.host.observer import Observer  # noqa: PLC0415  (imported by a thread of `startup.open`)

                    observer = Observer(host, context, box, facts)
                    found = await observer.scan()
                    return HostOutcome(host, plan=found, missing_roots=observer.missing_roots)

            outcomes = await _side_by_side(hosts, context, plan_host)
            await context.catalogue_opened.wait()
    return outcomes


def failed_unexpectedly(host: Host, context: Context, error: Exception) -> HostFailed:
    """Report an unexpected exception of the work on one host, and return the error for the caller."""
    context.host_failures.report(host.name, error)
    return HostFailed(
        f"{host.name}: the work on it failed: {described(error)}",
        hint="this is a defect of harvestd; the event host.failed has its traceback",
    )


async def _side_by_side(
    hosts: Sequence[Host], context: Context, visit: Callable[[Host], Awaitable[HostOutcome]]
) -> list[HostOutcome]:
    """Visit all hosts in parallel; one that can't be read does not affect the others."""
    outcomes: dict[str, HostOutcome] = {}

    async def noting(host: Host) -> None:
        started = time.monotonic()
        try:
            with unwrapped():
                outcome = await visit(host)
        except (Retry, HostQuarantined) as e:
            outcome = HostOutcome(host, error=e)
        except Exception as e:
            if isinstance(e, HaltedForSafety | Fatal):
                raise
            outcome = HostOutcome(host, error=failed_unexpectedly(host, context, e))
        outcomes[host.name] = replace(outcome, seconds=time.monotonic() - started)

    async with anyio.create_task_group() as tasks:
        for host in hosts:
            tasks.start_soon(noting, host)
    return [outcomes[host.name] for host in hosts]


def _record(outcome: HostOutcome) -> HostRecord:
    """Return the host record of a visit, so that its time is known even if the daemon never runs."""
    host, error, result = outcome.host, outcome.error, outcome.result
    if result is None:
        quarantined = "quarantined" if isinstance(error, HostQuarantined) else "lost"
        state = FAILED if isinstance(error, HostFailed) else quarantined
        return HostRecord(host.name, host.identity, host.address, state, error=error.with_hint if error else "")
    pending = sum(wait.size for wait in result.waiting)
    return HostRecord(
        host.name, host.identity, host.address, "visited", last_success=time.time(), pending_bytes=pending
    )


@asynccontextmanager
async def watching_alone(settings: Settings, name: str) -> AsyncIterator[None]:
    """Watch the host called `name` for the duration of the body.

    Raise as `open_context` (`Held`: another process holds the data root); errors may come in a group.
    """
    tally = FleetMetrics()
    opening = open_context(settings, tally, kind=HolderKind.ATTENDANT)
    async with opening as (context, root), anyio.create_task_group() as tasks:
        await context.catalogue_opened.wait()
        from harvestd.harvest.experiments.reports import Reports  # noqa: PLC0415  (imported by a thread of `startup.open`)

        await tasks.start(Fleet(context, root, Broadcast(), tally, only=frozenset({name})).run)
        tasks.start_soon(context.service_failures.keep_running, "reports", Reports(context, root).run)
        yield
        tasks.cancel_scope.cancel()


async def verdict_of_one_scan(settings: Settings, host: Host) -> Verdict:
    """Connect to a host, make one full scan, and return the verdict: never safe, but with all reasons.

    Fetches nothing. Raise as `watching_alone`.
    """
    async with open_context(settings, NullListener()) as (context, root):
        context.fleet.known = 1
        await context.catalogue_opened.wait()
        from harvestd.harvest.verdict.service import verdict_without_daemon  # noqa: PLC0415  (the same)

        try:
            return await verdict_without_daemon(host, context, root)
        except (Retry, HostQuarantined) as e:
            return Verdict(VerdictAnswer.NOT_SAFE, (Reason(ReasonKind.NOT_CONNECTED, str(e)),))
