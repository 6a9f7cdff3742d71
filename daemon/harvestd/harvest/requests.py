"""Attending to what a person asks for by hand: taking notice of it at once, and settling it when all of it is here.

A thing is settled when each host that is being looked at has said since then that nothing of it is to come, and one of
them shows its run. Until a host shows that, it stays asked for. Planning goes by what was asked, settled or not; so a
request that was settled too early costs a word, never a file.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from harvestd.catalogue.errors import InconsistentRows
from harvestd.errors import DiskFull, Retry
from harvestd.harvest.sync import Bell
from harvestd.planning.plan import Asked
from harvestd.planning.requests import REFUSED, Request, RequestKind
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.catalogue.repository import Catalogue

_LISTEN_EVERY = 0.5
"""Seconds between two questions whether anybody else wrote into the catalogue."""

Naming = Callable[[Request], Awaitable[str]]
"""Gives what came of a request for a name; empty while its time has not come."""

_Thing = tuple[tuple[str, str], str]
"""A run's key, and what of it was asked for."""


class Attending:
    """Follows the requests of one data root."""

    def __init__(self) -> None:
        """Hosts can be awaited at once; all else needs what `learn` brings."""
        self._said: dict[str, Mapping[_Thing, Asked]] = {}
        """By host: how what was asked for stood there at its last look."""
        self._awaited: set[str] = set()

        self.judging = Bell()
        """Rung when somebody asks for a verdict."""
        self.names: Naming | None = None
        """Who gives experiments the names that are asked for; nobody where there is no data root."""
        self._taking = anyio.Lock()

    async def learn(self, catalogue: "Catalogue") -> None:
        """Take the catalogue that was opened, and what was asked while nobody was at work."""
        self._catalogue = catalogue
        # Whatever keeps a request from being attended to now, `run` tries it again.
        with suppress(DiskFull, Retry):
            await self.take()

    async def run(self, scan_now: Bell) -> None:
        """Take what is asked from now on, until cancelled, and have the hosts looked at then."""
        with closing(self._catalogue.changes()) as changes:
            due = True
            while True:
                due = await anyio.to_thread.run_sync(changes.seen) or due
                if due:
                    # Without room for a note of it, it waits; whoever fetches tells of the room.
                    with suppress(DiskFull, Retry):
                        if await self.take():
                            scan_now.ring()
                        due = False
                await anyio.sleep(_LISTEN_EVERY)

    async def take(self) -> bool:
        """Take notice of what was asked since the last time; return whether hosts are to be scanned for it.

        Several tasks may call this at a time: each request is done and settled by one of them.
        """
        async with self._taking:
            return await self._take()

    async def _take(self) -> bool:
        taken = await self._catalogue.take_requests()
        for request in taken:
            get_logger().info(Event.REQUEST_TAKEN, **self._fields(request))
        for request in self._catalogue.knowledge.open_requests():
            ignored = self._catalogue.knowledge.wishes_for(*request.run).ignored
            if request.kind is RequestKind.IGNORE:
                await self.settle(request, _outcome_of_ignoring(request))
            elif request.kind is RequestKind.FETCH and ignored:
                await self.settle(request, f"{REFUSED}{ignored.reason}")
            elif request.kind is RequestKind.NAME and self.names is not None:
                try:
                    outcome = await self.names(request)
                except InconsistentRows as error:
                    outcome = f"{REFUSED}{error}"
                if outcome:
                    await self.settle(request, outcome)
        judging = [request.kind is RequestKind.JUDGE for request in taken]
        if any(judging):
            self.judging.ring()
        return not all(judging)

    def awaits(self, host: str) -> None:
        """Note that a host is about to be looked at: nothing is settled before it has said something."""
        self._awaited.add(host)

    async def looked(self, host: str, asked: Sequence[Asked]) -> None:
        """Hear how all that is asked for stands on a host, and settle what is done."""
        self._awaited.discard(host)
        self._said[host] = {(each.run, each.thing): each for each in asked}
        for request in self._catalogue.knowledge.open_requests():
            outcome = self._outcome(request)
            if outcome:
                await self.settle(request, outcome)

    def left(self, host: str) -> None:
        """Note that a host is not looked at any more, or can't be, and has no say."""
        self._awaited.discard(host)
        self._said.pop(host, None)

    def _outcome(self, request: Request) -> str:
        """Say what came of a request; empty while something of it is to come, or nobody knows."""
        if request.kind is not RequestKind.FETCH:
            return ""
        thing = (request.run, request.thing)
        answers = [said.get(thing) for said in self._said.values()]
        shown = [each for each in answers if each is not None and each.shown]
        if self._awaited or None in answers or not shown or any(each.outstanding for each in shown):
            return ""
        return _outcome_of(shown)

    async def settle(self, request: Request, outcome: str) -> None:
        """Record and log what came of a request; nothing where it was settled meanwhile."""
        if await self._catalogue.settle_request(request, outcome):
            get_logger().info(Event.REQUEST_SETTLED, **self._fields(request), reason=outcome)

    def _fields(self, request: Request) -> dict[str, object]:
        if request.kind is RequestKind.JUDGE:
            return {"host": request.place, "kind": str(request.kind), "what": str(request.kind)}
        run = self._catalogue.knowledge.run_at(*request.run)
        what = request.thing or str(request.kind)
        return {"run_id": run.name if run else None, "path": request.place, "kind": str(request.kind), "what": what}


def _outcome_of_ignoring(request: Request) -> str:
    return "fetched again" if request.detail.get("undo") is True else "nothing more of it is fetched"


def _outcome_of(answers: Iterable[Asked]) -> str:
    found = list(answers)
    refused = [why for each in found for why in each.refused]
    files = sum(each.files for each in found)
    if refused:
        return f"{REFUSED}{refused[0]} ({len(refused)} of {max(files, len(refused))} files)"
    if not files:
        return "nothing of it is on the boxes that is not here"
    return "1 file is here" if files == 1 else f"{files} files are here"
