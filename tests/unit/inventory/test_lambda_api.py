"""Ending one instance: what is sent, and that no answer is ever taken for more or for less than it says."""

from pathlib import Path

import pytest

from harvestd.inventory.lambda_api import Outcome, TerminationState, client_of, terminate
from harvestd.settings import LambdaCloud
from support.cloud import FAILURES_TO_END, Cloud
from support.planted import Planted

pytestmark = pytest.mark.anyio

MINE, OTHER = "a" * 32, "b" * 32
REFUSED = {"429", "404", "a redirect"}
"""After these it is known that nothing was done."""


async def _end(cloud: Cloud, directory: Path, key: str | None = None) -> Outcome:
    file = directory / "key"
    file.write_text(key or cloud.key)
    settings = LambdaCloud(enabled=True, base_url=cloud.url, api_key_file=file)
    async with client_of(settings) as client:
        return await terminate(client, settings, MINE, env={})


async def test_one_instance_is_ended_and_no_other(cloud: Cloud, tmp_path: Path) -> None:
    """The request names its id alone, once; the other goes on."""
    cloud.add(MINE, "gpu-a", "198.51.100.2")
    cloud.add(OTHER, "gpu-b", "198.51.100.3")
    assert await _end(cloud, tmp_path) == Outcome(TerminationState.TERMINATED)
    assert cloud.terminated == [[MINE]]
    assert [each["status"] for each in cloud.instances] == ["terminating", "active"]


@pytest.mark.parametrize("failure", FAILURES_TO_END)
async def test_what_is_not_clear_is_called_unclear(
    cloud: Cloud, tmp_path: Path, planted: Planted, failure: str
) -> None:
    """Only a refusal counts as nothing; no answer is followed elsewhere, and no word of one is repeated."""
    cloud.add(MINE, "gpu-a", "198.51.100.2")
    cloud.retry_after = "7"
    cloud.fails_to_end = failure
    outcome = await _end(cloud, tmp_path)
    assert outcome.ending is (TerminationState.REFUSED if failure in REFUSED else TerminationState.UNCLEAR)
    assert outcome.wait.total_seconds() == (7 if failure == "429" else 0)
    assert cloud.terminated == [[MINE]]
    assert outcome.detail
    planted.hear("the outcome", repr(outcome))
    assert planted.leaks({}) == []


async def test_a_wrong_key_ends_nothing(cloud: Cloud, tmp_path: Path) -> None:
    """It is refused, and neither key is in the outcome."""
    cloud.add(MINE, "gpu-a", "198.51.100.2")
    outcome = await _end(cloud, tmp_path, key="another-key")
    assert outcome.ending is TerminationState.REFUSED
    assert "401" in outcome.detail
    assert "another-key" not in repr(outcome)
    assert cloud.terminated == []


async def test_where_nobody_listens_nothing_was_sent(cloud: Cloud, tmp_path: Path) -> None:
    """A connection that was never there leaves no doubt."""
    cloud.url = "http://127.0.0.1:9/api/v1"
    outcome = await _end(cloud, tmp_path)
    assert outcome == Outcome(TerminationState.REFUSED, "no connection")
