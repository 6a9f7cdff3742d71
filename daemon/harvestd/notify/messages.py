"""The words of alarms: what happened, to what, what it costs, and the command to run next. Pure.

Texts of hosts are in the fields in their escaped form, and without what looks like a secret.
"""

import hashlib
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from harvestd.catalogue.entries import Notification
from harvestd.convention.structs import Immutable
from harvestd.inventory.host import money, rate
from harvestd.json_text import timestamp
from harvestd.notify.schedule import URGENT
from harvestd.telemetry.events import Event

Fields = Mapping[str, Any]
DIGEST: Final = "digest"
"""The type of a message about several notifications."""
TEST: Final = "test"
"""The type of the message by which a person tries a receiver."""
_MOST_LINES: Final = 20
"""Lines of a digest, and things that are named in one message; the others are counted."""
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP: Final = 1024
_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 24 * _HOUR


class Message(Immutable):
    """One message, for any receiver."""

    key: str
    """Receivers recognise a repetition by it."""
    kind: str
    """The name of the event, `DIGEST` or `TEST`."""
    created: float
    title: str
    lines: tuple[str, ...]
    command: str
    """The command to run next."""
    urgent: bool = False
    fields: Mapping[str, Any] | None = None
    """Those of the event."""
    parts: tuple["Message", ...] = ()
    """The messages in a digest."""

    @property
    def text(self) -> str:
        """All but the title, as lines for people."""
        return "\n".join((*self.lines, f"Next: {self.command}"))

    def document(self) -> dict[str, Any]:
        """Return the message as JSON values, in the form of Standard Webhooks."""
        data: dict[str, Any] = {
            "key": self.key,
            "title": self.title,
            "text": self.text,
            "command": self.command,
            "urgent": self.urgent,
        }
        if self.fields is not None:
            data["fields"] = dict(self.fields)
        if self.parts:
            data["notifications"] = [part.document() for part in self.parts]
        return {"type": self.kind, "timestamp": timestamp(self.created), "data": data}


def message_of(notifications: Sequence[Notification]) -> Message:
    """Return the message about one notification, or the digest of several."""
    parts = [_single(each) for each in notifications]
    return parts[0] if len(parts) == 1 else _digest(parts)


def trial(now: float) -> Message:
    """Return the message by which a person tries a receiver."""
    lines = ("This is a test: alarms of harvestd will arrive like this one.",)
    return Message(f"test:{now:.6f}", TEST, now, "harvestd: a test", lines, "harvestd status")


def _single(each: Notification) -> Message:
    title, lines, command = _WORDS[each.event](each.payload)
    urgent = each.event in URGENT
    kept = tuple(line for line in lines if line)
    return Message(each.key, each.event, each.created, title, kept, command, urgent, each.payload)


def _digest(parts: Sequence[Message]) -> Message:
    named = hashlib.sha256("\n".join(part.key for part in parts).encode("utf-8", "surrogatepass")).hexdigest()
    counts = Counter(part.kind for part in parts)
    lines = [f"{number} x {kind}" for kind, number in counts.most_common()]
    lines += [f"- {part.title}" for part in parts[:_MOST_LINES]]
    lines += [f"- and {len(parts) - _MOST_LINES} more"] if len(parts) > _MOST_LINES else []
    return Message(
        f"{DIGEST}:{named[:32]}",
        DIGEST,
        max(part.created for part in parts),
        f"harvestd: {len(parts)} alarms at once",
        tuple(lines),
        "harvestd status",
        urgent=any(part.urgent for part in parts),
        parts=tuple(parts),
    )


Words = tuple[str, Sequence[str], str]
"""Title, lines (empty ones are left out) and command."""


def _drained(fields: Fields) -> Words:
    host, idle = fields["host"], fields.get("idle_seconds")
    lines = [
        "All that is wanted of it is here, and nothing works there: the verdict is safe.",
        *_accepted(fields.get("losses", ())),
        f"It has been idle for {span(idle)}." if idle is not None else "",
        _cost(fields) or "Its price is not known: set cents_per_hour of the host to see what waiting costs.",
    ]
    return f"{host} can be switched off", lines, f"harvestd safe {_quoted(host)}"


def _accepted(losses: Sequence[str]) -> list[str]:
    return [f"Lost with it, which you accept: {', '.join(losses[:_MOST_LINES])}."] if losses else []


def _ending(fields: Fields) -> Words:
    host = fields["host"]
    lines = [f"Its provider reports: {fields['status']}.", _outstanding(fields.get("bytes"))]
    return f"{host} is about to end", lines, "harvestd status"


def _idle(fields: Fields) -> Words:
    host = fields["host"]
    lines = [f"Nothing moved and no GPU process ran for {span(fields['idle_seconds'])}.", _cost(fields)]
    return f"{host} is idle", lines, f"harvestd safe {_quoted(host)}"


