"""The status screen: a scene as lines of text that fit a terminal of any size, each cut to its width.

`watch` imports this only where there is a terminal. Rows that do not fit the height are counted in a line of their own;
rows of hosts are dropped last.

A `Scene` is the content at one moment, from the catalogue or from the daemon's state document, as plain values. Its
texts are unchanged from a host or a file: they are escaped when they are drawn. Times are Unix times, sizes bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harvestd.catalogue.entries import ENDING
from harvestd.cli.output import units, verdict_page
from harvestd.cli.output.hosts_runs import cell_of, is_shown_live, styled
from harvestd.cli.output.page import Cell, Styled
from harvestd.convention.kinds import LossKind
from harvestd.convention.structs import Immutable
from harvestd.inventory.host import rate
from harvestd.planning.run_status import CurrentStatus, RunStatus
from harvestd.safety.verdict import Loss, Reason, ReasonKind, Verdict, VerdictAnswer
from harvestd.telemetry.sanitize import escaped

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
    runs = _run_lines(state["runs"], state["at"])
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
        VerdictAnswer(document["answer"]),
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


def _run_lines(runs: Iterable[Document], at: float) -> Iterator[RunLine]:
    yield from (_run(run) for run in runs if is_shown_live(RunStatus(run["state"]), run["state_since"], at))


def _run(run: Document) -> RunLine:
    step, total = ("-" if run["step"] is None else run["step"]), run.get("total_steps")
    step = f"{step}/{'?' if total is None else total}"
    current = CurrentStatus(RunStatus(run["state"]), run["state_since"])
    return RunLine(run["name"], run["host"], step, run["seconds_left"], cell_of(current))


def _event(event: Document) -> EventLine:
    said = " ".join(end_of(str(event[key])) if key == "path" else str(event[key]) for key in _TELLING if event.get(key))
    return EventLine(str(event["timestamp"])[_TIME], str(event["level"]), str(event["event"]), said)


LineT = TypeVar("LineT")

_AT_LEAST: Final = (4, 3, 2, 4)
"""Rows that hosts, transfers, runs and events keep when there is little space, in the order of precedence."""
_FRAME: Final = 2
"""A section's title, and the blank line before it."""
_LEVELS: Final = {"warning": "yellow", "error": "red", "critical": "red", "debug": "dim"}
_BAR: Final = 12
_NAME: Final = 20


def drawn(scene: Scene, console: Console) -> RenderableType:
    """Return the scene for a console, at most as wide as it is and at least one line less high."""
    counts = (len(scene.hosts), len(scene.transfers), len(scene.runs), len(scene.events))
    rooms = shares(console.height - 2, counts)
    parts: list[RenderableType] = [_text(scene.head.text, scene.head.style)]
    if not scene.hosts:
        parts.append(_text("no hosts: none is configured, and none was ever seen", "dim"))
    parts += _section(scene.hosts, rooms[0], _hosts)
    parts += _section(scene.transfers, rooms[1], _transfers)
    parts += _section(scene.runs, rooms[2], _runs)
    # The number of older events is not shown: it has no meaning.
    parts += _section(scene.events[: rooms[3]], rooms[3], _events)
    return Group(*parts)


def shares(room: int, counts: Sequence[int]) -> list[int]:
    """Divide `room` lines among sections of `counts` rows; return the rows of each, without its frame.

    A section without space for a single row is left out.
    """
    given = [0] * len(counts)
    for index, (count, least) in enumerate(zip(counts, _AT_LEAST, strict=True)):
        if count and room > _FRAME:
            given[index] = min(count, least, room - _FRAME)
            room -= given[index] + _FRAME
    for index, count in enumerate(counts):
        if given[index]:
            more = min(count - given[index], max(room, 0))
            given[index] += more
            room -= more
    return given


def _section(lines: Sequence[LineT], room: int, table: Callable[[Sequence[LineT]], Table]) -> list[RenderableType]:
    if not room:
        return []
    shown = lines if len(lines) <= room else lines[: room - 1]
    parts: list[RenderableType] = [Text(""), table(shown)]
    if len(shown) < len(lines):
        parts.append(_text(f"… and {len(lines) - len(shown)} more", "dim"))
    return parts


def _hosts(hosts: Sequence[HostLine]) -> Table:
    table = _table()
    _fitting(table, "HOST", _NAME)
    _fitting(table, "STATE", 14)
    _fixed(table, "SUCCESS", 8, right=True)
    _fixed(table, "PENDING", 9, right=True)
    table.add_column("VERDICT", no_wrap=True, overflow="ellipsis", ratio=1)
    if any(host.cost for host in hosts):
        _fitting(table, "COST", 10)
    for host in hosts:
        success = units.age(host.last_success).removesuffix(" ago")
        cells = [
            _text(host.name),
            _cell(host.state),
            _text("now" if success == "just now" else success),
            _text(units.size(host.pending) if host.pending else units.NOTHING),
            _text(host.note, "yellow") if host.note else _cell(host.verdict or Styled("not judged", "dim")),
            _text(host.cost),
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def _cell(cell: Cell) -> Text:
    return _text(cell.text, cell.style) if isinstance(cell, Styled) else _text(cell)


def _transfers(transfers: Sequence[TransferLine]) -> Table:
    table = _table()
    _fitting(table, "HOST", 12)
    table.add_column("TRANSFER", no_wrap=True, overflow="ellipsis", ratio=1)
    _fixed(table, "", _BAR)
    _fixed(table, "", 4, right=True)
    _fixed(table, "RATE", 12, right=True)
    _fixed(table, "LEFT", 7, right=True)
    for each in transfers:
        size = each.size or 0
        part = f"{min(each.moved / size, 1):.0%}" if size else ""
        # An unknown size has an empty bar, not one that pulses: the screen is redrawn only for changes.
        bar = ProgressBar(total=max(size, 1), completed=each.moved if size else 0, width=_BAR)
        rate = f"{units.size(int(each.rate))}/s" if each.rate else units.NOTHING
        left = units.duration(each.seconds_left)
        table.add_row(_text(each.host), _text(end_of(each.what)), bar, _text(part), _text(rate), _text(left))
    return table


def _runs(runs: Sequence[RunLine]) -> Table:
    table = _table()
    table.add_column("RUN", no_wrap=True, overflow="ellipsis", ratio=1)
    _fitting(table, "HOST", _NAME)
    _fixed(table, "STEP", 15, right=True)
    _fixed(table, "LEFT", 7, right=True)
    _fitting(table, "STATE", 20)
    for run in runs:
        left = units.duration(run.seconds_left)
        table.add_row(_text(run.name), _text(run.host), _text(run.steps), _text(left), _cell(run.state))
    return table


def _events(events: Sequence[EventLine]) -> Table:
    table = _table()
    _fixed(table, "TIME", 8)
    _fitting(table, "EVENT", _NAME)
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for each in events:
        table.add_row(_text(each.at, "dim"), _text(each.event, _LEVELS.get(each.level, "")), _text(each.said))
    return table


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)


def _fitting(table: Table, title: str, most: int) -> None:
    """Add a column for values that rarely change: as wide as its longest text."""
    table.add_column(title, no_wrap=True, overflow="ellipsis", max_width=most)


def _fixed(table: Table, title: str, width: int, *, right: bool = False) -> None:
    """Add a column for values that change often: a fixed width, so that nothing beside it moves."""
    table.add_column(title, justify="right" if right else "left", no_wrap=True, overflow="ellipsis", width=width)


def _text(text: str, style: str = "") -> Text:
    """Return text that is only displayed, on one line."""
    return Text(escaped(text), style=style, no_wrap=True, overflow="ellipsis")
