"""Verdicts in the catalogue: the newest one on each host, and questions for one that are forgotten in time."""

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from harvestd.catalogue import queries
from harvestd.catalogue.entries import VerdictRecord
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.repository import Catalogue
from harvestd.catalogue.requests import record_request
from harvestd.catalogue.state_dir import FILE_NAME
from harvestd.convention.kinds import LossKind
from harvestd.planning.requests import RequestKind
from harvestd.safety.verdict import Loss, Reason, ReasonKind, Verdict, VerdictAnswer

pytestmark = pytest.mark.anyio

ODD = "caf\udce9"
"""A name whose bytes are Latin-1."""
BUSY = Verdict(VerdictAnswer.NOT_SAFE, (Reason(ReasonKind.OUTSTANDING, f"{ODD} is not here", 1 << 70, None),))
SAFE = Verdict(VerdictAnswer.SAFE_EXCEPT, losses=(Loss(LossKind.RECORDS, ODD, None, 3),))


@pytest.fixture
async def catalogue(tmp_path: Path) -> AsyncIterator[Catalogue]:
    """Provide an empty catalogue."""
    with closing(open_catalogue(tmp_path, "root-1")) as opened:
        yield opened


async def test_the_newest_verdict_stands(tmp_path: Path, catalogue: Catalogue) -> None:
    """A verdict replaces the one before, with all its words and numbers; another host's stays."""
    first = VerdictRecord("static:gpu-a", "gpu-a", BUSY, 10.0, None, 249)
    other = VerdictRecord("lambda_cloud:i-1", "gpu-b", BUSY, 11.0, 5.0, None)
    await catalogue.verdicts.save([first, other], 11.0)
    second = VerdictRecord("static:gpu-a", "gpu-a", SAFE, 20.0, 15.5, 249)
    await catalogue.verdicts.save([second], 20.0)
    with queries.questions(tmp_path) as connection:
        assert queries.verdicts(connection) == {"static:gpu-a": second, "lambda_cloud:i-1": other}
        assert queries.verdict_on(connection, "static:gpu-a") == second
        assert queries.verdict_on(connection, "static:gpu-c") is None


@pytest.mark.parametrize("words", ["", "[]", "{}", '{"answer": "fine"}', '{"answer": "safe", "reasons": 3}'])
async def test_a_verdict_in_other_words_says_nothing(tmp_path: Path, catalogue: Catalogue, words: str) -> None:
    """What another harvestd wrote there and this one can't read is no verdict; others are read."""
    await catalogue.verdicts.save([VerdictRecord(each, each, SAFE, 1.0) for each in ("gpu-a", "gpu-b")], 1.0)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        database.execute("UPDATE verdicts SET verdict = ? WHERE name = 'gpu-a'", (words,))
    with queries.questions(tmp_path) as connection:
        assert queries.verdict_on(connection, "gpu-a") is None
        assert queries.verdicts(connection).keys() == {"gpu-b"}


async def test_answered_questions_are_forgotten(tmp_path: Path, catalogue: Catalogue) -> None:
    """One that was answered long ago leaves the catalogue, and memory at once; one that is open stays."""
    answered = record_request(tmp_path, RequestKind.JUDGE, ("static:gpu-a", "gpu-a"), {})
    fetched = record_request(tmp_path, RequestKind.FETCH, ("static:gpu-a", "/r/run_1"), {"thing": "records"})
    for request in await catalogue.requests.take():
        await catalogue.requests.settle(request, "safe")
    waiting = record_request(tmp_path, RequestKind.JUDGE, ("static:gpu-a", "gpu-a"), {})
    await catalogue.requests.take()
    assert [request.id for request in catalogue.knowledge.open_requests()] == [waiting]
    assert catalogue.knowledge.requests_for("static:gpu-a", "gpu-a").things == {}
    record = VerdictRecord("static:gpu-a", "gpu-a", SAFE, 20.0)

    def left() -> list[int]:
        with queries.questions(tmp_path) as connection:
            return [request.id for request in queries.requests(connection)]

    await catalogue.verdicts.save([record], time.time())
    assert left() == [answered, fetched, waiting]
    await catalogue.verdicts.save([record], time.time() + 7_200)
    assert left() == [fetched, waiting]