def _lost_data(fields: Fields) -> Words:
    what, size = fields.get("what", ()), _size(fields["bytes"])
    lines = [
        f"It is gone with {_count(fields['files'], 'file')} ({size}) that had not been brought here.",
        *(f"- {each}" for each in what[:_MOST_LINES]),
        f"- and {len(what) - _MOST_LINES} more" if len(what) > _MOST_LINES else "",
        "What came before stays here.",
    ]
    return f"{fields['host']} is gone, and data with it", lines, "harvestd experiments"


def _quarantined(fields: Fields) -> Words:
    host = fields["host"]
    lines = [f"Why: {fields['error']}.", "Nothing of it is fetched until that is settled.", _price(fields)]
    return f"{host} is left alone: it needs a person", lines, f"harvestd doctor {_quoted(host)}"


def _unwatched(fields: Fields) -> Words:
    host, error = fields["host"], fields.get("error")
    lines = [
        f"It could not be read for {span(fields['seconds'])}, and its provider still lists it.",
        f"The last error: {error}." if error else "",
        "What it writes meanwhile is only there.",
        _price(fields),
    ]
    return f"{host} is not watched", lines, f"harvestd doctor {_quoted(host)}"


def _stalled(fields: Fields) -> Words:
    lines = [f"{_on(fields)} shows no further step since {_step(fields)}.", _lasted(fields), _price(fields)]
    return f"{fields['run_id']} has stalled", lines, _show(fields)


def _died(fields: Fields) -> Words:
    sentence = f"{_on(fields)} has not finished and never will; the last that came of it is {_step(fields)}."
    lines = [sentence, _lasted(fields), _price(fields)]
    return f"{fields['run_id']} has died", lines, _show(fields)


def _diverged(fields: Fields) -> Words:
    lines = [
        f"The loss of {_on(fields)} is no finite number any more, at {_step(fields)}.",
        _lasted(fields),
        _price(fields),
    ]
    return f"{fields['run_id']} has diverged", lines, _show(fields)


def _finished(fields: Fields) -> Words:
    experiment, steps = fields.get("experiment"), fields.get("steps")
    after = f" after {steps} steps" if steps is not None else ""
    lines = [
        f"{_on(fields)} has finished{after}.",
        f"Its experiment is {experiment}." if experiment else "",
        _price(fields),
    ]
    return f"{fields['run_id']} has finished", lines, _show(fields)


def _disk_low(fields: Fields) -> Words:
    free, floor = _size(fields["free_bytes"]), _size(fields["floor_bytes"])
    lines = [
        f"{free} are free at {fields['path']}, and limits.free_space is {floor}.",
        "Nothing is fetched until there is room.",
        "What hosts write meanwhile is only there, and is lost with a host that ends.",
    ]
    return "The disk is nearly full: fetching pauses", lines, "harvestd doctor"


_WORDS: Final[Mapping[str, Callable[[Fields], Words]]] = {
    Event.HOST_DRAINED: _drained,
    Event.HOST_ENDING: _ending,
    Event.HOST_IDLE: _idle,
    Event.HOST_LOST_DATA: _lost_data,
    Event.HOST_QUARANTINED: _quarantined,
    Event.HOST_UNWATCHED: _unwatched,
    Event.RUN_STALLED: _stalled,
    Event.RUN_DIED: _died,
    Event.RUN_DIVERGED: _diverged,
    Event.RUN_FINISHED: _finished,
    Event.DISK_LOW: _disk_low,
}
"""By the name of the event."""


def _on(fields: Fields) -> str:
    return f"{fields['run_id']} on {fields['host']}"


def _step(fields: Fields) -> str:
    return "an unknown step" if fields.get("step") is None else f"step {fields['step']}"


def _show(fields: Fields) -> str:
    return f"harvestd show {_quoted(fields['run_id'])}"


def _quoted(name: str) -> str:
    return shlex.quote(name)


def _price(fields: Fields) -> str:
    cents, spent = fields.get("cents_per_hour"), fields.get("cost")
    if cents is None:
        return ""
    return f"{fields['host']} costs {rate(cents)}{f', {money(spent)} since then' if spent else ''}."


def _lasted(fields: Fields) -> str:
    seconds = fields.get("seconds")
    return "" if seconds is None else f"That was {span(seconds)} ago."


def _cost(fields: Fields) -> str:
    cents = fields.get("cents_per_hour")
    if cents is None:
        return ""
    spent = fields.get("cost")
    return f"It costs {rate(cents)}{'' if spent is None else f', {money(spent)} since it is idle'}."


def _outstanding(size: int | None) -> str:
    if not size:
        return ""
    return f"{_size(size)} of it are wanted and not here yet; the most valuable files come first."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _size(count: int) -> str:
    value, unit = float(count), 0
    while round(value, 1) >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def span(seconds: float) -> str:
    """Return a span of time in its two largest units, such as "2h05m"."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"
