"""The loss of a run so far, as the small curve in its host's row.

The values are those of `GET /v1/runs/ID/series`. A curve is computed again only when its run made a step.
"""

import json
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from harvestd.api.state import Source
from harvestd.convention.structs import Immutable
from harvestd.page import words
from harvestd.series.reading import Question

_KEYS: Final = ("loss", "train_loss", "train/loss")
_POINTS: Final = 80
_WIDTH: Final = 100.0
_HEIGHT: Final = 28.0
_MARGIN: Final = 3.0
_MOST_KEPT: Final = 200
_AGAIN: Final = 10.0
"""Seconds after which a curve that does not reach its run's newest step is computed again."""

Key = tuple[str, int | None]


class Loss(Immutable):
    """The loss so far."""

    value: str
    """The last one."""
    path: str
    """An SVG path in a box of 100 by 28."""
    end: str
    """A path of no length at its last point."""
    zero: float | None
    """Where zero lies in the box; None: outside."""
    label: str


_kept: OrderedDict[Key, tuple[Loss | None, float]] = OrderedDict()
"""By experiment and step: the curve, and until when it counts, in monotonic seconds."""


async def loss_of(source: Source, experiment: str | None, step: int | None) -> Loss | None:
    """Return the loss of an experiment's run up to a step; None where its log has none."""
    if experiment is None or step is None or not source.ready.is_set():
        return None
    key, now = (experiment, step), time.monotonic()
    found, until = _kept.get(key, (None, now))
    if now >= until:
        answer = json.loads(
            b"{" + await source.logs.answer(experiment, Question(_KEYS, _POINTS, None, with_times=False)) + b"}"
        )
        curves = answer["curves"]
        found = next((drawn(curves[name]["last"]) for name in _KEYS if name in curves), None)
        # A step may be known, from a checkpoint, before its line of the log is here.
        until = math.inf if found is not None and answer["step"] == step else now + _AGAIN
        _kept[key] = found, until
    _kept.move_to_end(key)
    while len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)
    return found


def drawn(values: Sequence[float | None]) -> Loss | None:
    """Return the curve of these values, with a gap where there is none; None without any value."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    low, high = min(known), max(known)
    scale = (_HEIGHT - 2 * _MARGIN) / (high - low) if high > low else 0.0
    step = (_WIDTH - _MARGIN) / max(1, len(values) - 1)
    path, is_joined, x, y = [], False, 0.0, _HEIGHT / 2
    for index, value in enumerate(values):
        if value is None or not math.isfinite(value):
            is_joined = False
            continue
        x, y = index * step, (_HEIGHT - _MARGIN - (value - low) * scale if scale else _HEIGHT / 2)
        path.append(f"{'L' if is_joined else 'M'}{x:.1f} {y:.1f}")
        is_joined = True
    zero = round(_HEIGHT - _MARGIN + low * scale, 1) if scale and low <= 0 <= high else None
    label = f"Loss from {words.figure(known[0])} to {words.figure(known[-1])}"
    return Loss(words.figure(known[-1]), "".join(path), f"M{x:.1f} {y:.1f}h0", zero, label)
