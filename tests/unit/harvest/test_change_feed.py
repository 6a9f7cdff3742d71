"""When work on experiments that keep changing is due."""

from harvestd.harvest.change_feed import ChangeFeed, Debouncer

QUIET, EVERY = 5.0, 60.0


def debouncer(at: float = 0.0) -> Debouncer[str]:
    """Return a debouncer for which "a" changed."""
    made: Debouncer[str] = Debouncer(QUIET, EVERY)
    made.note({"a"}, at)
    return made


def test_a_change_is_due_after_it_was_quiet() -> None:
    """Not before, since another change may follow."""
    made = debouncer()
    assert made.due(QUIET - 1) == []
    assert made.due(QUIET) == ["a"]


def test_what_keeps_changing_is_due_after_the_longest_wait() -> None:
    """A directory that never rests does not wait for ever."""
    made = debouncer()
    for second in range(1, int(EVERY)):
        made.note({"a"}, float(second))
        assert made.due(float(second)) == []
    made.note({"a"}, EVERY)
    assert made.due(EVERY) == ["a"]


def test_what_was_worked_on_waits_before_the_next_time() -> None:
    """However long it is quiet; what did not change again is not due at all."""
    made = debouncer()
    made.begin("a")
    made.worked("a", 10.0)
    assert made.due(1000.0) == []
    made.note({"a"}, 11.0)
    assert made.due(10.0 + EVERY - 1) == []
    assert made.due(10.0 + EVERY) == ["a"]


def test_a_change_during_the_work_makes_it_wait_again() -> None:
    """`begin` comes before the work, so nothing that changes meanwhile is lost."""
    made = debouncer()
    made.begin("a")
    made.note({"a"}, 1.0)
    assert "a" in made
    assert made.waiting() == ["a"]


def test_postponed_work_is_due_at_its_time() -> None:
    """A report that failed is made again later, and also if nothing changes any more."""
    made = debouncer()
    made.postpone("a", 300.0)
    assert made.due(299.0) == []
    assert made.due(300.0) == ["a"]


def test_both_services_are_told_of_a_change() -> None:
    """Files without an experiment have a manifest, and no report."""
    changes = ChangeFeed()
    changes.touch(["a", None])
    assert changes.manifests == {"a", None}
    assert changes.reports == {"a"}
    made: Debouncer[str] = Debouncer(QUIET, EVERY)
    made.note(changes.reports, 0.0)
    assert not changes.reports
    assert made
