"""The values of one key of a log by step, in a bounded number of buckets. Pure.

A bucket covers `width` steps and holds the lowest and the highest value, the sum, the count and the newest value, so
that a spike stays visible however many steps share a bucket. The width is one step until there are more than `limit`
buckets, and doubles whenever there are.

*Falling steps*: a step lower than the one before begins another attempt, as after a resume from a checkpoint. The
buckets that begin at that step or later are dropped. The bucket in which it falls keeps its earlier values, so the
rule is exact while a bucket is one step wide. A step that is repeated adds to its bucket.

*What is new*: `mark` numbers the rows of the log. Each bucket has the mark of its last change, and these rise from
bucket to bucket, so everything after a mark is the end of the curve.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from harvestd.convention.structs import Immutable

LIMIT: Final = 2_000
"""Buckets of a curve, and points in an answer."""
NAN: Final = math.nan
"""Instead of a value that is no finite number."""
_COLUMNS: Final = ("steps", "marks", "counts", "gaps", "lowest", "highest", "sums", "newest")
_INTEGERS: Final = 4
"""The first columns hold unsigned integers of 64 bits, the others doubles."""


class Points(Immutable):
    """Buckets as they are sent; a value is None where a bucket holds no finite one."""

    width: int
    """Steps a bucket."""
    replaces_from: int
    """A reader of an earlier answer drops its points from this step on; 0: all of them."""
    steps: list[int]
    """The last step of each bucket."""
    counts: list[int]
    """Finite values."""
    gaps: list[int]
    """Values that are NaN or infinite."""
    lowest: list[float | None]
    highest: list[float | None]
    means: list[float | None]
    newest: list[float | None]


class Curve:
    """The buckets of one key."""

    __slots__ = ("_limit", "counts", "gaps", "highest", "lowest", "marks", "newest", "steps", "sums", "width")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self.width = 1
        self.steps = array("Q")
        """The last step of each bucket."""
        self.marks = array("Q")
        self.counts = array("Q")
        self.gaps = array("Q")
        self.lowest = array("d")
        self.highest = array("d")
        self.sums = array("d")
        self.newest = array("d")

    def __len__(self) -> int:
        """Return the number of buckets."""
        return len(self.steps)

    @property
    def size(self) -> int:
        """The bytes that its buckets take in memory."""
        return 8 * len(_COLUMNS) * len(self.steps)

    @property
    def last(self) -> float | None:
        """The newest finite value of the last bucket that has one; None if there is none."""
        return next((value for value in reversed(self.newest) if not math.isnan(value)), None)

    def extend(self, steps: Sequence[int], values: Sequence[float], mark: int) -> None:
        """Add values at steps that do not fall; `NAN` for one that is no finite number.

        `mark` is greater than in any call before.
        """
        if not steps:
            return
        if self.steps and steps[0] < self.steps[-1]:
            self._drop(steps[0])
        start = 0
        while start < len(steps):
            bucket = steps[start] // self.width
            end = bisect_left(steps, (bucket + 1) * self.width, start)
            self._put(bucket, steps[end - 1], values[start:end], mark)
            start = end
            while len(self.steps) > self._limit:
                self._double()

    def _drop(self, step: int) -> None:
        """Drop the buckets that begin at `step` or later."""
        first = -(-step // self.width) * self.width
        keep = bisect_left(self.steps, first)
        for name in _COLUMNS:
            del getattr(self, name)[keep:]
        if not self.steps:
            self.width = 1

    def _put(self, bucket: int, step: int, values: Sequence[float], mark: int) -> None:
        """Add values to a bucket: to the last one, or to a new one after it."""
        total, count = sum(values), len(values)
        if math.isnan(total):
            values = [value for value in values if not math.isnan(value)]
            total, count, gaps = sum(values), len(values), count - len(values)
        else:
            gaps = 0
        low, high, new = (min(values), max(values), values[-1]) if values else (NAN, NAN, NAN)
        if not self.steps or self.steps[-1] // self.width != bucket:
            for name, value in zip(_COLUMNS, (step, mark, count, gaps, low, high, total, new), strict=True):
                getattr(self, name).append(value)
            return
        self.steps[-1], self.marks[-1] = step, mark
        self.gaps[-1] += gaps
        if not count:
            return
        if self.counts[-1]:
            low, high = min(low, self.lowest[-1]), max(high, self.highest[-1])
        self.lowest[-1], self.highest[-1], self.newest[-1] = low, high, new
        self.counts[-1] += count
        self.sums[-1] += total

    def _double(self) -> None:
        """Double the width, and merge the buckets that share one now."""
        self.width *= 2
        merged = self._merged(0, self.width)
        for name in _COLUMNS:
            setattr(self, name, getattr(merged, name))

    def _merged(self, first: int, width: int) -> "Curve":
        """Return a curve of the buckets from index `first` on, merged to a greater width."""
        rows: list[list[float]] = []
        before = -1
        for row in zip(*(getattr(self, name)[first:] for name in _COLUMNS), strict=True):
            bucket = row[0] // width
            if bucket != before:
                rows.append(list(row))
                before = bucket
                continue
            merged = rows[-1]
            step, mark, count, gaps, low, high, total, new = row
            merged[:2] = step, mark
            merged[3] += gaps
            if count:
                if merged[2]:
                    low, high = min(low, merged[4]), max(high, merged[5])
                merged[2] += count
                merged[4:] = low, high, merged[6] + total, new
        curve = Curve(self._limit)
        curve.width = width
        for name, values in zip(_COLUMNS, zip(*rows, strict=True), strict=True) if rows else ():
            getattr(curve, name).extend(values)
        return curve

    def width_for(self, points: int) -> int:
        """Return the width at which there are at most `points` buckets."""
        width = self.width
        while len(self.steps) > points and len({step // width for step in self.steps}) > points:
            width *= 2
        return width

    def query(self, points: int, since: int | None = None, width_then: int | None = None) -> Points:
        """Return at most `points` buckets: those that changed after the mark `since`, or all.

        `width_then` is the width of the answer at that mark: where it is another one now, all are returned.
        """
        width = self.width_for(points)
        first = bisect_right(self.marks, since) if since is not None and width == width_then else 0
        if first < len(self.steps):
            # A bucket of the answer is whole: it begins where its first bucket here does.
            first = bisect_left(self.steps, self.steps[first] // width * width)
        chosen = self if width == self.width and first == 0 else self._merged(first, width)
        replaces = chosen.steps[0] // width * width if first and chosen.steps else 0
        if first and not chosen.steps:
            replaces = self.steps[-1] + 1  # nothing is new
        return Points(
            width,
            replaces,
            chosen.steps.tolist(),
            chosen.counts.tolist(),
            chosen.gaps.tolist(),
            _sent(chosen.lowest),
            _sent(chosen.highest),
            [total / count if count else None for total, count in zip(chosen.sums, chosen.counts, strict=True)],
            _sent(chosen.newest),
        )

    def at(self, step: int) -> float | None:
        """Return the value at a step, between the newest values of the buckets around it; None outside of them."""
        index = bisect_left(self.steps, step)
        if index == len(self.steps):
            return None
        here, there = self.newest[index], self.steps[index]
        if there == step:
            return _finite(here)
        if index == 0:
            return None
        share = (step - self.steps[index - 1]) / (there - self.steps[index - 1])
        return _finite(self.newest[index - 1] + share * (here - self.newest[index - 1]))

    def dump(self) -> tuple[int, bytes]:
        """Return the width and the content of all buckets."""
        return self.width, b"".join(getattr(self, name).tobytes() for name in _COLUMNS)

    @classmethod
    def load(cls, width: int, content: bytes) -> "Curve":
        """Return the curve that was dumped; raise `ValueError` for another content."""
        length, rest = divmod(len(content), 8 * len(_COLUMNS))
        if rest or length > LIMIT or width < 1:
            raise ValueError("not the buckets of a curve")
        curve = cls()
        curve.width = width
        for number, name in enumerate(_COLUMNS):
            column = array("Q" if number < _INTEGERS else "d")
            column.frombytes(content[8 * length * number : 8 * length * (number + 1)])
            setattr(curve, name, column)
        return curve


def _sent(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
