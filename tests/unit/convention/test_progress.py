"""How far a run is."""

from datetime import datetime, timedelta

import pytest

from harvestd.convention.metadata.progress import newest_step, seconds_left


def test_the_newest_step_is_the_greatest() -> None:
    """Lines of an older probe repeat a step; the order does not matter."""
    assert newest_step([b'{"step": 3, "loss": NaN}', b'{"step": 4}', b'{"step": 4, "gns_y_small": 1}']) == 4


@pytest.mark.parametrize(
    "line",
    [b"", b'{"step": 9', b'{"step": "9"}', b'{"step": true}', b'{"step": -1}', b"[9]", b"\xff\xfe", b"[" * 100_000,
     b'{"step": 99999999999}', b'{"step": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_line_without_a_sound_step_counts_for_nothing(line: bytes) -> None:
    """Torn, deep and nonsensical lines are passed over."""
    assert newest_step([b'{"step": 2}', line]) == 2
    assert newest_step([line]) is None


def test_the_time_left_follows_the_pace() -> None:
    """Half of the steps in an hour leaves another hour; an overdue run has nothing left, one without pace no answer."""
    start = datetime(2025, 8, 20, 3, 31, 43)  # noqa: DTZ001 - a box's local time, as run names carry it
    hour = timedelta(hours=1)
    assert seconds_left(32, 64, start, start + hour) == 3600
    assert seconds_left(64, 32, start, start + hour) == 0
    assert seconds_left(0, 64, start, start + hour) is None
    assert seconds_left(1, 64, start, start) is None
