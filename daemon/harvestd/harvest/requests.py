"""Takes requests that people make by hand, and settles each when everything that it asks for is here.

A request is settled when each host that is being scanned has reported since then that nothing of it is outstanding, and
at least one of them shows its run. Until a host shows the run, the request stays open. Planning does not depend on
whether a request is settled, so settling one too early affects the status message and never a file.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from harvestd.catalogue.state_dir import InconsistentRows
from harvestd.errors import DiskFull, Retry
from harvestd.harvest.sync import Broadcast
from harvestd.planning.plan import RequestState
from harvestd.planning.requests import REFUSED, Request, RequestKind
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.catalogue.repository import Catalogue

_LISTEN_EVERY = 0.5
"""Seconds between two checks whether another process wrote to the catalogue."""

Naming = Callable[[Request], Awaitable[str]]
"""Returns the outcome of a request for a name; empty while it can't be decided yet."""

_Thing = tuple[tuple[str, str], str]
"""A run's key, and what of it is requested."""


class RequestTracker:
    """Tracks the requests of one data root."""

    def __init__(self) -> None:
        """`awaits` may be called at once; everything else needs `set_catalogue` first."""
        self._statuses: dict[str, Mapping[_Thing, RequestState]] = {}
        """By host: the state of everything requested, at its last scan."""
        self.awaited: set[str] = set()

        self.verdict_requested = Broadcast()
        """Rung when a verdict is requested."""
        self.names: Naming | None = None
        """Names experiments on request; None without a data root."""
        self._taking = anyio.Lock()

    async def set_catalogue(self, catalogue: "Catalogue") -> None:
        """Set the open catalogue, and take the requests that were made while no process ran."""
        self._catalogue = catalogue
        # Whatever keeps a request from being handled now, `run` tries again.
        with suppress(DiskFull, Retry):
            await self.take()

    async def run(self, scan_now: Broadcast) -> None:
        """Take new requests until cancelled, and ring `scan_now` for those that need a scan."""
        with closing(self._catalogue.requests.changes()) as changes:
            due = True
            while True:
                due = await anyio.to_thread.run_sync(changes.seen) or due
                if due:
                    # Without room for recording it, a request waits; the transfers report the lack of room.
                    with suppress(DiskFull, Retry):
                        if await self.take():
                            scan_now.ring()
                        due = False
                await anyio.sleep(_LISTEN_EVERY)

    async def take(self) -> bool:
        """Take the requests made since the last call; return whether hosts must be scanned for them.

        Several tasks may call this at a time: each request is handled and settled by one of them.
        """
        async with self._taking:
            return await self._take()

    async def _take(self) -> bool:
        taken = await self._catalogue.requests.take()
        for request in taken:
            get_logger().info(Event.REQUEST_TAKEN, **self._fields(request))
        for request in self._catalogue.knowledge.open_requests():
            ignored = self._catalogue.knowledge.requests_for(*request.run).ignored
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
            self.verdict_requested.ring()
        return not all(judging)

    def awaits(self, host: str) -> None:
        """Note that a host is about to be scanned: nothing is settled before its scan."""
        self.awaited.add(host)

    async def record_scan(self, host: str, states: Sequence[RequestState]) -> None:
        """Record the state of everything requested on a host, and settle what is done."""
        self.awaited.discard(host)
        self._statuses[host] = {(each.run, each.thing): each for each in states}
        for request in self._catalogue.knowledge.open_requests():
            outcome = self._outcome(request)
            if outcome:
                await self.settle(request, outcome)

    def record_leaving(self, host: str) -> None:
        """Note that a host is no longer scanned, or can't be; it no longer counts for settling."""
        self.awaited.discard(host)
        self._statuses.pop(host, None)

    def _outcome(self, request: Request) -> str:
        """Return the outcome of a request; empty while a part of it is outstanding or unknown."""
        if request.kind is not RequestKind.FETCH:
            return ""
        thing = (request.run, request.thing)
        answers = [status.get(thing) for status in self._statuses.values()]
        shown = [each for each in answers if each is not None and each.shown]
        if self.awaited or None in answers or not shown or any(each.outstanding for each in shown):
            return ""
        return _outcome_of(shown)

    async def settle(self, request: Request, outcome: str) -> None:
        """Record and log the outcome of a request; do nothing if it was settled meanwhile."""
        if await self._catalogue.requests.settle(request, outcome):
            get_logger().info(Event.REQUEST_SETTLED, **self._fields(request), reason=outcome)

    def _fields(self, request: Request) -> dict[str, object]:
        if request.kind is RequestKind.JUDGE:
            return {"host": request.place, "kind": str(request.kind), "what": str(request.kind)}
        run = self._catalogue.knowledge.run_at(*request.run)
        what = request.thing or str(request.kind)
        return {"run_id": run.name if run else None, "path": request.place, "kind": str(request.kind), "what": what}


def _outcome_of_ignoring(request: Request) -> str:
    return "fetched again" if request.detail.get("undo") is True else "nothing more of it is fetched"


def _outcome_of(answers: Iterable[RequestState]) -> str:
    found = list(answers)
    refused = [why for each in found for why in each.refused]
    files = sum(each.files for each in found)
    if refused:
        return f"{REFUSED}{refused[0]} ({len(refused)} of {max(files, len(refused))} files)"
    if not files:
        return "nothing of it is on the boxes that is not here"
    return "1 file is here" if files == 1 else f"{files} files are here"
