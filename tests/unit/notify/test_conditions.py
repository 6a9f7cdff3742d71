"""Which conditions are news: each once for each time that it begins, also over restarts."""

from harvestd.catalogue.entries import Episode, Notification
from harvestd.notify.conditions import GRACE, OLD, Condition, Subject, news, over
from harvestd.telemetry.events import Event

NOW = 1_000_000_000.0
SINCE = NOW - 100_000


def drained(contrary: float | None = None) -> Condition:
    """Return the condition of a host that may be switched off."""
    return Condition(Event.HOST_DRAINED, "static:gpu-a", contrary=contrary, fields={"host": "gpu-a"})


def told(known: dict[Subject, Episode], *conditions: Condition, now: float = NOW) -> list[Notification]:
    """Return what is news, and note it as the service does."""
    found = news(conditions, known, SINCE, now)
    for each in found:
        before = known.get((each.event, each.subject))
        known[each.event, each.subject] = Episode(before.number + 1 if before else 1, each.created, None)
    return found


def test_a_condition_that_lasts_is_news_once() -> None:
    """However often it is observed, in this process or, with what is on record, in the next."""
    known: dict[Subject, Episode] = {}
    (first,) = told(known, drained(), drained())
    assert first == Notification("host.drained:static:gpu-a:1", "host.drained", "static:gpu-a", {"host": "gpu-a"}, NOW)
    assert told(known, drained(), now=NOW + 86_400) == []


def test_it_is_news_again_after_it_was_over() -> None:
    """Where it is seen to be over; the key counts."""
    known: dict[Subject, Episode] = {}
    low, fine = (Condition(Event.DISK_LOW, "/data", holds=holds) for holds in (True, False))
    assert len(told(known, low)) == 1
    assert over([low], known) == []
    assert over([fine], known) == [low.subject]
    known[low.subject] = Episode(1, NOW, NOW + 1)
    assert over([fine], known) == []
    assert [each.key for each in told(known, low)] == ["disk.low:/data:2"]
    assert told(known, fine) == []


def test_it_is_news_again_after_a_moment_at_which_it_did_not_hold() -> None:
    """Such as that of the last file of a host, which a restart does not change."""
    known: dict[Subject, Episode] = {}
    assert len(told(known, drained(NOW - 60))) == 1
    assert told(known, drained(NOW - 60), now=NOW + 900) == []
    assert len(told(known, drained(NOW + 600), now=NOW + 1800)) == 1
    assert told(known, drained(NOW + 600), now=NOW + 2700) == []


def test_what_happened_long_ago_is_no_news() -> None:
    """Before the first notification was possible, or a week ago: a new host may show runs of many months."""

    def finished(since: float) -> Condition:
        return Condition(Event.RUN_FINISHED, f"e1/run_{since}", since=since)

    assert told({}, finished(SINCE - GRACE - 1)) == []
    assert len(told({}, finished(SINCE - GRACE + 1))) == 1
    assert news([finished(NOW - OLD - 1)], {}, 0.0, NOW) == []
    assert len(news([finished(NOW - OLD + 1)], {}, 0.0, NOW)) == 1


def test_nothing_is_over_that_was_never_told() -> None:
    """And what is unknown ends nothing."""
    assert over([Condition(Event.HOST_ENDING, "i-1", holds=False)], {}) == []
    assert over([], {("host.ending", "i-1"): Episode(1, NOW, None)}) == []
