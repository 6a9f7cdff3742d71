"""From what the daemon tells over its socket to a scene. Pure; its keys stand in `api/README.md`."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from harvestd.cli.overview import styled
from harvestd.cli.scene import EventLine, HostLine, RunLine, Scene, TransferLine
from harvestd.cli.tables import Styled

Document = Mapping[str, Any]

_TIME: Final = slice(len("2025-01-01T"), len("2025-01-01T00:00:00"))
_TELLING: Final = ("host", "error", "path", "run_id", "experiment")
"""Fields of an event that are shown, in this order: more do not fit."""


def scene_of(state: Document, events: Iterable[Document]) -> Scene:
    """Give the scene of a state document; `events` are the newest, the oldest of them first."""
    hosts = sorted((_host(host) for host in state["hosts"]), key=lambda line: line.urgency)
    runs = (_run(run) for run in state["runs"] if not run["finished"])
    told = reversed([_event(event) for event in events])
    return Scene(_head(state), tuple(hosts), tuple(map(_transfer, state["transfers"])), tuple(runs), tuple(told))


def _head(state: Document) -> Styled:
    daemon, counts = state["daemon"], state["counts"]
    said = f"harvestd: process {daemon['pid']}, {counts['connected']} of {counts['hosts']} hosts connected"
    if daemon["stuck"]:
        return Styled(f"{said}; STUCK: {daemon['stuck']}", "red")
    if daemon["paused"]:
        return Styled(f"{said}; paused, nothing is fetched", "yellow")
    return Styled(said, "bold")


def _host(host: Document) -> HostLine:
    return HostLine(
        host["name"],
        styled(host["state"]),
        host["last_success"],
        host["pending_bytes"] or 0,
        _verdict(host["verdict"]),
        "" if host["cents_per_hour"] is None else f"${host['cents_per_hour'] / 100:,.2f}/h",
        host["error"] or "",
    )


def _verdict(verdict: Document | None) -> str:
    if verdict is None:
        return ""
    if verdict["answer"] == "not_safe":
        first = next(iter(verdict["reasons"]), None)
        return f"not safe: {first['detail']}" if first else "not safe"
    kinds = dict.fromkeys(loss["kind"].replace("_", " ") for loss in verdict["losses"])
    return f"safe except {', '.join(kinds)}" if kinds else "safe"


def _transfer(transfer: Document) -> TransferLine:
    return TransferLine(
        transfer["host"],
        transfer["what"],
        transfer["moved_bytes"],
        transfer["size_bytes"],
        transfer["rate"],
        transfer["seconds_left"],
    )


def _run(run: Document) -> RunLine:
    step = "-" if run["step"] is None else str(run["step"])
    return RunLine(run["name"], run["host"], step, run["seconds_left"])


def _event(event: Document) -> EventLine:
    said = " ".join(str(event[key]) for key in _TELLING if event.get(key))
    return EventLine(str(event["timestamp"])[_TIME], str(event["level"]), str(event["event"]), said)
