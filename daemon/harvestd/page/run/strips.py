"""The curves of a run as strips, one a key, and what happened in them, for the template of a run.

The strips are whole without script. `static/run.js` replaces what is drawn in each, and reads the same series.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, Final

import msgspec

from harvestd.api.state import Source
from harvestd.convention.structs import Immutable
from harvestd.page import plots, words
from harvestd.page.plots import Scale
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import RunRecord
from harvestd.series.buckets import LIMIT
from harvestd.series.reading import Question

POINTS: Final = 500
HEIGHT: Final = 96
SMOOTHING: Final = 0.6
_FIRST: Final = (
    ("loss", "Loss"),
    ("r_mean", "Reward"),
    ("reward", "Reward"),
    ("entropy", "Entropy"),
    ("kl", "KL"),
    ("gns_ema_critical_batch", "Critical batch, EMA"),
    ("lr", "Learning rate"),
)
"""The keys that are shown first, with their names; the others fold."""
NAMES: Final = {
    **dict(_FIRST),
    "gns_critical_batch": "Critical batch",
    "tag_correct": "Tags right",
    "think_len": "Thinking length",
    "logr_std": "Spread of log ratios",
}
_SILENT: Final = 300.0
_USUAL: Final = 10.0
"""A silence lasts at least this many seconds, and this many times as long as the usual step."""
_MOST_MARKS: Final = 6
_SPAN: Final = 3
"""Steps with NaN that are at most this many steps apart are told together."""

Document = Mapping[str, Any]


class Strip(Immutable):
    """One key."""

    key: str
    name: str
    value: str
    """The newest one."""
    before: str
    """The last value of the run before; empty: none."""
    label: str
    """What a screen reader says of the plot."""
    ticks: tuple[tuple[str, str], ...]
    """Where each grid line is, in percent of the height, and its label."""
    zero: str
    """Where zero is, if it is inside."""
    band: str
    raw: str
    line: str
    behind: str
    """Paths: from lowest to highest, every value, the smoothed line, the run before."""
    end: tuple[str, str] | None
    """Where the line ends, in percent of width and height."""


class Mark(Immutable):
    """Something that happened at a step."""

    kind: str
    """bad or warn."""
    step: int
    at: str
    """In percent of the width."""
    text: str
    anchor: str


class Curves(Immutable):
    """All strips and their common axis."""

    strips: tuple[Strip, ...]
    more: tuple[Strip, ...]
    ticks: tuple[tuple[str, str, str], ...]
    """The axis of steps: where, the label, and how it is anchored."""
    last: int
    """The last step of the axis."""
    done: str
    """How far the run is, in percent of the width."""
    marks: tuple[Mark, ...]
    gaps: tuple[tuple[str, int, int, int], ...]
    """Where keys were NaN: "Loss and KL were", the first and the last step, and how many values each."""
    silences: tuple[tuple[int, float, float], ...]
    """After which step, from when, and for how many seconds it was silent."""
    steps: int
    complete: bool


def before(run: RunRecord, knowledge: PlanningIndex) -> RunRecord | None:
    """Return the run before: the newest earlier one with the same experiment's name and model."""
    if run.experiment is None:
        return None
    name = knowledge.experiment(run.experiment).name
    same = [
        each
        for each in knowledge.runs()
        if each.name < run.name
        and each.experiment is not None
        and each.experiment != run.experiment
        and each.step is not None
        and _is_alike(name, knowledge.experiment(each.experiment).name)
    ]
    return max(same, key=lambda each: each.name, default=None)


def _is_alike(one: Any, other: Any) -> bool:  # noqa: ANN401  (names of experiments)
    return bool(one.experiment_name.value == other.experiment_name.value and one.model.value == other.model.value)


