"""Verdicts for who asks: what was said of a host long before is never the answer."""

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import structlog.testing

from harvestd.catalogue import queries
from harvestd.catalogue.entries import VerdictRecord
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.requests import record_request
from harvestd.cli import ask_verdict
from harvestd.cli.ask_verdict import Subject, verdict_now
from harvestd.cli.requests import one_line
from harvestd.harvest.context import Context
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.state import Judged
from harvestd.harvest.verdict.requests import Verdicts
from harvestd.inventory.host import Host
from harvestd.planning.requests import REFUSED, RequestKind
from harvestd.safety.verdict import Verdict, VerdictAnswer
from harvestd.settings import Settings
from support.waiting import events, until

pytestmark = pytest.mark.anyio

HOST = Host("static:gpu-a", "gpu-a", "198.51.100.1", "static")
LONG_AGO = VerdictRecord(HOST.identity, HOST.name, Verdict(VerdictAnswer.SAFE), 10.0)


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    """Provide a house whose catalogue holds an old verdict of safe."""
    settings = Settings.model_validate({"data_root": tmp_path / "data", "state_dir": tmp_path})
    context = Context.of(settings, NullListener())
    with closing(open_catalogue(tmp_path, "root")) as catalogue:
        context.catalogue = catalogue
        await catalogue.verdicts.save([LONG_AGO], 10.0)
        yield context


async def test_a_host_that_goes_while_it_is_judged_is_refused(context: Context) -> None:
    """Nothing is kept of it then, and who asked must not read the verdict of before."""
    context.states.of(HOST.identity).verdict = Judged(Verdict(VerdictAnswer.SAFE), 10.0)
    answers = [HOST, None, None]
    outcome = await Verdicts(context, lambda _: answers.pop(0) if answers else None).outcome(HOST.identity)
    assert outcome.startswith(REFUSED)


async def test_who_asks_takes_no_verdict_of_before(
    tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that was answered while nothing new was kept leaves the box not safe."""
    monkeypatch.setattr(ask_verdict, "daemon_pid", lambda _: 1)

    async def answer() -> None:
        with anyio.fail_after(30):
            while True:
                for request in await context.catalogue.requests.take():
                    await context.catalogue.requests.settle(request, "not_safe")
                    return
                await anyio.sleep(0.01)

    with one_line() as line:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            record = await verdict_now(Subject(context.settings, HOST.name, HOST.identity), line)
    assert not record.verdict.is_safe
    with queries.questions(tmp_path) as connection:
        assert queries.verdict_on(connection, HOST.identity) == LONG_AGO


async def test_a_verdict_that_fails_is_answered(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception costs one answer, and is told; the next one who asks is answered as ever."""

    async def fail(_host: Host, _context: Context) -> Verdict:
        raise KeyError("a defect")

    monkeypatch.setattr("harvestd.harvest.verdict.service.full_verdict", fail)
    context.states.of(HOST.identity).verdict = Judged(Verdict(VerdictAnswer.SAFE), 10.0)
    context.catalogue_opened.set()
    await context.requests.set_catalogue(context.catalogue)

    async def answer_to_request() -> str:
        async def asked() -> int:
            return await anyio.to_thread.run_sync(
                lambda: record_request(context.settings.state, RequestKind.JUDGE, (HOST.identity, HOST.name), {})
            )

        number = await asked()
        await context.requests.take()
        context.requests.verdict_requested.ring()
        await until(lambda: all(each.id != number for each in context.catalogue.knowledge.open_requests()))
        with queries.questions(context.settings.state) as connection:
            request = queries.request(connection, number)
        assert request is not None
        return request.outcome

    with structlog.testing.capture_logs() as event_log:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Verdicts(context, lambda _: HOST).run)
            assert (await answer_to_request()).startswith(REFUSED)
            assert (await answer_to_request()).startswith(REFUSED)
            tasks.cancel_scope.cancel()
    (told,) = events(event_log, "service.failed", service="verdicts")
    assert isinstance(told["exc_info"], KeyError)
