"""Decides what a receiver is sent now, and when to look again. Pure: facts are arguments, no clock is read.

Notifications are sent one by one, oldest first, what puts data at risk before the rest. Above `A_MINUTE` messages a
minute they are sent together, as one digest. In quiet hours only what puts data at risk is sent. A receiver that does
not take one is tried again after a pause that doubles; until then nothing else is sent to it. What could not be
delivered within `DEADLINE` is given up.
"""

from collections.abc import Sequence
from typing import Final

from harvestd.bulkhead import backoff
from harvestd.catalogue.entries import Delivery
from harvestd.convention.structs import Immutable
from harvestd.telemetry.events import Event

A_MINUTE: Final = 10
"""Messages that a receiver gets in a minute; more are sent together."""
MINUTE: Final = 60.0
DEADLINE: Final = 3 * 24 * 3_600.0
"""Seconds after which a notification is given up."""
FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 300.0
"""Seconds between two attempts to deliver the same notification."""
LONGEST_REQUESTED: Final = 3_600.0
"""Seconds that a receiver may ask for before the next attempt."""
URGENT: Final = frozenset(
    {Event.HOST_LOST_DATA, Event.HOST_ENDING, Event.HOST_QUARANTINED, Event.HOST_UNWATCHED, Event.DISK_LOW}
)
"""Events by which data is lost or not fetched any more."""
_DAY: Final = 24 * 60
"""Minutes."""


class Schedule(Immutable):
    """What to do now for one receiver."""

    batches: tuple[tuple[Delivery, ...], ...] = ()
    """The messages to send, in this order: one notification each, or several as a digest."""
    expired: tuple[Delivery, ...] = ()
    """To be given up."""
    wait: float | None = None
    """Seconds until something may be due, apart from new notifications; None: nothing is waiting."""


def schedule(deliveries: Sequence[Delivery], sent: Sequence[float], now: float, quiet_for: float) -> Schedule:
    """Return what to do at `now`.

    `sent`: when messages were sent to this receiver in the last minute. `quiet_for`: the seconds until quiet hours end;
    0 outside of them.
    """
    expired = tuple(each for each in deliveries if now - each.notification.created > DEADLINE)
    left = [each for each in deliveries if each not in expired]
    ready = sorted((each for each in left if is_urgent(each) or quiet_for <= 0.0), key=_order)
    held = quiet_for if len(ready) < len(left) else None
    if not ready:
        return Schedule(expired=expired, wait=held)
    blocked = max((each.next_try for each in ready if each.attempts), default=now)
    if blocked > now:
        return Schedule(expired=expired, wait=blocked - now)
    recent = [at for at in sent if now - at < MINUTE]
    budget = A_MINUTE - len(recent)
    if budget <= 0:
        return Schedule(expired=expired, wait=max(0.0, min(recent) + MINUTE - now))
    if len(ready) > budget:
        return Schedule((tuple(ready),), expired, held)
    return Schedule(tuple((each,) for each in ready), expired, held)


def pause_after(batch: Sequence[Delivery], requested: float) -> float:
    """Return the seconds until a batch that failed is tried again; `requested` by the receiver."""
    failures = 1 + max(each.attempts for each in batch)
    return max(backoff(FIRST_PAUSE, failures, LONGEST_PAUSE), min(requested, LONGEST_REQUESTED))


def is_urgent(delivery: Delivery) -> bool:
    """Return whether data is at risk, so that it is sent in quiet hours, too."""
    return delivery.notification.event in URGENT


def quiet_minutes(hours: tuple[int, int] | None, minute: int) -> int:
    """Return how many minutes of quiet hours are left at this minute of the day; 0 outside of them.

    They may span midnight.
    """
    if hours is None:
        return 0
    begin, end = hours
    inside = begin <= minute < end if begin < end else minute >= begin or minute < end
    return (end - minute) % _DAY if inside else 0


def _order(delivery: Delivery) -> tuple[bool, int]:
    return not is_urgent(delivery), delivery.notification.id