async def read(source: Source, run: RunRecord, keys: tuple[str, ...] | None = None) -> Document:
    """Return the series of a run."""
    body = await source.logs.answer(run.experiment, Question(keys, POINTS, with_times=True))
    found: Document = msgspec.json.decode(b"{" + body + b"}")
    wide = tuple(key for key, curve in found["curves"].items() if "nonfinite" in curve and curve["width"] > 1)
    if keys is None and wide:
        # Points of several steps do not say which of them is NaN; those of all points that there are say more.
        body = await source.logs.answer(run.experiment, Question(wide, LIMIT))
        for key, curve in msgspec.json.decode(b"{" + body + b"}")["curves"].items():
            found["curves"][key]["exact"] = curve.get("nonfinite", [])
    return found


def curves(series: Document, behind: Document | None, planned: int | None) -> Curves:
    """Return the strips of a run; `behind`: the series of the run before, `planned`: the last step that is to be."""
    newest = series["step"] or 0
    last = max(newest, planned or 0, 1)
    axis = plots.steps_scale(last)
    found = series["curves"]
    first = [key for key, _ in _FIRST if key in found and any(value is not None for value in found[key]["last"])]
    if not any(key.startswith("gns_ema") for key in first) and "gns_critical_batch" in found:
        first.append("gns_critical_batch")
    if "lr" in first and len({value for value in found["lr"]["last"] if value is not None}) == 1:
        first.remove("lr")  # a constant is a setting, not a curve
    rest = [key for key in found if key not in first]
    old = {} if behind is None else behind["curves"]
    gaps = [gap for key in (*first, *rest) for gap in _gaps(key, found[key])]
    silences = _silences(found[first[0]]) if first else []
    return Curves(
        strips=tuple(_strip(key, found[key], old.get(key), axis) for key in first),
        more=tuple(_strip(key, found[key], old.get(key), axis) for key in rest),
        ticks=tuple(plots.axis_ticks(axis)),
        last=last,
        done=plots.percent(axis.share(newest)),
        marks=tuple(_marks([gap for gap in gaps if gap[0] in {_name(key) for key in first}], silences, axis)),
        gaps=tuple(_told_together(gaps)[:_MOST_MARKS]),
        silences=tuple(silences),
        steps=newest,
        complete=series["complete"],
    )


def _name(key: str) -> str:
    return NAMES.get(key, key)


def _strip(key: str, curve: Document, old: Document | None, axis: Scale) -> Strip:
    values, lows, highs = curve["last"], curve.get("min"), curve.get("max")
    means = curve.get("mean", values)
    previous = [] if old is None else plots.smoothed(old.get("mean", old["last"]), SMOOTHING)
    scale = plots.scale_of([lows, highs, previous] if lows and highs else [values, previous])
    xs = [axis.share(step) for step in curve["step"]]
    ys = plots.shares(scale, _broken(plots.smoothed(means, SMOOTHING), curve))
    last = next((index for index in range(len(ys) - 1, -1, -1) if ys[index] is not None), None)
    known = [value for value in values if value is not None]
    old_known = [] if old is None else [value for value in old["last"] if value is not None]
    inside = [
        (step, y) for step, y in zip([] if old is None else old["step"], previous, strict=True) if step <= axis.high
    ]
    return Strip(
        key=key,
        name=_name(key),
        value=words.figure(known[-1]) if known else words.DASH,
        before=words.figure(old_known[-1]) if old_known else "",
        label=_label(key, curve, known),
        ticks=tuple((plots.percent(1 - scale.share(tick)), scale.label(tick)) for tick in scale.ticks),
        zero=plots.percent(1 - scale.share(0)) if scale.low < 0 < scale.high else "",
        band=plots.area(xs, plots.shares(scale, lows), plots.shares(scale, highs), HEIGHT) if lows and highs else "",
        raw="" if lows else plots.line(xs, plots.shares(scale, values), HEIGHT),
        line=plots.line(xs, ys, HEIGHT),
        behind=plots.line(
            [axis.share(step) for step, _ in inside], plots.shares(scale, [y for _, y in inside]), HEIGHT
        ),
        end=None if last is None else (plots.percent(xs[last]), plots.percent(1 - min(1.0, max(0.0, ys[last] or 0.0)))),
    )


