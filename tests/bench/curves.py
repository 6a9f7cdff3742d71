"""What the curves of a run cost: a log of a million lines that arrives, a restart, and a log that grows.

The daemon is asked over its socket as a page asks it. Figures of the first index are those of a log that comes at once,
which is the worst case: a log that grows is indexed as it is appended.
"""

import json
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import ours, trees
from bench.api_requests import Requests
from bench.boxes import Boxes
from bench.laboratory import Laboratory
from bench.table import Row, Series, figure, worst
from bench.timing import Unmeasurable, resident, wait_until_quiet
from harvestd.store.sockets import short_path

_LINES = 1_000_000
_KEYS = tuple(f"key_{number}" for number in range(17))
_SPIKE = 1e6
_SPIKE_AT = 0.543
"""Where in the log one value is a million times the others."""
_BETWEEN = 0.002
"""Seconds between two requests that show when the event loop is held."""
_APPENDED = 30
_IDLE = 5.0
"""Seconds in which an idle daemon is asked, for comparison: a busy machine delays any answer."""
_DEADLINE = 600.0


def series(laboratory: Laboratory) -> Iterator[Row]:
    """Measure the first index, the first answer after a restart, its memory, and how long a new line takes."""
    lines = laboratory.count(_LINES)
    with ExitStack() as stack:
        box = stack.enter_context(Boxes(laboratory.ram / "boxes")).start()
        trees.write_run(box.root, 0)
        workstation = ours.Workstation(laboratory.harvestd, laboratory.ram / "ours", [box])
        log = trees.log_of(box.root, 0)
        with ours.Daemon(workstation) as daemon:
            daemon.wait_until_all_is_here(_DEADLINE)
            run = _run(workstation.socket)
            _write(log, lines)
            size = log.stat().st_size
            began = time.monotonic()
            while workstation.log_size() < size:
                _pass(began, daemon)
            arrived = time.monotonic()
            while not _ask(workstation.socket, run, "&points=1")["complete"]:
                _pass(began, daemon)
            indexed = time.monotonic() - arrived
        work = f"a log of {lines:,} lines ({size / 1e6:.0f} MB)"
        yield figure(f"{work} arrives at once: indexed after", Series("harvestd", (indexed,)))
        yield from _restarted(workstation, laboratory, run, work)
        yield from _anew(workstation, run, work)
        yield _growth(workstation, run, log, lines)


def _anew(workstation: ours.Workstation, run: str, work: str) -> Iterator[Row]:
    """Measure the event loop and the answers while a log is indexed that an earlier version left without an index."""
    trees.remove(workstation.home / ".harvestd" / "series")
    with ours.Daemon(workstation) as daemon:
        daemon.wait_for("host.polled", 0, _DEADLINE)
        wait_until_quiet(daemon.pid, _DEADLINE)
        with Requests(workstation.socket, "/healthz", _BETWEEN) as idle:
            time.sleep(_IDLE)
        began = time.monotonic()
        target = f"/v1/runs/{run}/series?points=1000"
        with (
            Requests(workstation.socket, "/healthz", _BETWEEN) as asked,
            Requests(workstation.socket, target, 0.5) as answers,
        ):
            while not _ask(workstation.socket, run, "&points=1")["complete"]:
                _pass(began, daemon)
        took = time.monotonic() - began
    held = Series("harvestd", tuple(1000 * each for each in asked.answered()), unit="ms")
    usual = 1000 * Series("idle", tuple(idle.answered())).percentile(0.99)
    note = f"p99 of {len(held.values):,}; of an idle daemon {usual:.0f} ms"
    yield worst(f"{work} is indexed anew in {took:.0f} s: /healthz", held, 0.99, at_most=50, note=note)
    yield worst(f"{work} is indexed anew in {took:.0f} s: /healthz", held, 1.0, note="the worst")
    first = Series("harvestd", tuple(answers.answered()))
    yield worst(f"{work} is indexed anew: answers meanwhile", first, 1.0, 1, f"the worst of {len(first.values)}")


