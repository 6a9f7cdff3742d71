"""When what was asked for by hand counts as done: only once nobody who is looked at has anything of it to come."""

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import structlog.testing

from harvestd.catalogue import queries
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.repository import Catalogue
from harvestd.catalogue.requests import record_request
from harvestd.catalogue.state_dir import InconsistentRows
from harvestd.errors import DiskFull, HarvestError, Retry
from harvestd.harvest.requests import RequestTracker
from harvestd.harvest.sync import Broadcast
from harvestd.planning.plan import RequestState
from harvestd.planning.requests import Request, RequestKind
from support.waiting import events, until

pytestmark = pytest.mark.anyio

RUN = ("fs-1", "/data/run_2025-08-20_03-31-43")
UNSEEN = RequestState(RUN, "records")
COMING = RequestState(RUN, "records", shown=True, files=2, outstanding=1, size=10)
HERE = RequestState(RUN, "records", shown=True, files=2, size=10)


@pytest.fixture
async def catalogue(tmp_path: Path) -> AsyncIterator[Catalogue]:
    """Provide a catalogue in which the records of a run are asked for."""
    with closing(open_catalogue(tmp_path, "root-1")) as opened:
        record_request(tmp_path, RequestKind.FETCH, RUN, {"thing": "records"})
        yield opened


@pytest.fixture
async def attending(catalogue: Catalogue) -> RequestTracker:
    """Return who has taken notice of it."""
    attending = RequestTracker()
    await attending.set_catalogue(catalogue)
    return attending


def outcome(state: Path) -> str | None:
    """Return what came of the first request; None while it is open."""
    with queries.questions(state) as connection:
        first = queries.requests(connection)[0]
    return None if first.is_open else first.outcome


async def test_settled_when_all_of_it_is_here(tmp_path: Path, attending: RequestTracker) -> None:
    """While something is to come it is open, and a host that does not show the run settles nothing."""
    await attending.record_scan("gpu-b", [UNSEEN])
    assert outcome(tmp_path) is None
    await attending.record_scan("gpu-a", [COMING])
    assert outcome(tmp_path) is None
    await attending.record_scan("gpu-a", [HERE])
    assert outcome(tmp_path) == "2 files are here"


async def test_every_host_that_is_looked_at_has_a_say(tmp_path: Path, attending: RequestTracker) -> None:
    """An eval may lie on another box: nobody settles before that one was looked at, unless it can't be."""
    attending.awaits("gpu-b")
    await attending.record_scan("gpu-a", [HERE])
    assert outcome(tmp_path) is None
    await attending.record_scan("gpu-b", [COMING])
    await attending.record_scan("gpu-a", [HERE])
    assert outcome(tmp_path) is None
    attending.record_leaving("gpu-b")
    await attending.record_scan("gpu-a", [HERE])
    assert outcome(tmp_path) == "2 files are here"


async def test_a_look_from_before_it_was_asked_settles_nothing(tmp_path: Path, attending: RequestTracker) -> None:
    """A plan that was made without knowing of the request says nothing of it."""
    await attending.record_scan("gpu-b", [])
    await attending.record_scan("gpu-a", [HERE])
    assert outcome(tmp_path) is None
    await attending.record_scan("gpu-b", [UNSEEN])
    assert outcome(tmp_path) == "2 files are here"


async def test_refused_says_why(tmp_path: Path, attending: RequestTracker) -> None:
    """Where some of it can never stand here, the outcome names the first reason."""
    refused = RequestState(RUN, "records", shown=True, files=2, size=10, refused=("its place is taken",))
    await attending.record_scan("gpu-a", [refused])
    assert outcome(tmp_path) == "refused: its place is taken (1 of 2 files)"


async def test_ignoring_a_run_refuses_what_is_outstanding(tmp_path: Path, attending: RequestTracker) -> None:
    """Nobody waits for what will not come any more, and the request to ignore is settled itself."""
    record_request(tmp_path, RequestKind.IGNORE, RUN, {})
    assert await attending.take()
    assert str(outcome(tmp_path)).startswith("refused: asked: ignored by hand on ")
    with queries.questions(tmp_path) as connection:
        assert [each.is_open for each in queries.requests(connection)] == [False, False]


