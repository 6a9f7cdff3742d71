"""What a receiver is sent when: one by one, together above ten a minute, and little in quiet hours."""

import pytest

from harvestd.catalogue.entries import Delivery, Notification
from harvestd.notify.schedule import DEADLINE, LONGEST_PAUSE, pause_after, quiet_minutes, schedule

NOW = 1_000_000_000.0


def waiting(*events: str, attempts: int = 0, next_try: float = NOW, created: float = NOW) -> list[Delivery]:
    """Return deliveries of these events, oldest first."""
    return [
        Delivery(Notification(f"{event}:{number}", event, "x", {}, created, number), attempts, next_try)
        for number, event in enumerate(events)
    ]


def numbers(batches: tuple[tuple[Delivery, ...], ...]) -> list[list[int]]:
    """Return the ids of each message."""
    return [[each.notification.id for each in batch] for batch in batches]


def test_what_puts_data_at_risk_goes_first() -> None:
    """The rest in its order, one message for each."""
    found = schedule(waiting("run.stalled", "run.died", "host.lost_data"), [], NOW, 0)
    assert numbers(found.batches) == [[2], [0], [1]]
    assert schedule([], [], NOW, 0).wait is None


def test_more_than_ten_in_a_minute_go_together() -> None:
    """And once ten messages went out, the next one waits until the oldest of them is a minute old."""
    assert len(schedule(waiting(*["run.died"] * 10), [], NOW, 0).batches) == 10
    found = schedule(waiting(*["run.died"] * 200, "disk.low"), [], NOW, 0)
    assert [len(batch) for batch in found.batches] == [201]
    assert found.batches[0][0].notification.event == "disk.low"
    sent = [NOW - 59 + second for second in range(10)]
    full = schedule(waiting("run.died"), sent, NOW, 0)
    assert (full.batches, full.wait) == ((), 1.0)
    assert numbers(schedule(waiting("run.died", "run.died"), sent, NOW + 1, 0).batches) == [[0, 1]]
    assert numbers(schedule(waiting("run.died", "run.died"), sent, NOW + 2, 0).batches) == [[0], [1]]


def test_quiet_hours_hold_all_but_what_puts_data_at_risk() -> None:
    """Until they end, when all of it is sent."""
    both = waiting("run.finished", "host.lost_data")
    found = schedule(both, [], NOW, 3600)
    assert (numbers(found.batches), found.wait) == ([[1]], 3600)
    held = schedule(both[:1], [], NOW, 3600)
    assert (held.batches, held.wait) == ((), 3600)
    assert numbers(schedule(both[:1], [], NOW + 3600, 0).batches) == [[0]]


def test_a_receiver_that_failed_is_left_alone_for_a_while() -> None:
    """Nothing else is tried meanwhile, however urgent."""
    failing = waiting("run.died", attempts=2, next_try=NOW + 20)
    found = schedule([*failing, *waiting("disk.low")], [], NOW, 0)
    assert (found.batches, found.wait) == ((), 20)
    assert len(schedule([*failing, *waiting("disk.low")], [], NOW + 20, 0).batches) == 2


def test_pauses_double_up_to_a_limit_and_heed_the_receiver() -> None:
    """What it asks for is heeded for an hour at most."""
    pauses = [pause_after(waiting("run.died", attempts=attempts), 0.0) for attempts in range(12)]
    assert pauses[:4] == [5, 10, 20, 40]
    assert pauses[-1] == LONGEST_PAUSE
    assert pause_after(waiting("run.died"), 120.0) == 120
    assert pause_after(waiting("run.died"), 1e9) == 3600


def test_what_could_not_be_delivered_for_days_is_given_up() -> None:
    """And does not block the rest."""
    old = waiting("run.died", created=NOW - DEADLINE - 1, attempts=500, next_try=NOW + 300)
    found = schedule([*old, *waiting("disk.low")], [], NOW, 0)
    assert found.expired == tuple(old)
    assert [batch[0].notification.event for batch in found.batches] == ["disk.low"]


@pytest.mark.parametrize(
    ("hours", "minute", "left"),
    [
        (None, 0, 0),
        ((22 * 60, 7 * 60), 22 * 60, 540),
        ((22 * 60, 7 * 60), 6 * 60 + 59, 1),
        ((22 * 60, 7 * 60), 7 * 60, 0),
        ((22 * 60, 7 * 60), 12 * 60, 0),
        ((60, 120), 60, 60),
        ((60, 120), 120, 0),
        ((60, 120), 0, 0),
        ((23 * 60, 0), 23 * 60 + 30, 30),
    ],
)
def test_quiet_hours_may_span_midnight(hours: tuple[int, int] | None, minute: int, left: int) -> None:
    """The end belongs to the day."""
    assert quiet_minutes(hours, minute) == left
