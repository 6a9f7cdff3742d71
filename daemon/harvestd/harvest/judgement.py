"""The verdict on a host when somebody asks for it: made in full, now, by whoever watches the host.

`House.verdicts` holds the newest one on each host, and how old it is; `judging` keeps it.
"""

from typing import Final

import anyio

from harvestd.convention.judging import judge
from harvestd.convention.verdict import Answer, Reason, ReasonKind, Verdict
from harvestd.harvest.connected import connected
from harvestd.harvest.gathering import Gathering, accepted
from harvestd.harvest.house import House
from harvestd.harvest.judging import not_watched, record
from harvestd.harvest.looking import Looking
from harvestd.inventory.provider import Host
from harvestd.store.root import DataRoot

_PATIENCE: Final = 180.0
"""Seconds for a whole look, behind whatever is being fetched just now."""


async def judged(host: Host, house: House) -> Verdict:
    """Make a whole look at a host, connected or not, and give its verdict, which is then in `House.verdicts` too.

    A host that is not being watched is not safe; nor is one that can't be looked at within some minutes.
    """
    judging = house.judging.get(host.identity)
    if judging is None:
        verdict = not_watched(house)
    else:
        with anyio.move_on_after(_PATIENCE):
            return await judging.ask()
        why = Reason(ReasonKind.NOT_LOOKED_AT, f"no whole look came to an end within {_PATIENCE:g} s")
        verdict = Verdict(Answer.NOT_SAFE, (why,), accepted=accepted(house))
    record(host, house, verdict)
    return verdict


async def judged_alone(host: Host, house: House, root: DataRoot) -> Verdict:
    """Connect to a host that nobody watches, look at it once, and give the verdict: never safe, but with all reasons.

    Fetches nothing. Raises `Retry` and `HostQuarantined` where the host can't be read.
    """
    async with connected(host, house) as (box, facts):
        await house.knows.wait()
        looking = Looking(host, house, box, facts)
        await looking.look()
        gathering = Gathering(host, house, root, box, looking)
        return judge(await gathering.whole(looking.look_whole, lambda: 0))
