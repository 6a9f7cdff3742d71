"""What the heartbeat requests: by progress, not by the life of the process."""

from typing import Any

import pytest
from msgspec.structs import replace

from harvestd.notify.heartbeat import PATIENCE, Progress, Signal, signal_of, url_of


def progress(quiet: float = 5.0, **fields: Any) -> Progress:  # noqa: ANN401  (each test sets what it is about)
    """Return the progress of a daemon with two hosts that scans every ten seconds."""
    return replace(Progress(2, is_complete=True, has_begun=True, quiet=quiet, interval=10.0), **fields)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (progress(), Signal.SUCCESS),
        (progress(PATIENCE + 1), Signal.FAIL),
        (progress(100.0), None),
        (progress(100.0, interval=40.0), Signal.SUCCESS),
        (progress(PATIENCE + 1, interval=3600.0), Signal.SUCCESS),
        (progress(3600.0 * 3 + 1, interval=3600.0), Signal.FAIL),
        (progress(5.0, has_begun=False), None),
        (progress(PATIENCE + 1, has_begun=False), Signal.FAIL),
        (progress(hosts=0), Signal.SUCCESS),
        (progress(PATIENCE + 1, hosts=0, has_begun=False), Signal.SUCCESS),
        (progress(PATIENCE + 1, hosts=0, is_complete=False, has_begun=False), Signal.FAIL),
        (progress(5.0, stuck="the scan of gpu-a"), Signal.FAIL),
    ],
)
def test_success_needs_progress(known: Progress, expected: Signal | None) -> None:
    """Between success and failure nothing is requested, and the service raises the alarm by itself."""
    assert signal_of(known)[0] is expected


def test_urls_keep_their_query() -> None:
    """The signal is the end of the path."""
    assert url_of("https://hc-ping.com/uuid", Signal.START) == "https://hc-ping.com/uuid/start"
    assert url_of("https://hc-ping.com/uuid/", Signal.FAIL) == "https://hc-ping.com/uuid/fail"
    assert (
        url_of("https://hc.example/ping/key/slug?create=1", Signal.FAIL)
        == "https://hc.example/ping/key/slug/fail?create=1"
    )
    assert url_of("https://hc-ping.com/uuid", Signal.SUCCESS) == "https://hc-ping.com/uuid"
