"""What was counted, as rows for the eye, and the verdict: flat or not.

A row holds medians: what goes up and comes down again with the work is no leak. The rise of a count is what a straight
line through the rows, without those of the warm-up, gains from its first to its last.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

WARM_UP = 0.25
"""The share of all rows that is left out: modules are imported, pools of threads filled, caches made."""

MOST: Mapping[str, tuple[float, float]] = {
    "descriptors": (0.25, 8),
    "tasks": (0.25, 4),
    "threads": (0.25, 4),
    "memory": (0.10, 4),
}
"""How much a count may rise and still be flat: a share of the lowest row, and that many more.

Boxes come and go some hundred times in half an hour, so that one descriptor or task lost each time is far beyond it.
What is known of a file stays in memory, a kilobyte or two: that is the rise that memory has.
"""

Sample = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One stretch of time."""

    minutes: float
    """Since the first sample, at the stretch's end."""
    medians: Mapping[str, float]
    peaks: Mapping[str, float]


def rows_of(samples: Sequence[Sample], seconds: float) -> Iterator[Row]:
    """Yield a row for each stretch of `seconds`."""
    began = samples[0]["at"]
    stretches: dict[int, list[Sample]] = {}
    for sample in samples:
        stretches.setdefault(int((sample["at"] - began) // seconds), []).append(sample)
    for number, stretch in stretches.items():
        counts = {name: [each[name] for each in stretch] for name in MOST}
        yield Row(
            (number + 1) * seconds / 60,
            {name: statistics.median(values) for name, values in counts.items()},
            {name: max(values) for name, values in counts.items()},
        )


def as_text(row: Row) -> str:
    """Return a row as a line: each count's median, and its peak in brackets."""
    counts = (f"{row.medians[name]:>9.0f} ({row.peaks[name]:>3.0f})" for name in MOST)
    return f"{row.minutes:7.1f}" + "".join(counts)


HEAD = "minutes" + "".join(f"{'MB' if name == 'memory' else name:>15}" for name in MOST)


@dataclass(frozen=True, slots=True)
class Rise:
    """What became of one count over the whole time."""

    name: str
    rise: float
    most: float

    @property
    def flat(self) -> bool:
        """Whether it is within its bound."""
        return self.rise <= self.most

    def __str__(self) -> str:
        word = "flat" if self.flat else "NOT FLAT"
        return f"{self.name}: {word}, rises by {self.rise:.1f}, {self.most:.1f} is allowed"


def rises(rows: Sequence[Row]) -> list[Rise]:
    """Judge each count; needs three rows after the warm-up."""
    warm = rows[int(len(rows) * WARM_UP) :]
    times = [row.minutes for row in warm]
    found = []
    for name, (share, more) in MOST.items():
        values = [row.medians[name] for row in warm]
        slope = statistics.linear_regression(times, values).slope
        found.append(Rise(name, slope * (times[-1] - times[0]), share * min(values) + more))
    return found
