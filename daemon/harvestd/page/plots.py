"""Plots as SVG: scales with round ticks, lines with gaps, and areas. Pure.

A plot's box is `WIDTH` wide, whatever the browser makes of it: it is stretched, strokes are not. `static/plot.js` has
the same rules for scales and smoothing, so that nothing moves when it replaces what is drawn here.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from harvestd.convention.structs import Immutable
from harvestd.page import words

WIDTH: Final = 1000
_OUTLIERS: Final = 8.0
"""How many times as high as the usual values a whole range may be until its ends are cut off."""
_USUAL: Final = 0.01
"""The share of values at each end that is not usual."""
_ROUND: Final = (1.0, 2.0, 2.5, 5.0, 10.0)

Values = Sequence[float | None]


class Scale(Immutable):
    """A linear scale with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Return where a value lies, from 0 at the low end to 1, or beyond."""
        return (value - self.low) / (self.high - self.low)

    def label(self, tick: float) -> str:
        """Return a tick with as many digits as the distance of ticks needs."""
        if tick and (abs(tick) >= 1e6 or abs(tick) < 1e-4):  # noqa: PLR2004  (as `words.figure`)
            return f"{tick:.3g}".replace("-", words.MINUS)
        if not tick:
            return "0"
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else abs(tick) or 1.0
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        digits += f"{step:.{digits + 1}f}"[-1] != "0" if digits else 0
        return f"{tick:,.{digits}f}".replace("-", words.MINUS)


def round_step(span: float, lines: int) -> float:
    """Return the round distance of ticks of which about `lines` fit into a span."""
    raw = span / lines
    power = 10.0 ** math.floor(math.log10(raw))
    return power * next(each for each in _ROUND if each * power >= raw * (1 - 1e-9))


def scale_of(columns: Iterable[Values], lines: int = 3) -> Scale:
    """Return the scale for some values: their range, but without few values that are far from all others."""
    values = sorted(value for column in columns for value in column if value is not None)
    if not values:
        return Scale(0.0, 1.0, (0.0, 1.0))
    cut = int(len(values) * _USUAL)
    low, high = values[0], values[-1]
    usual_low, usual_high = values[cut], values[-1 - cut]
    usual = usual_high - usual_low
    if usual > 0 and high - low > _OUTLIERS * usual:
        low, high = max(low, usual_low - usual), min(high, usual_high + usual)
    if high - low <= abs(high) * 1e-9:
        spread = abs(high) / 2 or 0.5
        low, high = low - spread, high + spread
    return scale_between(low, high, lines)


def scale_between(low: float, high: float, lines: int = 3) -> Scale:
    """Return a scale from `low` to `high`, with a little room, and round ticks in it."""
    step = round_step(high - low, lines)
    room = (high - low) * 0.06
    low, high = low - room, high + room
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last == first:
        step /= 2
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Scale(low, high, tuple(number * step if number else 0.0 for number in range(first, last + 1)))


def steps_scale(last: int, lines: int = 8) -> Scale:
    """Return the scale of steps from 0 to `last`, without room."""
    step = max(1.0, round_step(max(1, last), lines))
    step = step if step.is_integer() else 2 * step
    return Scale(0.0, float(max(1, last)), tuple(n * step for n in range(int(max(1, last) / step + 1e-9) + 1)))


def smoothed(values: Values, weight: float) -> list[float | None]:
    """Return the moving average with this weight of what was before; a gap stays, and does not reset it."""
    mean, share = 0.0, 0.0
    found: list[float | None] = []
    for value in values:
        if value is None:
            found.append(None)
            continue
        mean = weight * mean + (1 - weight) * value
        share = weight * share + (1 - weight)
        found.append(mean / share)
    return found


def line(xs: Sequence[float], ys: Values, height: float) -> str:
    """Return an SVG path through points given as shares of the box; None is a gap, which is never bridged."""
    return "".join(_pieces(xs, ys, height))


def _pieces(xs: Sequence[float], ys: Values, height: float) -> Iterator[str]:
    command = "M"
    for index, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if y is None:
            command = "M"
            continue
        yield f"{command}{_point(x, y, height)}"
        is_alone = command == "M" and (index + 1 == len(ys) or ys[index + 1] is None)
        if is_alone:
            yield "h0"  # with round ends, a dot
        command = "L"


def area(xs: Sequence[float], lows: Values, highs: Values, height: float) -> str:
    """Return the SVG path of the areas between two lines; a gap in either is a gap."""
    found: list[str] = []
    part: list[tuple[float, float, float]] = []
    for x, low, high in [*zip(xs, lows, highs, strict=True), (0.0, None, None)]:
        if low is not None and high is not None:
            part.append((x, low, high))
            continue
        if len(part) > 1:
            there = "L".join(_point(x, y, height) for x, _, y in part)
            back = "L".join(_point(x, y, height) for x, y, _ in reversed(part))
            found.append(f"M{there}L{back}Z")
        part = []
    return "".join(found)


def _point(x: float, y: float, height: float) -> str:
    clipped = min(1.2, max(-0.2, y))
    return f"{round(WIDTH * x, 1):g} {round(height * (1 - clipped), 1):g}"


def percent(share: float) -> str:
    """Return a share of a width for an attribute, such as "41.3%"."""
    return f"{round(100 * share, 2):g}%"


def shares(scale: Scale, values: Values) -> list[float | None]:
    """Return where values lie on a scale."""
    return [None if value is None else scale.share(value) for value in values]


def axis_ticks(axis: Scale) -> list[tuple[str, str, str]]:
    """Return the ticks of an axis of steps: where, the label, and how it is anchored; the last one is its end."""
    ticks = [tick for tick in axis.ticks if axis.share(tick) < 0.92 or axis.share(tick) == 1]  # noqa: PLR2004
    if ticks[-1] != axis.high:
        ticks.append(axis.high)
    return [
        (
            percent(axis.share(tick)),
            f"{tick:,.0f}",
            "end" if tick == axis.high else "start" if not tick else "middle",
        )
        for tick in ticks
    ]


def apart(places: Sequence[float], least: float) -> list[float]:
    """Return places from 0 to 1 that are at least `least` apart, in their order, and moved by little."""
    found = list(places)
    order = sorted(range(len(found)), key=found.__getitem__)
    for before, after in pairwise(order):
        found[after] = max(found[after], found[before] + least)
    over = found[order[-1]] - 1 if order else 0.0
    for after, before in pairwise(reversed(order)):
        if over <= 0:
            break
        found[after] = min(found[after], 1.0)
        found[before] = min(found[before], found[after] - least)
    return found
