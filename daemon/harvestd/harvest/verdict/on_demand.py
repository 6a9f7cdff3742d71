"""Verdicts on demand: computed in full, now, by the task that watches the host.

`HostState.verdict` is the newest verdict on a host with its age; `verdict.service` updates it.
"""

import anyio

from harvestd.harvest.context import Context
from harvestd.harvest.fleet.connections import connected
from harvestd.harvest.host.observer import Observer
from harvestd.harvest.verdict import requests
from harvestd.harvest.verdict.evidence import EvidenceCollector, accepted
from harvestd.harvest.verdict.service import not_watched, record
from harvestd.inventory.host import Host
from harvestd.safety.check import judge
from harvestd.safety.verdict import Answer, Reason, ReasonKind, Verdict
from harvestd.store.root import DataRoot


async def judged(host: Host, context: Context) -> Verdict:
    """Make a full scan of a host, connected or not, and return its verdict, which is also stored in its `HostState`.

    A host that is not being watched is not safe, nor is one that can't be scanned within `requests.to_judge`.
    """
    judging = context.states.of(host.identity).judging
    if judging is None:
        verdict = not_watched(context, host.identity)
    else:
        seconds = requests.to_judge(context.limits)
        with anyio.move_on_after(seconds):
            return await judging.ask()
        detail = (
            f"no whole scan came to an end within {seconds:.0f} s; limits.scan_time says how long one may take, and "
            "limits.inspect_time how long what is asked beside it"
        )
        why = Reason(ReasonKind.NOT_LOOKED_AT, detail)
        verdict = Verdict(Answer.NOT_SAFE, (why,), accepted=accepted(context))
    record(host, context, verdict)
    return verdict


async def judged_alone(host: Host, context: Context, root: DataRoot) -> Verdict:
    """Connect to a host that is not watched, scan it once, and return the verdict: never safe, but with all reasons.

    Fetches nothing. Raise `Retry` and `HostQuarantined` if the host can't be read.
    """
    async with connected(host, context) as (box, facts):
        await context.catalogue_opened.wait()
        observer = Observer(host, context, box, facts)
        await observer.scan()
        gathering = EvidenceCollector(host, context, root, box, observer)
        return judge(await gathering.whole(observer.scan_all, lambda: 0))
