"""Segments: who fetches what next, and what counts as here."""

import pytest

from harvestd.harvest.transfer.pool import FIRST, LARGEST, LAST, SMALLEST, Segment, Segments

MIB = 1024 * 1024


def finished(segment: Segment) -> Segment:
    """Return a segment after all of it came and was believed."""
    segment.at, segment.here = segment.end, True
    return segment


def taken(segments: Segments, rate: float | None = None) -> Segment:
    """Take the next segment, of which there must be one."""
    segment = segments.take(rate)
    assert segment is not None
    return segment


def test_one_lane_gets_everything_in_one_piece() -> None:
    """Without others there is nothing to share, and one answer of the box is the cheapest."""
    segments = Segments(5, 900 * MIB, 1)
    only = taken(segments)
    assert (only.start, only.end) == (5, 900 * MIB)
    assert segments.take(None) is None
    assert not segments.all_here
    finished(only)
    assert segments.all_here


@pytest.mark.parametrize("rate", [None, 1.0, 7 * MIB, 500 * MIB])
def test_segments_cover_the_file_once_and_in_order(rate: float | None) -> None:
    """Whatever the rate, each byte is handed out once, from low to high, in pieces of a bounded size."""
    segments = Segments(3, 300 * MIB + 1, 4)
    at = 3
    while (segment := segments.take(rate)) is not None:
        assert segment.start == at
        assert 0 < segment.end - segment.start <= LARGEST
        at = segment.end
    assert at == 300 * MIB + 1


def test_length_follows_the_rate_of_the_lane() -> None:
    """A lane's first segment is short; then one lasts about a second, within bounds."""
    segments = Segments(0, 10_000 * MIB, 4)
    lengths = [(each := taken(segments, rate)).end - each.start for rate in (None, 7.5 * MIB, 1.0, 900.0 * MIB)]
    assert lengths == [FIRST, int(7.5 * MIB), SMALLEST, LARGEST]


def test_last_segments_shrink_so_that_lanes_end_together() -> None:
    """Near the end nobody takes more than a fair part of what is left, but never less than is worth asking for."""
    segments = Segments(0, 64 * MIB, 4)
    lengths = []
    while (segment := segments.take(900.0 * MIB)) is not None:
        lengths.append(segment.end - segment.start)
    assert lengths[0] == 16 * MIB
    assert lengths == sorted(lengths, reverse=True)
    assert all(length >= LAST for length in lengths[:-1])


def test_what_comes_out_of_order_is_contiguous_only_once_the_gap_is_closed() -> None:
    """A later segment counts for nothing until those before it are here; the first open one counts as far as it is."""
    segments = Segments(0, 3 * FIRST, 4)
    first, second, third = (taken(segments) for _ in range(3))
    finished(third)
    first.at = 100
    assert (segments.verified_end, segments.contiguous) == (0, 100)
    finished(second)
    assert (segments.verified_end, segments.contiguous) == (0, 100)
    assert not segments.all_here
    finished(first)
    assert (segments.verified_end, segments.contiguous) == (3 * FIRST, 3 * FIRST)
    assert segments.all_here


def test_what_is_given_back_is_handed_out_first_and_counts_for_nothing() -> None:
    """Segments of lost lanes come before new ones, the lowest first, and what came of them is not trusted."""
    segments = Segments(0, 100 * MIB, 4)
    first, second, third = (taken(segments) for _ in range(3))
    second.at = second.end - 1
    segments.give_back(second)
    segments.give_back(first)
    finished(third)
    assert second.at == second.start
    assert not segments.all_here
    assert [taken(segments) for _ in range(2)] == [first, second]
    assert taken(segments).start == third.end