async def test_other_kinds_are_left_to_others(tmp_path: Path, attending: RequestTracker) -> None:
    """What is neither to fetch nor to ignore is taken notice of, and stays open."""
    record_request(tmp_path, RequestKind.NAME, RUN, {"name": "ablation"})
    await attending.take()
    await attending.record_scan("gpu-a", [HERE])
    with queries.questions(tmp_path) as connection:
        named = queries.requests(connection)[1]
    assert (named.is_open, named.taken_at is None) == (True, False)


async def test_who_listens_hears_of_it_at_once(tmp_path: Path, attending: RequestTracker) -> None:
    """A request that another process writes is taken, and rings once for a look: its settling rings for nothing."""
    bell, rung = Broadcast(), []

    async def hear() -> None:
        while True:
            await bell.rung()
            rung.append(True)

    with structlog.testing.capture_logs() as event_log:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear)
            tasks.start_soon(attending.run, bell)
            record_request(tmp_path, RequestKind.IGNORE, RUN, {})
            await until(lambda: events(event_log, "request.settled", what="ignore"))
            await until(lambda: rung)
            tasks.cancel_scope.cancel()
    assert len(rung) == 1


async def test_what_two_tasks_attend_to_is_done_and_settled_once(tmp_path: Path, attending: RequestTracker) -> None:
    """A look and the listener take notice at one moment: a name is given once, and the first outcome stands."""
    given: list[int] = []

    async def name(request: Request) -> str:
        given.append(request.id)
        await anyio.lowlevel.checkpoint()
        return "named" if len(given) == 1 else "refused: there is nothing to name any more"

    attending.names = name
    record_request(tmp_path, RequestKind.NAME, RUN, {"name": "ablation"})
    with structlog.testing.capture_logs() as event_log:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(attending.take)
    assert len(given) == 1
    assert len(events(event_log, "request.taken")) == 1
    assert [each["reason"] for each in events(event_log, "request.settled")] == ["named"]
    with queries.questions(tmp_path) as connection:
        assert queries.requests(connection)[1].outcome == "named"


async def test_what_is_here_is_settled_once(tmp_path: Path, attending: RequestTracker) -> None:
    """Two hosts whose looks end at one moment settle a request once, and the first outcome stands."""
    refused = RequestState(RUN, "records", shown=True, files=2, size=10, refused=("its place is taken",))
    with structlog.testing.capture_logs() as event_log:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attending.record_scan, "gpu-a", [HERE])
            tasks.start_soon(attending.record_scan, "gpu-b", [refused])
    assert len(events(event_log, "request.settled")) == 1
    assert outcome(tmp_path) == "2 files are here"


@pytest.mark.parametrize("error", [Retry("Too many open files"), DiskFull("no room")])
async def test_what_can_not_be_done_now_is_done_later(
    tmp_path: Path, catalogue: Catalogue, error: HarvestError
) -> None:
    """Passing trouble with a request ends neither a start nor the listener: it stays open, and is tried again."""
    tries: list[int] = []

    async def name(request: Request) -> str:
        tries.append(request.id)
        if len(tries) < 3:
            raise error
        return "named"

    record_request(tmp_path, RequestKind.NAME, RUN, {"name": "ablation"})
    attending = RequestTracker()
    attending.names = name
    await attending.set_catalogue(catalogue)
    assert len(tries) == 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attending.run, Broadcast())
        await until(lambda: len(tries) == 3)
        tasks.cancel_scope.cancel()


async def test_what_the_catalogue_refuses_is_settled(tmp_path: Path, attending: RequestTracker) -> None:
    """A request that contradicts what is on record is refused, and asked for at no later start."""

    async def name(_request: Request) -> str:
        raise InconsistentRows("UNIQUE constraint failed")

    attending.names = name
    record_request(tmp_path, RequestKind.NAME, RUN, {"name": "ablation"})
    await attending.take()
    with queries.questions(tmp_path) as connection:
        assert queries.requests(connection)[1].is_refused
