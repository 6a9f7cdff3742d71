"""How long whatever failed is left alone: one formula, with an end, for any number of failures."""

from datetime import timedelta

import pytest

from harvestd.bulkhead import backoff, backoff_span
from harvestd.errors import Retry
from harvestd.harvest.fleet.supervisor import ReconnectPolicy
from harvestd.harvest.host.failures import FailureTracker

FOR_MONTHS = 5_000
"""Failures in a row: more than a float has powers of two."""


def test_pauses_double_up_to_the_longest() -> None:
    """The first failure costs the first pause, each further one twice as much, up to a limit."""
    assert [backoff(1.0, failures, 300.0) for failures in range(1, 11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert backoff(1.0, 0, 300.0) == 1.0


@pytest.mark.parametrize("failures", [1_023, 1_024, 1_025, 10**9])
def test_no_number_of_failures_is_too_many(failures: int) -> None:
    """Where a float would overflow, the pause is the longest."""
    assert backoff(1.0, failures, 300.0) == 300.0
    assert backoff_span(timedelta(seconds=5), failures, timedelta(minutes=10)) == timedelta(minutes=10)


def test_a_file_that_fails_for_months_is_asked_for_every_five_minutes() -> None:
    """A file that can't be read for as long as a connection lasts costs a pause each time, and nothing else."""
    failures = FailureTracker("gpu-a")
    for _ in range(FOR_MONTHS):
        failures.failed("/fs/a", "permission denied")
        failures.stuck("/fs/b", "it hangs")
    assert 299 < failures.pause(["/fs/a"]) <= 300
    assert 299 < failures.pause(["/fs/b"]) <= 300


def test_a_host_that_fails_for_months_is_tried_every_five_minutes() -> None:
    """So is a host."""
    breaker = ReconnectPolicy()
    pauses = [breaker.failed(Retry("lost")) for _ in range(FOR_MONTHS)]
    assert 150 <= pauses[-1] <= 300
