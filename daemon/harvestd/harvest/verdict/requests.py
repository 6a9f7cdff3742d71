"""Verdicts for those who ask from outside the daemon: made when a request asks for one, kept in the catalogue beside.

A verdict that is kept here was made elsewhere (`judgement`, and each host's own task). It says when it was made; what
is old says nothing about now.
"""

import time
from collections.abc import Callable
from contextlib import suppress

import anyio
from msgspec.structs import replace

from harvestd.catalogue.entries import VerdictRecord
from harvestd.errors import DiskFull
from harvestd.harvest.context import House
from harvestd.harvest.verdict import time_limits
from harvestd.inventory.host import Host
from harvestd.planning.requests import REFUSED, Request, RequestKind
from harvestd.safety.verdict import Verdict

_KEEP_EVERY = 1.0
"""Seconds between two rounds of keeping what changed."""
_ANEW = 30.0
"""Seconds after which a verdict is kept anew that says nothing else than before."""


class Verdicts:
    """Answers requests for a verdict, and keeps the verdicts of one house."""

    def __init__(self, house: House, host_of: Callable[[str], Host | None]) -> None:
        """`host_of` gives the host with an identity, None where there is none now."""
        self._house = house
        self._host_of = host_of
        self._kept: dict[str, VerdictRecord] = {}
        self._answering: set[int] = set()

    async def run(self) -> None:
        """Answer and keep until cancelled; raises `HaltedForSafety` where nothing can be kept."""
        await self._house.knows.wait()
        async with anyio.create_task_group() as tasks:
            while True:
                asked_before = self._house.attending.judging.version
                for request in self._house.catalogue.knowledge.open_requests():
                    if request.kind is RequestKind.JUDGE and request.id not in self._answering:
                        self._answering.add(request.id)
                        tasks.start_soon(self._answer, request)
                with self._house.service_failures.containing("verdicts"):
                    await self._keep(self._due())
                with anyio.move_on_after(_KEEP_EVERY):
                    await self._house.attending.judging.wait(asked_before)

    async def _answer(self, request: Request) -> None:
        outcome = f"{REFUSED}it failed, and the daemon's events say how"
        try:
            with self._house.service_failures.containing("verdicts", host=request.place):
                outcome = await self._outcome(request.storage)
            # Without room for a note of it, it stays asked for, and is answered once more.
            with self._house.service_failures.containing("verdicts", host=request.place):
                await self._house.attending.settle(request, outcome)
        finally:
            self._answering.discard(request.id)

    async def _outcome(self, identity: str) -> str:
        host = self._host_of(identity)
        if host is None:
            return f"{REFUSED}nobody says any more that it exists"
        await self._await_first_look(host)
        from harvestd.harvest.verdict.on_demand import judged  # noqa: PLC0415  (imported by the fleet)

        verdict = await judged(host, self._house)
        if self._record(identity) is None:
            # Nothing would be kept, and who asks would read what was said of it long before.
            return f"{REFUSED}it went while it was looked at"
        if await self._keep([identity]):
            return str(verdict.answer)
        return f"{REFUSED}there is no room to write the verdict down"

    async def _await_first_look(self, host: Host) -> None:
        """Return a host time to be connected where that may be under way: asked too early, it would only be unknown.

        Where the last attempt failed, why it did is known.
        """
        house = self._house
        known = (house.judging, house.verdicts, house.unreadable)
        with anyio.move_on_after(time_limits.to_connect(house.target_of(host).connect_timeout, house.limits)):
            while not any(host.identity in each for each in known):
                await house.looked.rung()

    def _due(self) -> list[str]:
        """Return the identities of hosts whose verdict is not kept as it is, or was kept long ago."""
        due = []
        for identity in self._house.verdicts:
            kept, now = self._kept.get(identity), self._record(identity)
            if now is None:
                continue
            if kept is None or _lasting(kept) != _lasting(now) or now.judged_at - kept.judged_at >= _ANEW:
                due.append(identity)
        return due

    async def _keep(self, identities: list[str]) -> bool:
        """Write these verdicts down; tells whether there was room."""
        records = [record for each in identities if (record := self._record(each)) is not None]
        with suppress(DiskFull):  # told by whoever fetches; the next round tries again
            await self._house.catalogue.verdicts.save(records, time.time())
            self._kept |= {record.identity: record for record in records}
            return True
        return False

    def _record(self, identity: str) -> VerdictRecord | None:
        host, judged = self._host_of(identity), self._house.verdicts.get(identity)
        if host is None or judged is None:
            return None
        return VerdictRecord(identity, host.name, judged.verdict, judged.at, judged.idle_since, host.cents_per_hour)


def _lasting(record: VerdictRecord) -> tuple[Verdict, bool, int | None]:
    """Return what does not change by itself as time passes."""
    verdict = record.verdict
    reasons = tuple(replace(reason, seconds=None) for reason in verdict.reasons)
    return replace(verdict, reasons=reasons), record.idle_since is None, record.cents_per_hour
