"""Unexpected exceptions are reported once with their traceback, counted, and end nothing but what raised them."""

import json
from collections import Counter
from io import StringIO

import anyio
import anyio.lowlevel
import pytest
import structlog

from harvestd import bulkhead
from harvestd.bulkhead import Bulkhead, described
from harvestd.errors import DiskFull, Fatal, HaltedForSafety, HostQuarantined, Retry, concerns_all, unwrapped
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import configure
from harvestd.telemetry.serialize import MOST_ITEMS
from support.waiting import events

pytestmark = pytest.mark.anyio


class Clock:
    """Seconds, as a test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return them."""
        return self.now


async def test_a_service_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception of a service is reported and counted, and it is run again until it ends by itself."""
    monkeypatch.setattr(bulkhead, "FIRST_PAUSE", 0.001)
    counted: Counter[str] = Counter()
    runs = 0

    async def fail_twice() -> None:
        nonlocal runs
        runs += 1
        await anyio.lowlevel.checkpoint()
        if runs <= 2:
            raise KeyError("something")

    failures = Bulkhead(Event.SERVICE_FAILED, lambda service: counted.update([service]))
    with structlog.testing.capture_logs() as event_log:
        await failures.keep_running("reports", fail_twice)
    assert runs == 3
    assert counted == {"reports": 2}
    (told,) = events(event_log, "service.failed", service="reports")
    assert isinstance(told["exc_info"], KeyError)


@pytest.mark.parametrize("error", [HaltedForSafety("the catalogue is damaged"), Fatal("no")])
async def test_what_concerns_all_hosts_passes(error: Exception) -> None:
    """It passes alone, and beside an unexpected exception."""
    failures = Bulkhead()

    async def fail() -> None:
        raise ExceptionGroup("", [KeyError("x"), ExceptionGroup("", [error])])

    with pytest.raises(type(error)):
        await failures.keep_running("reports", fail)
    with pytest.raises(type(error)), failures.containing("reports"):
        await fail()


async def test_cancellation_passes() -> None:
    """A service that is cancelled ends."""
    with anyio.move_on_after(0.01) as scope:
        await Bulkhead().keep_running("reports", anyio.sleep_forever)
    assert scope.cancelled_caught


def test_the_same_failure_is_told_once_an_hour() -> None:
    """What fails in the same place is for debug after the first time, whatever its text; each subject for itself."""
    clock = Clock()
    failures = Bulkhead(Event.HOST_FAILED, clock=clock)

    def fail(host: str, text: str) -> None:
        with failures.containing(host):
            raise ValueError(text)

    with structlog.testing.capture_logs() as event_log:
        for number in range(5):
            fail("gpu-a", f"at {number}")
        fail("gpu-b", "x")
        assert len(events(event_log, "host.failed", host="gpu-a")) == 1
        assert len(events(event_log, "host.failed", host="gpu-b")) == 1
        clock.now = 3601
        fail("gpu-a", "again")
        assert len(events(event_log, "host.failed", host="gpu-a")) == 2
        failures.report("gpu-a", KeyError("another"))
        assert len(events(event_log, "host.failed", host="gpu-a")) == 3
    assert len(event_log) == 8


def test_memory_of_failures_is_bounded() -> None:
    """Hosts and services come and go, and none of their failures is kept for good."""
    failures = Bulkhead()
    with structlog.testing.capture_logs():
        for number in range(5_000):
            failures.report(f"host {number}", ValueError("x"))
    assert len(failures.reported) <= 1024


def test_a_full_disk_is_no_news() -> None:
    """Whoever fetches tells of it."""
    counted: Counter[str] = Counter()
    failures = Bulkhead(counted=lambda service: counted.update([service]))
    with structlog.testing.capture_logs() as event_log:
        failures.report("manifests", DiskFull("full"))
    assert not events(event_log, "service.failed")
    assert not counted


def test_an_event_is_bounded_and_keeps_secrets() -> None:
    """However deep the traceback and whatever stands in the message: lines are few, and secrets are hidden."""
    stream = StringIO()

    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        # A key as the cloud gives it.
        raise ValueError("https://user:hunter2hunter2@example.com/?token=abcdefghijklmnop " + "x" * 100_000)

    try:
        configure("json", stream=stream)
        with Bulkhead(Event.HOST_FAILED).containing("gpu-a"):
            deep(900)
    finally:
        structlog.reset_defaults()
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told["event"] == "host.failed"
    assert told["level"] == "error"
    assert told["exception"][-1].startswith("ValueError: ")
    assert len(told["exception"]) <= MOST_ITEMS
    assert len(line) < 100_000
    assert "hunter2hunter2" not in line


def test_a_group_is_described_by_its_members() -> None:
    """Who reads the event sees what went wrong, not that there was a group."""
    error = ExceptionGroup("", [KeyError("x"), ExceptionGroup("", [Retry("lost")]), *map(ValueError, "abc")])
    assert described(error) == "KeyError: 'x'; Retry: lost; ValueError: a; and 2 more"
    assert described(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("errors", "raised_as"),
    [
        ([Retry("a"), HostQuarantined("b")], HostQuarantined),
        ([Retry("a"), DiskFull("b")], DiskFull),
        ([DiskFull("a"), HaltedForSafety("b")], HaltedForSafety),
        ([HaltedForSafety("a"), Fatal("b")], Fatal),
        ([Retry("a"), KeyError("b")], ExceptionGroup),
        ([DiskFull("a"), KeyError("b")], ExceptionGroup),
        ([HaltedForSafety("a"), KeyError("b")], HaltedForSafety),
        ([Fatal("a"), KeyError("b")], Fatal),
        ([Fatal("a"), KeyboardInterrupt()], BaseExceptionGroup),
    ],
)
def test_the_gravest_error_of_a_group_decides(errors: list[BaseException], raised_as: type[BaseException]) -> None:
    """A defect beside one of our errors is a defect; what concerns all hosts is raised whatever lies beside it."""
    for order in (errors, errors[::-1]):
        with pytest.raises(raised_as), unwrapped():
            raise BaseExceptionGroup("", order)


def test_a_full_disk_does_not_concern_all_hosts() -> None:
    """Each host waits for room by itself."""
    assert not concerns_all(DiskFull("full"))
    assert concerns_all(HaltedForSafety("damaged"))
    assert concerns_all(Fatal("no"))
    assert not concerns_all(Retry("lost"))
