"""The content of the status screen at one moment, from the catalogue or from the daemon's state document.

The content of the status screen at one moment, as plain values of any source. Texts are unchanged from a host or a
file: `screen` escapes what it draws. Times are Unix times, sizes bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from harvestd.catalogue.entries import ENDING
from harvestd.cli.output import verdict_page
from harvestd.cli.output.hosts_runs import cell_of, is_news, styled
from harvestd.cli.output.page import Cell, Styled
from harvestd.convention.kinds import LossKind
from harvestd.convention.structs import Immutable
from harvestd.inventory.host import rate
from harvestd.planning.run_status import RunStatus, Standing
from harvestd.safety.verdict import Answer, Loss, Reason, ReasonKind, Verdict

_FIRST: Final = ("ending", "failed", "quarantined", "lost", "stalled")
"""States that need attention, the worst first."""
_LAST: Final = ("not configured", "gone")


def end_of(path: str) -> str:
    """Return the last two parts of a path: the parts above are the same for all of a run."""
    return "/".join(path.rstrip("/").split("/")[-2:])


class HostLine(Immutable):
    """One host."""

    name: str
    state: Styled
    last_success: float | None
    pending: int
    """Bytes that are wanted and not here."""
    verdict: Cell = ""
    """Safe or not, and the first reason; empty: there is no verdict."""
    cost: str = ""
    """What it costs an hour; empty: unknown."""
    note: str = ""
    """The problem of the host."""

    @property
    def urgency(self) -> tuple[int, str]:
        """A sort key: hosts that need attention first, and ended ones last."""
        state = self.state.text
        if state in _FIRST:
            return _FIRST.index(state), self.name
        return len(_FIRST) + (state in _LAST), self.name


class TransferLine(Immutable):
    """One file, or group of files, in transfer."""

    host: str
    what: str
    moved: int
    size: int | None
    """None: unknown."""
    rate: float | None = None
    """Bytes a second."""
    seconds_left: float | None = None


class RunLine(Immutable):
    """One run that is in progress or stalled, or that died recently."""

    name: str
    host: str
    steps: str
    seconds_left: float | None
    state: Styled = Styled("", "")


class EventLine(Immutable):
    """One event."""

    at: str
    """The time of day."""
    level: str
    event: str
    said: str
    """Its most important fields."""


class Scene(Immutable):
    """Everything shown at one moment, each kind with the most important first."""

    head: Styled
    """The source: the daemon, or the catalogue and since when no daemon answers."""
    hosts: tuple[HostLine, ...] = ()
    transfers: tuple[TransferLine, ...] = ()
    runs: tuple[RunLine, ...] = ()
    events: tuple[EventLine, ...] = ()


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
