"""How long parts of a verdict are waited for: never less than the limits of the configuration give a host."""

from datetime import timedelta

import pytest

from harvestd.convention.scan.model import ScanResult
from harvestd.harvest.state import LastScan
from harvestd.harvest.verdict import requests
from harvestd.inventory.host import Host
from harvestd.planning.plan import Plan
from harvestd.remote.api import Limits
from harvestd.remote.probe.program import belongings, circumstances, links

HOST = Host("static:gpu-a", "gpu-a", "127.0.0.1", "static")


@pytest.mark.parametrize("inspect", [timedelta(seconds=10), timedelta(minutes=5), timedelta(hours=2)])
@pytest.mark.parametrize("scan", [timedelta(minutes=1), timedelta(hours=5)])
def test_who_asks_waits_longer_than_who_answers(inspect: timedelta, scan: timedelta) -> None:
    """What took too long is known to the daemon alone, so that its answer has to come first."""
    limits = Limits(scan_time=scan, inspect_time=inspect)
    assert requests.verdict_seconds(limits) > (scan + inspect).total_seconds()
    timeout = timedelta(minutes=2)
    within = requests.connect_seconds(timeout, limits) + requests.verdict_seconds(limits)
    assert requests.answer_seconds(timeout, limits) > within


def test_the_parts_of_a_question_fit_its_time() -> None:
    """Each program that the host runs for a verdict ends before the whole question does, and so is named."""
    shares = (belongings.NEAR_SHARE, belongings.FAR_SHARE, belongings.GIT_SHARE, circumstances.GPU_SHARE)
    assert sum(shares) < 1
    assert links.LINK_SHARE + links.HANGING_SHARE < 1


def test_a_host_that_is_looked_at_rarely_still_shows_what_it_showed() -> None:
    """Where `poll.interval` or a scan takes longer than minutes, what another host shows survives all the same."""
    last_scan = LastScan(HOST, ScanResult((), (), ()), Plan(), frozenset(), 0.0, duration=600.0)
    assert last_scan.is_fresh(1000.0, 10.0)
    assert not last_scan.is_fresh(2000.0, 10.0)
    quick = LastScan(HOST, ScanResult((), (), ()), Plan(), frozenset(), 0.0, duration=1.0)
    assert quick.is_fresh(299.0, 10.0)
    assert not quick.is_fresh(301.0, 10.0)
    assert quick.is_fresh(1000.0, 900.0)
