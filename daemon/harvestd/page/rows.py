"""One host as the page shows it: its state, what runs on it, what it costs, in words.

Texts of a host are escaped for people here (`words.told`); the templates escape them for HTML.
"""

import time
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from harvestd.api.state import Source, status_of_run
from harvestd.convention.structs import Immutable
from harvestd.documents.forms import steps
from harvestd.harvest.metrics import HostTally
from harvestd.harvest.state import Judged
from harvestd.harvest.transfer.pool import TransferProgress
from harvestd.inventory.host import Host, cents_since
from harvestd.inventory.lambda_provider import is_rented
from harvestd.page import curves, scores, verdicts, words
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import RunRecord
from harvestd.planning.run_status import CurrentStatus, RunStatus

_FIRST_STATES: Final = {"lost": "lost", "quarantined": "quarantined", "failed": "stopped by a defect"}
_ICONS: Final = {
    "connected": "disc",
    "connecting": "ring",
    "lost": "struck",
    "quarantined": "octagon",
    "failed": "octagon",
    "ending": "hourglass",
}
DEVIATING: Final = frozenset({"lost", "quarantined", "failed", "ending"})
_LONGEST_NAME: Final = 120


class Bar(Immutable):
    """A progress bar with the texts at its ends."""

    value: int
    most: int
    left: str
    right: str = ""
    kind: str = ""
    """Empty for one that moves; bad, or still."""


class RunLine(Immutable):
    """What runs, or ran last, on a host."""

    name: str
    """The first part of its experiment's directory, or its own name."""
    rest: str
    """The rest of the directory's name."""
    url: str
    status: str
    bar: Bar | None = None
    lines: tuple[str, ...] = ()
    problem: str = ""
    """What is wrong with it."""
    experiment: str | None = None
    step: int | None = None
    """What its curves are of."""


class HostRow(Immutable):
    """One host."""

    name: str
    url: str
    state: str
    """connected, connecting, lost, quarantined, failed or ending."""
    icon: str
    hardware: str
    deviation: str
    """What deviates, for the third line; empty: nothing."""
    error: str
    since: float
    run: RunLine | None
    verdict: verdicts.Shown
    risk: verdicts.AtRisk
    cents_per_hour: int | None = None
    idle_since: float | None = None
    idle_cents: int | None = None
    loss: curves.Loss | None = None
    score: scores.Score | None = None
    is_rented: bool = False
    """Whether `harvestd release` can terminate it."""

    @property
    def grows(self) -> bool:
        """Whether its run makes steps now."""
        return self.state == "connected" and self.run is not None and self.run.status == RunStatus.RUNNING

    @property
    def group(self) -> str:
        """Where it is listed when there are many hosts: attention, training or quiet."""
        if self.state in DEVIATING or self.verdict.kind in {"safe", "except"} or (self.run and self.run.problem):
            return "attention"
        return "training" if self.run and self.run.status == RunStatus.RUNNING else "quiet"


def of(host: Host, source: Source, knowledge: PlanningIndex, runs: Iterable[RunRecord]) -> HostRow:
    """Return the row of a host; `runs` are those that it showed."""
    context, now = source.context, time.time()
    tally = source.tally.of(host.name)
    judged = context.states.of(host.identity).verdict
    is_ending = host.ending or host.name in context.fleet.rescue.ending_hosts
    state = "ending" if is_ending and tally.state == "connected" else tally.state
    found = _current(runs, source, now)
    transfer = next((each for each in context.transfers.all() if each.host == host.name and each.size), None)
    status = None if found is None else found[1]
    is_training = status is not None and not status.is_over
    idle_since = None if judged is None or tally.state != "connected" else judged.idle_since
    return HostRow(
        name=words.told(host.name, _LONGEST_NAME),
        url=f"/hosts/{quote(host.name, safe='')}",
        state=state,
        icon=_ICONS.get(state, "ring"),
        hardware=_hardware(host, found, knowledge),
        deviation=_deviation(state, host, tally, now),
        error=words.told(tally.error),
        since=tally.since,
        run=None if found is None else _run_line(*found, knowledge, tally, transfer, judged),
        verdict=verdicts.shown(judged, tally),
        risk=verdicts.at_risk(judged, tally, is_training=is_training, is_ending=is_ending),
        cents_per_hour=host.cents_per_hour,
        idle_since=idle_since,
        idle_cents=cents_since(host.cents_per_hour, idle_since, now),
        is_rented=is_rented(host),
    )


def by_host(knowledge: PlanningIndex, hosts: Iterable[Host]) -> dict[str, list[RunRecord]]:
    """Return the runs that each host showed, by the host's identity."""
    identities = {host.identity: host for host in hosts}
    by_name = {host.name: host.identity for host in hosts}
    found: dict[str, list[RunRecord]] = {identity: [] for identity in identities}
    for run in knowledge.runs():
        identity = run.identity if run.identity is not None else by_name.get(run.host)
        if identity in found:
            found[identity].append(run)
    return found


