"""What a change costs on a host that has many files already: a log that grows, evals one by one, every ctime.

A cost is that of what changed where its ratio to the cost on a small host stays near one.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from bench import ours, trees
from bench.grown import Grown, grown
from bench.laboratory import Laboratory
from bench.table import Row, Series, figure, times
from bench.timing import Unmeasurable, family_time, wait_until_still

_HOSTS = (1_000, 10_000, 30_000, 100_000)
"""Files of the hosts on which one log grows; the first one is what the others are compared with."""
_JUDGED = 30_000
"""The host that has a bar of its own."""
_LINES_PER_SECOND = 2.0
_WARM_UP, _WINDOW = 5.0, 20.0
"""Seconds of lines before a measurement, and in it."""
_BESIDE = (0, 1_000, 10_000, 24_000, 100_000)
"""Files that are there when evals are written one by one."""
_LEAVES, _WRITING = 2_000, 10.0
"""Evals, and the seconds in which they are written."""
_CHOWNED = 28_000
_QUIET = 3.0
_LONGER_THAN_A_POLL = 12.0
"""Seconds of silence after which no poll can bring more."""
_DEADLINE = 600.0


def growing(laboratory: Laboratory) -> Iterator[Row]:
    """Measure the daemon's share of a core while one log grows, on hosts of several sizes."""
    smallest: Series | None = None
    for files in _HOSTS:
        with ExitStack() as stack:
            host = grown(stack, laboratory, files)
            shares = tuple(_shares(host, laboratory))
        work = f"one log grows by {_LINES_PER_SECOND:g} lines/s, host of {host.files:,} files"
        ours_here = Series("harvestd", shares, unit="% of a core")
        yield figure(work, ours_here, at_most=4 if files == _JUDGED else None)
        if smallest is None:
            smallest = Series(f"host of {host.files:,}", shares, unit="% of a core")
        else:
            yield times(work, ours_here, smallest, at_most=1.5)


def one_by_one(laboratory: Laboratory) -> Iterator[Row]:
    """Measure the daemon's processor time for evals that are written one by one, beside hosts of several sizes.

    Each run measures all sizes: the machine's speed may change within the minutes that this takes.
    """
    leaves, seconds = laboratory.count(_LEAVES), _WRITING * laboratory.scale
    runs = [
        [_one_by_one(laboratory, run, files, leaves, seconds) for files in _BESIDE] for run in range(laboratory.runs)
    ]
    empty: Series | None = None
    for measured in zip(*runs, strict=True):
        spent, beside = tuple(each for each, _ in measured), measured[0][1]
        work = f"{2 * leaves:,} files written one by one in {seconds:g} s, beside {beside:,} files"
        if empty is None:
            yield figure(work, Series("harvestd", spent, unit="CPU-s"), at_most=2.5)
            empty = Series("an empty host", spent, unit="CPU-s")
        else:
            yield times(work, Series("harvestd", spent, unit="CPU-s"), empty, at_most=1.2)


def _one_by_one(laboratory: Laboratory, run: int, files: int, leaves: int, seconds: float) -> tuple[float, int]:
    """Return the processor time for evals on a host that has no others of their runs, and how many files it has."""
    own = replace(laboratory, ram=laboratory.ram / f"{files}-{run}")
    own.ram.mkdir()
    with ExitStack() as stack:
        host = grown(stack, own, files, runs=-(-leaves // trees.LEAVES_PER_RUN))
        before = host.daemon.processor_time()
        _write_evals(host, leaves, seconds)
        wait_until_still(host.daemon.processor_time, _DEADLINE, quiet=_QUIET)
        spent = host.daemon.processor_time() - before
        host.workstation.compare()
    trees.remove(own.ram)
    return spent, host.files


def chown(laboratory: Laboratory) -> Iterator[Row]:
    """Measure what `chown -R` costs, after which every ctime is another one and nothing else is."""
    here, there = [], []
    with ExitStack() as stack:
        host = grown(stack, laboratory, _CHOWNED)

        def on_host() -> float:
            return family_time(host.box.server.pid)

        def in_all() -> float:
            return host.daemon.processor_time() + on_host()

        for _ in range(laboratory.runs):
            before = host.daemon.processor_time(), on_host()
            # To whom they belong already: the ctimes change all the same, and nothing is unreadable afterwards.
            subprocess.run(["chown", "-R", f"{os.getuid()}", str(host.box.root)], check=True, timeout=_DEADLINE)
            wait_until_still(in_all, _DEADLINE, quiet=_LONGER_THAN_A_POLL)
            here.append(host.daemon.processor_time() - before[0])
            there.append(on_host() - before[1])
        host.workstation.compare()
    work = f"chown -R over a host of {host.files:,} files"
    yield figure(work, Series("harvestd", tuple(here), unit="CPU-s"), at_most=2, note="the daemon")
    yield figure(work, Series("harvestd", tuple(there), unit="CPU-s"), at_most=2, note="the host, with its sshd")


def _shares(host: Grown, laboratory: Laboratory) -> Iterator[float]:
    """Yield the share of a core in each window, in percent; raise `Unmeasurable` where the log was not followed."""
    log = trees.log_of(host.box.root, 0)
    log.parent.mkdir()
    scale = min(1.0, laboratory.scale)
    with log.open("ab", buffering=0) as file:
        lines = iter(range(10**9))

        def grow(seconds: float) -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                file.write(trees.log_line(next(lines)))
                time.sleep(1 / _LINES_PER_SECOND)

        grow(_WARM_UP)
        for _ in range(laboratory.runs):
            began, before = time.monotonic(), host.daemon.processor_time()
            grow(max(2.0, _WINDOW * scale))
            yield 100 * (host.daemon.processor_time() - before) / (time.monotonic() - began)
    give_up = time.monotonic() + ours.TIMEOUT
    while host.workstation.log_size() != log.stat().st_size:
        if time.monotonic() > give_up:
            raise Unmeasurable(f"{log} was not followed to its end")
        time.sleep(1 / _LINES_PER_SECOND)


def _write_evals(host: Grown, leaves: int, seconds: float) -> None:
    """Write evals of the runs that have begun, evenly; return when all are at home."""
    markers = []
    homes = {run: host.workstation.evals_of(run, "math") for run in host.runs}
    started = time.monotonic()
    for number in range(leaves):
        run = host.runs[number // trees.LEAVES_PER_RUN]
        path = trees.leaf(run, number % trees.LEAVES_PER_RUN + 1)
        trees.write_leaf(host.box.root / "eval_runs" / path, number, age=0)
        markers.append(homes[run] / path / "run_meta.json")
        time.sleep(max(0.0, started + seconds * (number + 1) / leaves - time.monotonic()))
    ours.wait_for_files(markers)
