"""Decides which conditions are news. Pure: facts are arguments, no clock is read.

A condition is a state of a host, a run or the disk that a person should learn of. It is observed again and again, also
after a restart of the daemon; it is news once for each time that it begins. Whether it began anew is decided by the
latest notification of the same event and subject, which is on record, and not by anything that a process remembers.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import field

from harvestd.catalogue.entries import Episode, Notification
from harvestd.convention.structs import Immutable
from harvestd.telemetry.events import Event

Subject = tuple[str, str]
"""An event's name, and what it is about."""

GRACE: Final = 3_600.0
"""Seconds before the first notification was possible from which on what happened is news."""
OLD: Final = 7 * 24 * 3_600.0
"""Seconds after which what happened is no news: a host that was just added may show runs of many months."""


class Condition(Immutable):
    """One condition, as it was just observed."""

    event: Event
    about: str
    """The subject: a host's identity, a run's id with its step, or the path of the disk."""
    holds: bool = True
    """False: it is certainly over. What is unknown is not observed at all."""
    since: float | None = None
    """When it began, in Unix time; None: unknown."""
    contrary: float | None = None
    """The last moment at which it certainly did not hold, such as that of the last complete scan; None: none is known.

    A notification from before that moment is about an earlier happening.
    """
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The fields of its event, as JSON values."""

    @property
    def subject(self) -> Subject:
        """The key of its notifications."""
        return self.event.value, self.about


def news(
    conditions: Iterable[Condition], known: Mapping[Subject, Episode], since: float, now: float
) -> list[Notification]:
    """Return the notifications to make, with their keys.

    `known` has the latest notification of each subject; `since`: when the first one was possible.
    """
    found: dict[Subject, Notification] = {}
    for each in conditions:
        if each.subject not in found and _is_news(each, known.get(each.subject), since, now):
            before = known.get(each.subject)
            number = 1 if before is None else before.number + 1
            key = f"{each.event.value}:{each.about}:{number}"
            found[each.subject] = Notification(key, each.event.value, each.about, each.fields, now)
    return list(found.values())


def _is_news(condition: Condition, before: Episode | None, since: float, now: float) -> bool:
    if not condition.holds:
        return False
    if condition.since is not None and condition.since < max(since - GRACE, now - OLD):
        return False
    if before is None or before.ended is not None:
        return True
    return condition.contrary is not None and condition.contrary > before.created


def over(conditions: Iterable[Condition], known: Mapping[Subject, Episode]) -> list[Subject]:
    """Return the subjects whose condition has ended, and whose latest notification is not recorded as ended."""
    ended = (each.subject for each in conditions if not each.holds)
    return [each for each in ended if each in known and known[each].ended is None]
