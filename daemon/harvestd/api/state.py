"""The state document: everything at one moment, as JSON values, every text escaped.

It is made from memory, without access to a host or a disk. Its length grows with the hosts, not with the runs. Its
hosts and runs have the keys of `--json`, and the keys and forms of time that this document had before.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import anyio
from msgspec.structs import replace

from harvestd import __version__
from harvestd.documents.forms import Document, HostView, run_document
from harvestd.harvest.context import Context
from harvestd.harvest.experiments.logs import LogIndexes
from harvestd.harvest.metrics import FleetMetrics, HostTally
from harvestd.harvest.state import Judged
from harvestd.harvest.sync import Broadcast
from harvestd.harvest.transfer.pool import TransferProgress
from harvestd.inventory.host import Host
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import RunRecord
from harvestd.planning.run_status import CurrentStatus, current_status
from harvestd.store.root import DataRoot
from harvestd.telemetry.serialize import plain


@dataclass(frozen=True)
class Source:
    """One running daemon. Read only, except for its three commands."""

    context: Context
    root: DataRoot
    tally: FleetMetrics
    scan_now: Broadcast
    reload: Callable[[], None]
    """Reloads the configuration."""
    logs: LogIndexes
    ready: anyio.Event = field(default_factory=anyio.Event)
    """Set once the hosts are being watched."""
    stopping: anyio.Event = field(default_factory=anyio.Event)
    """Set when streams of events should end."""
    started: float = field(default_factory=time.time)
    """Unix time."""
    pid: int = field(default_factory=os.getpid)
    config: Path | None = None
    """The configuration's file."""

    def pause(self) -> None:
        """Stop fetching; partial files stay."""
        self.context.fleet.is_paused = True
        self.scan_now.ring()

    def resume(self) -> None:
        """Fetch again."""
        self.context.fleet.is_paused = False
        self.scan_now.ring()


def status_of_run(run: RunRecord, source: Source, now: float) -> CurrentStatus:
    """Return the standing of a run at `now` (Unix time), from its record and the host that showed it first."""
    hosts, tally = source.context.fleet.hosts, source.tally.hosts.get(run.host)
    seen_at = None if tally is None else tally.last_success
    return current_status(
        finished=run.finished,
        problem=run.problem,
        step_at=run.step_at,
        host_seen_at=None if seen_at is None else seen_at.timestamp(),
        host_is_gone=hosts is not None and run.host not in hosts,
        now=now,
    )


VERSION: Final = 1
_MOST_RUNS: Final = 500
_MOST_NAMED: Final = 100
"""Of the reasons and the losses of one verdict; there may be one for each file."""


def state(source: Source, free_bytes: int) -> Document:
    """Return the document; its keys are described in `README.md`."""
    context, tally = source.context, source.tally
    knowledge = context.catalogue.knowledge if context.catalogue_opened.is_set() else PlanningIndex()
    present = sorted(context.fleet.present.values(), key=lambda host: host.name)
    runs = knowledge.runs()
    status_of = partial(status_of_run, source=source, now=time.time())
    return {
        "version": VERSION,
        "at": time.time(),
        "daemon": {
            "version": __version__,
            "pid": source.pid,
            "started": source.started,
            "paused": context.fleet.is_paused,
            "stuck": plain(context.deadlines.overdue()),
            "free_bytes": free_bytes,
        },
        "hosts": [_host(host, context, tally.of(host.name)) for host in present],
        "transfers": [_transfer(transfer) for transfer in context.transfers.all()],
        "runs": [_run(run, knowledge, status_of(run)) for run in islice(sorted(runs, key=_order), _MOST_RUNS)],
        "counts": {
            "hosts": len(present),
            "connected": len(tally.connected),
            "runs": len(runs),
            "experiments": len(knowledge.experiments()),
            "files": tally.files,
            "pending_bytes": sum(tally.of(host.name).pending for host in present),
        },
    }


def _host(host: Host, context: Context, tally: HostTally) -> Document:
    timed = context.states.of(host.identity).verdict
    view = HostView(
        host.name,
        host.address,
        tally.state,
        configured=True,
        identity=host.identity,
        method=tally.method,
        first_seen=tally.first_seen,
        pending_bytes=tally.pending,
        judged=None if timed is None else _cut(timed).record_of(host),
    )
    document = view.document(watched=True)
    if timed is not None:
        document["verdict"] = _verdict(document["verdict"], timed)
    before = {
        "source": host.source,
        "hardware": host.hardware or host.instance_type,
        "ending": host.ending,
        "error": tally.error,
        "last_success": _unix(tally.last_success),
        "moved_bytes": tally.moved,
        "failures": tally.failures,
        "cents_per_hour": host.cents_per_hour,
        "idle_cents": document["cents_since_idle"],
    }
    return _escaped(document | before)


def _cut(timed: Judged) -> Judged:
    """Return a verdict with its first reasons and losses."""
    whole = timed.verdict
    named = replace(
        whole,
        reasons=whole.reasons[:_MOST_NAMED],
        losses=whole.losses[:_MOST_NAMED],
        survives=whole.survives[:_MOST_NAMED],
    )
    return replace(timed, verdict=named)


def _verdict(document: Document, timed: Judged) -> Document:
    """Return the document of a verdict that was cut, with the sums of the whole one and its earlier keys."""
    whole, left = timed.verdict, timed.verdict.left
    is_safe = document["fresh"] and whole.is_safe
    return document | {
        "safe": is_safe,
        "bytes_outstanding": whole.outstanding,
        "seconds_left": None if left is None or not document["fresh"] else left.total_seconds(),
        "is_safe": is_safe,
        "at": timed.at,
        "idle_since": timed.idle_since,
        "outstanding_bytes": whole.outstanding,
        "losses": [loss | {"size_bytes": loss["bytes"]} for loss in document["losses"]],
    }


def _escaped(document: Document) -> Document:
    escaped = plain(document)
    return escaped if isinstance(escaped, dict) else {}


def _transfer(transfer: TransferProgress) -> Document:
    return {
        "host": plain(transfer.host),
        "what": plain(transfer.place),
        "moved_bytes": transfer.moved,
        "size_bytes": transfer.size,
        "rate": transfer.rate,
        "seconds_left": transfer.seconds_left,
    }


def _order(run: RunRecord) -> tuple[bool, tuple[int, ...], str]:
    """Return a sort key: runs in progress first, then the newest, since names of runs hold their time."""
    return run.is_over, tuple(-ord(character) for character in run.name), run.host


def _run(run: RunRecord, knowledge: PlanningIndex, found: CurrentStatus) -> Document:
    experiment = None if run.experiment is None else knowledge.experiment(run.experiment).directory
    return _escaped(run_document(run, experiment, found) | {"state_since": found.since})


def _unix(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
