"""For how long nothing has moved: by looks that follow each other, on our clock alone."""

import time

from msgspec.structs import replace

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.stability import IdleTimer, StabilityTracker
from support.box_trees import TRAINING, Box, T

BOX = Box()
MOVED = BOX.snapshot()
STILL = replace(MOVED, changed=False)
APART = 10.0


def looked(*looks: tuple[float, bool]) -> IdleTimer:
    """Return what hears of looks: when each was, and whether it showed a change."""
    stillness = IdleTimer()
    for now, moved in looks:
        stillness.record_scan(MOVED if moved else STILL, now, APART)
    return stillness


def test_nothing_is_quiet_before_the_second_look() -> None:
    """What one look shows may have been written a moment before, however old it says that it is."""
    assert IdleTimer().quiet == 0.0
    assert looked((1000.0, True)).quiet == 0.0
    assert looked((1000.0, False)).quiet == 0.0


def test_quiet_lasts_until_the_last_look() -> None:
    """It counts from the last change that was seen, and what comes after the last look nobody knows."""
    stillness = looked((0.0, True), (10.0, False), (20.0, True), (30.0, False), (45.0, False))
    assert stillness.quiet == 25.0
    assert stillness.watched == 45.0


def test_a_break_begins_anew() -> None:
    """While nobody looked nothing was quiet, whatever the next look shows."""
    stillness = looked((0.0, True), (100.0, False), (2000.0, False), (2010.0, False))
    assert stillness.quiet == 10.0
    assert stillness.watched == 10.0


def test_moment_of_the_last_movement_stays_until_the_next_one() -> None:
    """However late looks come, it is the same moment; a break in watching, or a movement, is another one."""
    assert looked((1000.0, True), (1010.0, False)).since == 1000.0
    assert looked((1000.0, True), (1010.0, False), (1033.3, False)).since == 1000.0
    assert looked((1000.0, True), (1010.0, True), (1020.0, False)).since == 1010.0
    assert looked((1000.0, True), (3010.0, False), (3020.0, False)).since == 3010.0


def test_scans_that_take_long_are_no_break() -> None:
    """On a slow file system each takes longer than the gap that counts as a break otherwise."""
    stillness = IdleTimer()
    for number in range(1, 4):
        stillness.record_scan(STILL, number * 3000.0, APART, duration=2990.0)
    assert stillness.quiet == stillness.watched == 6000.0


def test_a_report_that_nothing_changed_counts_from_when_it_was_looked() -> None:
    """Time after that moment does not count as observed; a late report, or one of an older scan, adds nothing."""
    stillness = looked((0.0, True), (10.0, False))
    stillness.unchanged(8.0, APART, 0.0)
    assert stillness.quiet == 10.0
    stillness.unchanged(25.0, APART, 0.0)
    assert stillness.quiet == stillness.watched == 25.0
    assert stillness.since == 0.0
    stillness.unchanged(2000.0, APART, 0.0)
    assert (stillness.quiet, stillness.since) == (0.0, 2000.0), "the gap between two scans was too long"


def test_what_others_write_can_be_left_aside() -> None:
    """Of the files below some directories nobody asks since when they stand; of all others the newest counts."""
    box, sightings = Box(), StabilityTracker()
    box.add_run()
    sightings.update(box.snapshot(), 0.0)
    box.grow(f"training_runs/{T}/logs/train_log.jsonl", 5)
    sightings.update(box.snapshot(60.0), 60.0)
    _, run = box.place(f"training_runs/{T}")
    assert sightings.unchanged_since(100.0, []) == 60.0
    assert sightings.unchanged_since(100.0, [(TRAINING, run)]) == 0.0


def leaving_out(runs: int) -> float:
    """Return the CPU seconds of finding the last change outside of so many runs, all of which changed."""
    box, sightings = Box(), StabilityTracker()
    sightings.update(Box().snapshot(), 0.0)
    box.files(*(f"training_runs/run_{number % runs}/{number}" for number in range(4000)))
    sightings.update(box.snapshot(), 1.0)
    without = [(TRAINING, RemotePath((f"run_{number}",))) for number in range(runs)]
    took = []
    for _ in range(5):
        began = time.process_time()
        assert sightings.unchanged_since(9.0, without) == 0.0
        took.append(time.process_time() - began)
    return min(took)


def test_each_changed_file_is_not_compared_with_each_run_of_others() -> None:
    """A shared storage shows many runs, and many files change in the time of a connection."""
    assert leaving_out(100) < 5 * leaving_out(5)
