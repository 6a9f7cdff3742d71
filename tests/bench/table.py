"""What was measured, judged against its bar: rows of a table, for the eye and as JSON.

A row compares medians of one run of the benchmarks; it never mixes figures of several runs.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_HEAD = ("work", "harvestd", "beside", "result", "bar", "")
_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Series:
    """The same thing measured several times."""

    who: str
    values: tuple[float, ...]
    unit: str = "s"
    cpu: tuple[float, ...] = ()
    """Seconds of processor time, user and system, of the process here and its children."""
    cut_off: bool = False
    """Whether the deadline ended it: it would have taken longer than it says."""

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    def percentile(self, share: float) -> float:
        """Return the smallest value that at least `share` (0 to 1) of all values don't exceed."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]

    @property
    def document(self) -> dict[str, object]:
        """The series as JSON has it."""
        values = [round(value, 6) for value in self.values]
        return {"who": self.who, "unit": self.unit, "median": round(self.median, 6), "values": values} | (
            ({"cpu": [round(value, 3) for value in self.cpu]} if self.cpu else {})
            | ({"cut_off": True} if self.cut_off else {})
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison."""

    work: str
    ours: Series
    peer: Series | None
    value: float
    unit: str
    """Of value and bar."""
    bar: float | None = None
    """None: there is none, the value is only reported."""
    more_is_better: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """One of ok, missed, reported."""
        if self.bar is None:
            return "reported"
        reached = self.value >= self.bar if self.more_is_better else self.value <= self.bar
        return "ok" if reached else "missed"

    @property
    def document(self) -> dict[str, object]:
        """The row as JSON has it."""
        return {
            "work": self.work,
            "harvestd": self.ours.document,
            "peer": self.peer.document if self.peer else None,
            "value": round(self.value, 6),
            "unit": self.unit,
            "bar": self.bar,
            "more_is_better": self.more_is_better,
            "verdict": self.verdict,
            "note": self.note,
        }


def times(work: str, ours: Series, peer: Series, at_most: float | None = None, note: str = "") -> Row:
    """Compare times: how many times as long as the peer we take."""
    return Row(work, ours, peer, ours.median / peer.median, "x", at_most, note=note)


def speed(work: str, ours: Series, peer: Series, at_least: float | None = None, note: str = "") -> Row:
    """Compare times the other way round: how many times as fast as the peer we are."""
    value = peer.median / ours.median
    return Row(work, ours, peer, value, "x as fast", at_least, more_is_better=True, note=note)


def figure(work: str, ours: Series, at_most: float | None = None, note: str = "") -> Row:
    """Hold the median of a series of ours against a bar in its own unit, without a peer."""
    return Row(work, ours, None, ours.median, ours.unit, at_most, note=note)


def worst(work: str, ours: Series, share: float, at_most: float | None = None, note: str = "") -> Row:
    """Hold a percentile of a series of ours against a bar in its own unit."""
    return Row(work, ours, None, ours.percentile(share), ours.unit, at_most, note=note)


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table in Markdown, its columns aligned for the eye."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    lines.insert(1, tuple("-" * max(3, width) for width in widths))
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    comparison = "≥" if row.more_is_better else "≤"
    bar = _NOTHING if row.bar is None else f"{comparison} {row.bar:g} {row.unit}"
    bound = ""
    if row.peer is not None and row.peer.cut_off:
        bound = "> " if row.more_is_better else "< "
    work = f"{row.work} ({row.note})" if row.note else row.work
    return work, _shown(row.ours), _peer(row.peer), f"{bound}{_number(row.value, row.unit)}", bar, row.verdict


def _peer(series: Series | None) -> str:
    return _NOTHING if series is None else f"{series.who} {_shown(series)}"


def _shown(series: Series) -> str:
    bound = "> " if series.cut_off else ""
    cpu = f", CPU {statistics.median(series.cpu):.2f} s" if series.cpu else ""
    return f"{bound}{_number(series.median, series.unit)}{cpu}"


def _number(value: float, unit: str) -> str:
    """Return a number with as many digits as mean something."""
    digits = 0 if value >= 100 else 1 if value >= 10 or unit.endswith("fast") else 2
    return f"{value:.{digits}f} {unit}"
