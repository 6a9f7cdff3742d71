"""How soon a finished eval is at home: with push, on a quiet line, and while a checkpoint comes from the same box.

Evals are written as on a box, at random moments; a thread here looks for each at its final path every millisecond.
"""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Self

from bench import ours, trees
from bench.boxes import Boxes, GpuBox
from bench.distance import Distance
from bench.laboratory import Laboratory
from bench.table import Row, Series, figure, worst
from bench.timing import Unmeasurable, wait_until_quiet

_FAR = 50.0
"""Milliseconds."""
_RATE = 1000.0
"""Megabits a second: a checkpoint takes some seconds."""
_SAMPLES = 200
_SHORTEST, _LONGEST = 0.050, 0.300
"""Seconds between two evals."""
_CHECKPOINT = 10**9
_TIMEOUT = 60.0
_TICK = 0.001
_RUN = 0
_ADAPTERS = "*/training_run/training_state/step_final/model/adapter_model.safetensors"


@dataclass(slots=True)
class Arrivals(AbstractContextManager["Arrivals"]):
    """Looks every millisecond for files that are to come, in a thread; gives how long each of them took."""

    seconds: list[float] = field(default_factory=list)
    _waiting: dict[Path, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def expect(self, path: Path, since: float) -> None:
        """Wait for `path`, whose source was closed at `since` (time.monotonic())."""
        with self._lock:
            self._waiting[path] = since

    def wait(self, timeout: float) -> None:
        """Wait until all have come; raises `Unmeasurable` where some don't."""
        give_up = time.monotonic() + timeout
        while self._waiting:
            if time.monotonic() > give_up:
                raise Unmeasurable(f"{len(self._waiting)} evals did not come home in {timeout:.0f} s")
            time.sleep(_TICK)

    def _look(self) -> None:
        while not self._over.wait(_TICK):
            with self._lock:
                waiting = list(self._waiting.items())
            for path, since in waiting:
                with suppress(FileNotFoundError):
                    path.stat()
                    self.seconds.append(time.monotonic() - since)
                    with self._lock:
                        del self._waiting[path]


class Writer:
    """An eval program on a box, and where its evals appear at home."""

    def __init__(self, box: GpuBox, home: Path) -> None:
        self._box = box
        self._home = home
        self._step = 0

    def write(self, arrivals: Arrivals) -> None:
        """Write one eval, and expect it."""
        self._step += 1
        path = trees.leaf(_RUN, self._step)
        closed = trees.write_leaf(self._box.root / "eval_runs" / path, self._step, age=0)
        arrivals.expect(self._home / path / "run_meta.json", closed)


def quiet(laboratory: Laboratory) -> Iterator[Row]:
    """Measure evals one by one on a link that has nothing else to do."""
    with ExitStack() as stack:
        daemon, writer, _ = _stand(stack, laboratory, None)
        samples = laboratory.count(_SAMPLES)
        with Arrivals() as arrivals:
            for _ in range(samples):
                writer.write(arrivals)
                _pause()
            arrivals.wait(_TIMEOUT)
        _ = daemon.pid
        taken = _milliseconds(arrivals)
    work = f"close() on the box to its place at home, {_FAR:g} ms"
    yield figure(work, taken, at_most=250, note=f"median of {samples}")
    yield worst(work, taken, 0.99, at_most=1000, note=f"p99 of {samples}")


def beside_a_checkpoint(laboratory: Laboratory) -> Iterator[Row]:
    """Measure evals that are written while a checkpoint comes; one checkpoint after the other until it is enough."""
    samples, size = laboratory.count(_SAMPLES), laboratory.count(_CHECKPOINT)
    with ExitStack() as stack:
        daemon, writer, box = _stand(stack, laboratory, _RATE)
        with Arrivals() as arrivals:
            for run in count(_RUN + 1):
                _appear(box, run, size, daemon)
                before = len(arrivals.seconds)
                give_up = time.monotonic() + _TIMEOUT
                while len(list(daemon.workstation.home.glob(_ADAPTERS))) < run - _RUN:
                    if time.monotonic() > give_up:
                        raise Unmeasurable(f"a checkpoint of {size:,} bytes did not come home in {_TIMEOUT:.0f} s")
                    writer.write(arrivals)
                    _pause()
                arrivals.wait(_TIMEOUT)
                if len(arrivals.seconds) >= samples or len(arrivals.seconds) == before:
                    break
        taken = _milliseconds(arrivals)
    work = f"the same while a checkpoint of {size / 1e9:g} GB comes, {_RATE:g} Mbit/s"
    yield figure(work, taken, note=f"median of {len(taken.values)}")
    yield worst(work, taken, 0.99, at_most=2000, note=f"p99 of {len(taken.values)}")


def _stand(stack: ExitStack, laboratory: Laboratory, rate: float | None) -> tuple[ours.Daemon, Writer, GpuBox]:
    """Start a box with one run that is being evaluated, and a daemon that knows it."""
    box = stack.enter_context(Boxes(laboratory.ram / "boxes")).start()
    trees.write_run(box.root, _RUN)
    trees.write_leaf(box.root / "eval_runs" / trees.leaf(_RUN, 1, "math"), 0)
    trees.wait_until_settled()
    line = stack.enter_context(Distance([box.port], rtt=_FAR, rate=rate))
    away = box.through(line.port(box.port))
    workstation = ours.Workstation(laboratory.harvestd, laboratory.ram / "ours", [away])
    daemon = stack.enter_context(ours.Daemon(workstation))
    daemon.wait_until_all_is_here()
    return daemon, Writer(box, workstation.evals_of(_RUN, "math")), box


def _appear(box: GpuBox, run: int, size: int, daemon: ours.Daemon) -> None:
    """Let a finished run appear with its checkpoint, once the daemon has nothing else to do."""
    prepared = box.root / "prepared"
    trees.write_run(prepared, run)
    trees.write_checkpoint(prepared, run, size)
    trees.wait_until_settled()
    wait_until_quiet(daemon.pid, _TIMEOUT)
    name = trees.run_name(run)
    (prepared / "training_runs" / name).rename(box.root / "training_runs" / name)


def _pause() -> None:
    """Wait until the next eval is finished, at no fixed rhythm that a poll could fall in with."""
    time.sleep(random.uniform(_SHORTEST, _LONGEST))  # noqa: S311  (a rhythm, no secret)


def _milliseconds(arrivals: Arrivals) -> Series:
    return Series("harvestd", tuple(seconds * 1000 for seconds in arrivals.seconds), unit="ms")