def _broken(values: Sequence[float | None], curve: Document) -> list[float | None]:
    """Return values without those of points in which some value is not finite: nothing is drawn across them."""
    gaps = {step for step, _ in curve.get("nonfinite", ())}
    return [None if step in gaps else value for step, value in zip(curve["step"], values, strict=True)]


def _label(key: str, curve: Document, known: list[float]) -> str:
    if not known:
        return f"{_name(key)}: no finite value"
    first, last = curve["step"][0], curve["step"][-1]
    return (
        f"{_name(key)} from {words.figure(known[0])} at step {words.number(first)} to {words.figure(known[-1])}"
        f" at step {words.number(last)}, lowest {words.figure(min(known))}, highest {words.figure(max(known))}"
    )


def _gaps(key: str, curve: Document) -> list[tuple[str, int, int, int]]:
    """Return where a key was not finite: spans of steps that are close together."""
    found: list[tuple[str, int, int, int]] = []
    for step, count in curve.get("exact") or curve.get("nonfinite", ()):
        if found and step - found[-1][2] <= _SPAN:
            name, first, _, before_it = found[-1]
            found[-1] = (name, first, step, before_it + count)
        else:
            found.append((_name(key), step, step, count))
    return found


def _told_together(gaps: Sequence[tuple[str, int, int, int]]) -> list[tuple[str, int, int, int]]:
    """Return gaps with the names of all keys that have the same one."""
    names: dict[tuple[int, int, int], list[str]] = {}
    for name, *where in gaps:
        names.setdefault((where[0], where[1], where[2]), []).append(words.told(name, 60))
    return [
        (f"{words.listed(keys[:_SPAN])} {'was' if len(keys) == 1 else 'were'}", *where)
        for where, keys in sorted(names.items(), key=lambda each: each[0])
    ]


def _silences(curve: Document) -> list[tuple[int, float, float]]:
    """Return the steps after which nothing came for long, by the times at which steps were read."""
    known = [(step, at) for step, at in zip(curve["step"], curve.get("time", ()), strict=False) if at is not None]
    gaps = [(step, at, later - at, after - step) for (step, at), (after, later) in pairwise(known) if after > step]
    if len(gaps) < _SPAN:
        return []
    usual = median(seconds / steps for _, _, seconds, steps in gaps)
    return [
        (step, at, seconds)
        for step, at, seconds, steps in gaps
        if seconds >= _SILENT and seconds / steps >= _USUAL * usual
    ][-_MOST_MARKS:]


def _marks(
    gaps: Sequence[tuple[str, int, int, int]], silences: Sequence[tuple[int, float, float]], axis: Scale
) -> list[Mark]:
    rows: dict[int, int] = {}
    for _, first, _, count in gaps:
        near = next((step for step in rows if abs(step - first) <= axis.high / 50), first)
        rows[near] = max(rows.get(near, 0), count)
    found = [(step, "bad", f"NaN in {words.count(count, 'row')}") for step, count in rows.items()]
    found += [(step, "warn", f"silent for {words.duration(seconds)}") for step, _, seconds in silences]
    found.sort()
    return [
        Mark(kind, step, plots.percent(axis.share(step)), text, _anchor(axis.share(step), index, len(found)))
        for index, (step, kind, text) in enumerate(found[:_MOST_MARKS])
    ]


def _anchor(share: float, index: int, marks: int) -> str:
    """Return how a label is anchored: inside the plot, and away from its neighbour."""
    if share < 0.12:  # noqa: PLR2004  (less than a label's width)
        return "start"
    if share > 0.88:  # noqa: PLR2004  (the same)
        return "end"
    return "middle" if marks == 1 else "end" if index % 2 == 0 else "start"