def _current(runs: Iterable[RunRecord], source: Source, now: float) -> tuple[RunRecord, CurrentStatus] | None:
    """Return the run to show: of those that go on the one with the newest step, else the newest by name."""
    known = [(run, status_of_run(run, source, now)) for run in runs]
    known.sort(key=lambda each: (not each[1].is_over, each[0].step_at or 0.0, each[0].name))
    return known[-1] if known else None


def name_of(run: RunRecord, knowledge: PlanningIndex) -> tuple[str, str]:
    """Return the first part of a run's directory and the rest; its own name where it has none yet."""
    if run.experiment is None:
        return words.told(run.name, _LONGEST_NAME), ""
    experiment = knowledge.experiment(run.experiment)
    directory, first = experiment.directory, experiment.name.experiment_name.value
    if not directory.startswith(first):
        return words.told(directory, _LONGEST_NAME), ""
    return words.told(first, _LONGEST_NAME), words.told(directory[len(first) :], _LONGEST_NAME)


def _run_line(
    run: RunRecord,
    status: CurrentStatus,
    knowledge: PlanningIndex,
    tally: HostTally,
    transfer: TransferProgress | None,
    judged: Judged | None,
) -> RunLine:
    name, rest = name_of(run, knowledge)
    step, total = steps(run)
    bar, lines, problem = None, [], ""
    at_step = f"step {words.number(step or 0)}" + (f" of {words.number(total)}" if total else "")
    if tally.state in {"lost", "failed"}:
        seen = "" if run.step_at is None else f", {words.clock(run.step_at)}"
        lines = [f"last seen at {at_step}{seen}" if not status.is_over else _over(run, status, step)]
    elif status.status is RunStatus.FINISHED and transfer is not None:
        bar = transfer_bar(transfer, "finished; ")
    elif status.is_over:
        idle = judged.idle_since if judged is not None else None
        lines = [*([f"idle since {words.clock(idle)}"] if idle else []), _over(run, status, step)]
        problem = "died" if status.status is RunStatus.DIED else ""
    else:
        right, problem = _right(run, status)
        kind = "still" if status.status in {RunStatus.STALLED, RunStatus.UNKNOWN} else ""
        bar = Bar(step or 0, total or 1, at_step, right, kind) if total else None
        lines = [] if total else [at_step]
    return RunLine(name, rest, url_of(run), str(status.status), bar, tuple(lines), problem, run.experiment, step)


def url_of(run: RunRecord) -> str:
    """Return the address of a run's view."""
    return f"/runs/{quote(run.id, safe='')}"


def transfer_bar(transfer: TransferProgress, before: str = "") -> Bar:
    """Return the bar of a transfer."""
    name = words.told(transfer.place.rstrip("/").rpartition("/")[2], _LONGEST_NAME)
    left = f"{before}{name} {words.size_of(transfer.moved, transfer.size)} here"
    seconds = transfer.seconds_left
    return Bar(transfer.moved, transfer.size, left, "" if seconds is None else f"{words.duration(seconds)} left")


def _right(run: RunRecord, status: CurrentStatus) -> tuple[str, str]:
    """Return the text at the right end of a bar, and what is wrong."""
    since = None if status.since is None else words.span(time.time() - status.since)
    match status.status:
        case RunStatus.STALLED:
            return (f"silent for {since}" if since else "silent"), "silent"
        case RunStatus.UNKNOWN:
            return (f"not seen for {since}" if since else "not seen"), ""
        case RunStatus.DIVERGED:
            return "the loss is no number", "diverged"
    return ("" if run.seconds_left is None else f"{words.duration(run.seconds_left)} left"), ""


def _over(run: RunRecord, status: CurrentStatus, step: int | None) -> str:
    at = "" if status.since is None else f" {words.clock(status.since)}"
    if status.status is RunStatus.DIED:
        return f"died{at} at step {words.number(step or 0)}"
    made = "" if step is None else f", {words.count(step, 'step')}"
    return f"finished{made}" if run.final else f"over{made}"


def _deviation(state: str, host: Host, tally: HostTally, now: float) -> str:
    if state == "ending":
        return words.told(host.peril or "is being terminated", _LONGEST_NAME)
    if state == "connecting":
        return "connecting"
    word = _FIRST_STATES.get(state, "")
    return f"{word} {words.span(now - tally.since)} ago" if state == "lost" else word


def _hardware(host: Host, found: tuple[RunRecord, CurrentStatus] | None, knowledge: PlanningIndex) -> str:
    text = host.hardware or (host.instance_type or "").removeprefix("gpu_")
    if not text and found is not None and found[0].experiment is not None:
        text = knowledge.experiment(found[0].experiment).name.hardware.value
    number, times, model = text.partition("x_")
    if times and number.isdecimal():
        text = model if number == "1" else f"{number}{words.SPACE}\u00d7{words.SPACE}{model}"
    return words.told(text.replace("_", " ").upper(), _LONGEST_NAME)
