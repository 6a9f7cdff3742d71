"""Convert the daemon's state document to a scene. Pure; the keys are described in `api/README.md`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from harvestd.catalogue.entries import ENDING
from harvestd.cli.output import verdict_page
from harvestd.cli.output.hosts_runs import styled
from harvestd.cli.output.run_progress import cell_of, is_news
from harvestd.cli.output.tables import Styled
from harvestd.cli.watch.model import EventLine, HostLine, RunLine, Scene, TransferLine, end_of
from harvestd.convention.kinds import LossKind
from harvestd.inventory.cost import rate
from harvestd.planning.run_status import RunStatus, Standing
from harvestd.safety.verdict import Answer, Loss, Reason, ReasonKind, Verdict

Document = Mapping[str, Any]

_TIME: Final = slice(len("2025-01-01T"), len("2025-01-01T00:00:00"))
_TELLING: Final = ("host", "error", "path", "run_id", "experiment")
"""Fields of an event that are shown, in this order: more do not fit."""


def scene_of(state: Document, events: Iterable[Document]) -> Scene:
    """Return the scene of a state document; `events` are the newest, the oldest of them first.

    Raise `KeyError`, `TypeError` or `ValueError` for a document of another version.
    """
    hosts = sorted((_host(host) for host in state["hosts"]), key=lambda line: line.urgency)
    runs = _runs(state["runs"], state["at"])
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
    price, verdict = host["cents_per_hour"], host["verdict"]
    return HostLine(
        host["name"],
        styled(ENDING if host["ending"] and host["state"] == "connected" else host["state"]),
        host["last_success"],
        host["pending_bytes"] or 0,
        verdict_page.coloured(_verdict(verdict)) if verdict else "",
        "" if price is None else rate(price),
        host["error"] or "",
    )


def _verdict(document: Document) -> Verdict:
    return Verdict(
        Answer(document["answer"]),
        tuple(Reason(ReasonKind(each["kind"]), each["detail"]) for each in document["reasons"]),
        tuple(Loss(LossKind(each["kind"]), each["what"], each["size_bytes"]) for each in document["losses"]),
    )


def _transfer(transfer: Document) -> TransferLine:
    return TransferLine(
        transfer["host"],
        transfer["what"],
        transfer["moved_bytes"],
        transfer["size_bytes"],
        transfer["rate"],
        transfer["seconds_left"],
    )


def _runs(runs: Iterable[Document], at: float) -> Iterator[RunLine]:
    yield from (_run(run) for run in runs if is_news(RunStatus(run["state"]), run["state_since"], at))


def _run(run: Document) -> RunLine:
    step, total = ("-" if run["step"] is None else run["step"]), run.get("total_steps")
    step = f"{step}/{'?' if total is None else total}"
    standing = Standing(RunStatus(run["state"]), run["state_since"])
    return RunLine(run["name"], run["host"], step, run["seconds_left"], cell_of(standing))


def _event(event: Document) -> EventLine:
    said = " ".join(end_of(str(event[key])) if key == "path" else str(event[key]) for key in _TELLING if event.get(key))
    return EventLine(str(event["timestamp"])[_TIME], str(event["level"]), str(event["event"]), said)