def _restarted(workstation: ours.Workstation, laboratory: Laboratory, run: str, work: str) -> Iterator[Row]:
    """Measure the first answer of new processes, and the memory that it adds."""
    took, memory = [], []
    for _ in range(laboratory.runs):
        with ours.Daemon(workstation) as daemon:
            daemon.wait_for("host.polled", 0, _DEADLINE)
            wait_until_quiet(daemon.pid, _DEADLINE)
            before, began = resident(daemon.pid), time.monotonic()
            document = _ask(workstation.socket, run, "&points=1000")
            took.append(time.monotonic() - began)
            memory.append(resident(daemon.pid) - before)
        highest = max(each for each in document["curves"][_KEYS[0]]["max"] if each is not None)
        if not document["complete"] or highest != _SPIKE:
            raise Unmeasurable(f"the answer is not whole, or its highest value is {highest}")
    yield figure(f"{work}: first answer after a restart", Series("harvestd", tuple(took)), at_most=1)
    yield figure(f"{work}: memory of its index", Series("harvestd", tuple(memory), unit="MB"), at_most=20)


def _growth(workstation: ours.Workstation, run: str, log: Path, lines: int) -> Row:
    """Measure the seconds from a line on the host until an answer has it, asked every 0.1 s by the cursor."""
    seconds = []
    with ours.Daemon(workstation) as daemon:
        daemon.wait_for("host.polled", 0, _DEADLINE)
        cursor = _ask(workstation.socket, run)["cursor"]
        for step in range(lines + 1, lines + 2 + _APPENDED):
            with log.open("ab", buffering=0) as file:
                file.write(_line(step, random.Random(step)))  # noqa: S311  (made-up values)
            began = time.monotonic()
            while (answer := _ask(workstation.socket, run, f"&from={cursor}"))["step"] != step:
                _pass(began, daemon)
            if step > lines + 1:  # with the first line after its start the daemon hashes the whole log again
                seconds.append(time.monotonic() - began)
            cursor = answer["cursor"]
    work = f"a line is appended to a log of {lines:,} lines: until its curve has it"
    return worst(work, Series("harvestd", tuple(seconds)), 1.0, at_most=2, note=f"the worst of {len(seconds)}")


def _pass(began: float, daemon: ours.Daemon) -> None:
    """Wait a moment; raise `Unmeasurable` after the deadline, or when the daemon has ended."""
    _ = daemon.pid
    if time.monotonic() > began + _DEADLINE:
        raise Unmeasurable(f"the log was not indexed in {_DEADLINE:.0f} s")
    time.sleep(0.1)


def _write(log: Path, lines: int) -> None:
    """Write a whole log beside its place, and put it there."""
    log.parent.mkdir()
    part = log.parents[3] / "part"
    random_values = random.Random(1)  # noqa: S311  (the same)
    spike = int(_SPIKE_AT * lines)
    with part.open("wb") as file:
        for step in range(1, lines + 1):
            file.write(_line(step, random_values, _SPIKE if step == spike else 0.0))
    part.rename(log)


def _line(step: int, values: random.Random, first: float = 0.0) -> bytes:
    row = {"step": step} | {key: round(values.random(), 6) for key in _KEYS}
    if first:
        row[_KEYS[0]] = first
    return json.dumps(row).encode() + b"\n"


def _run(path: Path) -> str:
    return str(_get(path, "/v1/runs")["runs"][0]["id"])


def _ask(path: Path, run: str, query: str = "") -> dict[str, Any]:
    return _get(path, f"/v1/runs/{run}/series?x=step{query}")


def _get(path: Path, target: str) -> dict[str, Any]:
    with short_path(path) as short, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_DEADLINE)
        client.connect(short)
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: harvestd\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise Unmeasurable(f"{target}: {answer[:200].decode(errors='replace')}")
    document: dict[str, Any] = json.loads(body)
    return document
