"""Curves of a log in buckets, beside a computation on the whole list of rows."""

import json
import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from harvestd.series.buckets import NAN, Curve, Points
from harvestd.series.log_index import LogIndex

Row = tuple[int, float]

ROWS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 40), st.integers(0, 3000)),
        st.one_of(st.integers(-1000, 1000).map(float), st.just(NAN)),
    ),
    max_size=120,
)
RISING = st.lists(st.tuples(st.integers(0, 3), st.integers(-1000, 1000).map(float)), max_size=200).map(
    lambda pairs: [(sum(step for step, _ in pairs[: n + 1]), value) for n, (_, value) in enumerate(pairs)]
)


def kept(rows: Sequence[Row], limit: int) -> tuple[list[Row], int]:
    """Return the rows that count, by the rule for falling steps, and the width of a bucket."""
    found: list[Row] = []
    width = 1
    for step, value in rows:
        if found and step < found[-1][0]:
            boundary = math.ceil(step / width) * width
            found = [row for row in found if row[0] < boundary]
            if not found:
                width = 1
        found.append((step, value))
        while len({each // width for each, _ in found}) > limit:
            width *= 2
    return found, width


def expected(rows: Sequence[Row], limit: int, points: int) -> Points:
    """Return what a query must return, computed from all rows."""
    found, width = kept(rows, limit)
    while len({step // width for step, _ in found}) > points:
        width *= 2
    groups: dict[int, list[Row]] = {}
    for step, value in found:
        groups.setdefault(step // width, []).append((step, value))
    finite = {bucket: [v for _, v in group if not math.isnan(v)] for bucket, group in groups.items()}
    return Points(
        width,
        0,
        [group[-1][0] for group in groups.values()],
        [len(values) for values in finite.values()],
        [len(group) - len(finite[bucket]) for bucket, group in groups.items()],
        [min(values, default=None) for values in finite.values()],
        [max(values, default=None) for values in finite.values()],
        [sum(values) / len(values) if values else None for values in finite.values()],
        [values[-1] if values else None for values in finite.values()],
    )


def filled(rows: Sequence[Row], limit: int, curve: Curve | None = None, first_mark: int = 0) -> Curve:
    """Return a curve to which rows were added, those that rise together in one call."""
    curve = curve or Curve(limit)
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end][0] < rows[end - 1][0]:
            curve.extend(
                [step for step, _ in rows[start:end]], [value for _, value in rows[start:end]], first_mark + end
            )
            start = end
    return curve


@given(st.one_of(ROWS, RISING), st.integers(1, 12), st.integers(1, 12))
def test_a_query_is_what_the_whole_list_says(rows: list[Row], limit: int, points: int) -> None:
    """Whatever falls, repeats or is NaN: each bucket has the lowest, highest, mean and newest of its rows."""
    assert filled(rows, limit).query(points) == expected(rows, limit, points)


@given(st.one_of(ROWS, RISING), st.one_of(ROWS, RISING), st.integers(1, 12), st.integers(1, 12))
def test_what_is_new_completes_an_earlier_answer(rows: list[Row], more: list[Row], limit: int, points: int) -> None:
    """A reader that drops and appends as the answers require has what a reader without a cursor gets."""
    curve = filled(rows, limit)
    before = curve.query(points)
    filled(more, limit, curve, len(rows))
    new, whole = curve.query(points, len(rows), before.width), curve.query(points)
    begin = len([step for step in before.steps if step < new.replaces_from])
    for column in ("steps", "counts", "gaps", "lowest", "highest", "means", "newest"):
        assert getattr(before, column)[:begin] + getattr(new, column) == getattr(whole, column)


@given(st.one_of(ROWS, RISING), st.lists(st.integers(1, 60), max_size=20), st.sampled_from(["", "\n"]))
def test_a_log_may_be_read_in_any_pieces_and_be_saved_between_them(
    rows: list[Row], pieces: list[int], end: str
) -> None:
    """The index of a log that grew, and was saved and loaded, equals that of the log as a whole."""
    text = "\n".join(json.dumps({"step": step, "loss": value, "other": 1}) for step, value in rows)
    content = (text + end).encode()
    whole = LogIndex("a")
    whole.add(content, is_end=True)
    grown = LogIndex("a")
    for length in pieces:
        grown.add(content[grown.offset : grown.offset + length])
        grown = LogIndex.load(grown.dump()) or LogIndex("lost")
    grown.add(content[grown.offset :], is_end=True)
    assert grown.query(grown.curves, 100).curves == whole.query(whole.curves, 100).curves
    assert (grown.offset, grown.rows, grown.generation) == (len(content), whole.rows, "a")
