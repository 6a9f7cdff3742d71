"""Events in words: the newest for the fleet, and a list with filters that is a view of its own."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.requests import Request

from harvestd.api.application import Filter
from harvestd.api.state import Source
from harvestd.convention.structs import Immutable
from harvestd.page import words
from harvestd.telemetry.event_buffer import RECENT, BufferedEvent
from harvestd.telemetry.events import Event

MOST: Final = 200
"""Lines of the view."""
LEVELS: Final = ("debug", "info", "warning", "error")
_LONGEST: Final = 200
_FIRST: Final = frozenset({"timestamp", "level", "event", "host"})
_BYTES: Final = frozenset({"bytes", "free_bytes", "needed_bytes"})
_SECONDS: Final = frozenset({"seconds", "idle_seconds", "usual_seconds", "duration_seconds"})
_TEXTS: Final[Mapping[str, str]] = {
    Event.SERVICE_STARTED: "harvestd {version} began, with {hosts} configured hosts",
    Event.SERVICE_WOKE: "This machine slept for {seconds}; each link is made again",
    Event.SERVICE_FAILED: "{service} failed: {error}",
    Event.HOST_APPEARED: "Appeared at {address}",
    Event.HOST_REPLACED: "Another host has this name now, at {address}",
    Event.HOST_GONE: "Left the inventory; what came from it stays",
    Event.HOST_CONNECTED: "Connected, read by {method}",
    Event.HOST_LOST: "Lost: {error}",
    Event.HOST_QUARANTINED: "Quarantined: {error}",
    Event.HOST_FAILED: "Stopped by a defect: {error}",
    Event.HOST_DRAINED: "Safe to switch off",
    Event.HOST_RELEASED: "Terminated: {reason}",
    Event.HOST_RELEASE_PLANNED: "Would be terminated now: {reason}",
    Event.HOST_RELEASE_REFUSED: "Not terminated: {reason}",
    Event.HOST_ENDING: "The cloud ends it: {status}",
    Event.HOST_LOST_DATA: "Gone with {bytes} that are not here",
    Event.HOST_IDLE: "Idle for {idle_seconds}",
    Event.HOST_ROOT_MISSING: "{path}: {error}",
    Event.HOST_PINNED: "Its host key is trusted from now on",
    Event.RUN_DISCOVERED: "Run found: {run_id}",
    Event.RUN_RENAMED: "{run_id} has another place there",
    Event.RUN_FINISHED: "Run finished after {steps} steps: {run_id}",
    Event.RUN_STALLED: "Silent since step {step}, for {seconds}: {run_id}",
    Event.RUN_DIED: "Died at step {step}: {run_id}",
    Event.RUN_DIVERGED: "{what} at step {step}: {run_id}",
    Event.EVAL_DISCOVERED: "Eval begun: {path}",
    Event.EVAL_COMPLETED: "Eval is here: {path}",
    Event.CHECKPOINT_COMPLETED: "Checkpoint is here, {bytes}: {path}",
    Event.CHECKPOINT_REMOVED: "Older checkpoint removed here: {path}",
    Event.FILE_DOWNLOADED: "{path}, {bytes}",
    Event.FILE_COPIED: "Copied from what is here: {path}",
    Event.FILE_REJECTED: "Rejected {path}: {error}",
    Event.FILE_CONFLICT: "Another file is in the way of {path}",
    Event.FILE_FILED: "Filed: {path}",
    Event.EXPERIMENT_NAMED: "Named {path}",
    Event.EXPERIMENT_RENAMED: "Renamed to {path}",
    Event.EXPERIMENT_GONE: "Its directory was taken away: {path}",
    Event.CONFIG_RELOADED: "The changed configuration applies",
    Event.CONFIG_REJECTED: "The changed configuration is invalid: {problems}",
    Event.REQUEST_TAKEN: "Asked for: {what}",
    Event.REQUEST_SETTLED: "Settled: {what}, {reason}",
    Event.DISK_LOW: "The disk is low, {free_bytes} free: fetching pauses",
    Event.DISK_RECOVERED: "There is room again, {free_bytes}",
    Event.INVENTORY_FAILED: "{source} does not answer: {error}",
    Event.INVENTORY_RECOVERED: "{source} answers again",
}
"""What an event says, with its fields; for others the name and the fields stand there."""
_FOR_THE_FLEET: Final = frozenset(_TEXTS) - {
    Event.FILE_DOWNLOADED,
    Event.FILE_COPIED,
    Event.FILE_FILED,
    Event.REQUEST_TAKEN,
    Event.REQUEST_SETTLED,
}
_ICONS: Final = {"warning": "except", "error": "octagon", "critical": "octagon"}


class Line(Immutable):
    """One event."""

    number: int
    at: float
    """Unix time."""
    level: str
    icon: str
    name: str
    host: str
    text: str
    details: tuple[tuple[str, str], ...]
    """The fields that are not in the text, by name."""
    times: int = 1
    """How often the same was appended to."""


class _Fields(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "not known"


def line_of(event: BufferedEvent) -> Line:
    """Return an event in words; its fields are escaped and without secrets already."""
    fields = event.fields
    name, level = str(fields.get("event", "")), str(fields.get("level", "info"))
    shown = _Fields((key, _value(key, value)) for key, value in fields.items())
    form = _TEXTS.get(name)
    rest = [(key, value) for key, value in shown.items() if key not in _FIRST]
    text = form.format_map(shown) if form else " ".join(value for _, value in rest[:2]) or name
    return Line(
        number=event.number,
        at=_unix(str(fields.get("timestamp", ""))),
        level=level,
        icon=_ICONS.get(level, ""),
        name=name,
        host=words.told(fields.get("host", "") or ""),
        text=words.told(text),
        details=tuple((key, _whole(fields[key])) for key, _ in rest),
    )


def newest(most: int, host: str = "") -> list[Line]:
    """Return the newest events that are not about single files, the newest first; `host`: of this one alone."""
    found, _ = RECENT.after(None)
    wanted = [each for each in reversed(found) if _is_for_the_fleet(each.fields)]
    if host:
        wanted = [each for each in wanted if each.fields.get("host") == host]
    return [line_of(each) for each in wanted[:most]]


def _is_for_the_fleet(fields: Mapping[str, Any]) -> bool:
    return fields.get("event") in _FOR_THE_FLEET and fields.get("level") != "debug"


def lines(wanted: Filter, most: int) -> list[Line]:
    """Return the newest events that match, the newest first; appends to one file are one line with their number."""
    found, _ = RECENT.after(None)
    appended: dict[tuple[object, object], int] = {}
    kept: list[tuple[BufferedEvent, tuple[object, object] | None]] = []
    for each in reversed(found):
        if not wanted.wants(each):
            continue
        key = None
        if each.fields.get("event") == Event.FILE_DOWNLOADED:
            key = (each.fields.get("host"), each.fields.get("path"))
            appended[key] = appended.get(key, 0) + 1
            if appended[key] > 1:
                continue
        if len(kept) < most:
            kept.append((each, key))
    return [replace(line_of(each), times=1 if key is None else appended[key]) for each, key in kept]


async def values(source: Source, request: Request) -> dict[str, object]:
    """Return the values of the template; raise `HTTPException` for filters that can't be used."""
    query = request.query_params
    host, name, level = (query.get(key, "").strip() for key in ("host", "event", "level"))
    if max(map(len, (host, name, level))) > _LONGEST:
        raise HTTPException(400, "a filter is too long")
    try:
        wanted = Filter(host, name, level or "info")
    except ValueError as e:
        raise HTTPException(400, str(e)) from e
    return {
        "title": "Events",
        "events": lines(wanted, MOST),
        "most": MOST,
        "host": words.told(host),
        "event": words.told(name),
        "level": level or "info",
        "levels": LEVELS,
        "names": [str(each) for each in Event],
        "hosts": sorted(each.name for each in source.context.fleet.present.values()),
        "is_filtered": bool(host or name or level),
    }


def _value(key: str, value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key in _BYTES:
            return words.size(int(value))
        if key in _SECONDS:
            return words.duration(float(value))
        return words.number(value) if isinstance(value, int) else words.figure(value)
    if key in {"path", "old"} and isinstance(value, str):
        parts = value.rstrip("/").split("/")
        # Evals are known by their step and dataset; the settings below it repeat.
        return words.told("/".join(parts[-2:-1] if parts[-1].startswith("temp") else parts[-2:]))
    return _whole(value)


def _whole(value: object) -> str:
    if isinstance(value, str):
        return words.told(value)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return words.told("; ".join(value))
    return words.told(json.dumps(value, ensure_ascii=False))


def _unix(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
