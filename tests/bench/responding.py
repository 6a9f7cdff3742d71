"""What else the daemon does during its longest work: its API, another host's files, and its event loop."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack

from bench import ours, trees
from bench.api_requests import Requests, held
from bench.boxes import Boxes
from bench.freshness import Arrivals, Writer
from bench.grown import grown
from bench.laboratory import Laboratory
from bench.table import Row, Series, figure, worst
from bench.timing import Measures, Unmeasurable, wait_until_quiet

_LARGE_LEAVES = 50_000
_FIRST_OF_LARGE = 1_000
"""The number of the large host's first run; smaller numbers are the other host's."""
_RUN = 0
_EVERY = 0.02
"""Seconds between two requests of a client that shows the state."""
_SHORTEST, _LONGEST = 0.050, 0.300
"""Seconds between two evals on the other host."""
_TIMEOUT = 1200.0

_JUDGED = 200_000
_REQUESTS = 50
_BETWEEN = 0.001
"""Seconds between two requests that show when the event loop is held: hardly ever is none under way."""
_USUAL = 0.010
"""Seconds that an answer may take before the event loop counts as held."""
_VERDICTS = frozenset({0, 10})


def first_look(laboratory: Laboratory) -> Iterator[Row]:
    """Measure the API and another host's new evals while the first pass over a large host lasts."""
    with ExitStack() as stack:
        boxes = stack.enter_context(Boxes(laboratory.ram / "boxes"))
        small, large = boxes.start("gpu-a"), boxes.start("gpu-b")
        trees.write_run(small.root, _RUN)
        trees.write_leaf(small.root / "eval_runs" / trees.leaf(_RUN, 1, "math"), 0)
        trees.write_evals(large.root, laboratory.count(_LARGE_LEAVES), first_run=_FIRST_OF_LARGE)
        workstation = ours.Workstation(laboratory.harvestd, laboratory.ram / "ours", [small])
        daemon = stack.enter_context(ours.Daemon(workstation))
        daemon.wait_until_all_is_here()
        wait_until_quiet(daemon.pid, ours.TIMEOUT)
        writer = Writer(small, workstation.evals_of(_RUN, "math"))
        began = time.monotonic()
        with Requests(workstation.socket, "/v1/state", _EVERY) as requests, Arrivals() as arrivals:
            workstation.add(large)
            while not any(event["host"] == large.name for event in daemon.events("host.polled")):
                if time.monotonic() > began + _TIMEOUT:
                    raise Unmeasurable(f"the first look at {large.name} did not end in {_TIMEOUT:.0f} s")
                _ = daemon.pid
                writer.write(arrivals)
                time.sleep(random.uniform(_SHORTEST, _LONGEST))  # noqa: S311  (a rhythm, no secret)
            took = time.monotonic() - began
            arrivals.wait(ours.TIMEOUT)
        daemon.wait_until_all_is_here(_TIMEOUT)
        work = f"first look at {trees.content(large.root).files:,} files ({took:.0f} s)"
    answers = Series("harvestd", tuple(1000 * each for each in requests.answered()), unit="ms")
    yield worst(f"{work}: the API", answers, 0.99, at_most=150, note=f"p99 of {len(answers.values):,}")
    yield worst(f"{work}: the API", answers, 1.0, at_most=500, note="the worst")
    fresh = Series("harvestd", tuple(arrivals.seconds))
    yield worst(f"{work}: another host's eval", fresh, 1.0, at_most=1, note=f"the worst of {len(fresh.values)}")


def verdict(laboratory: Laboratory) -> Iterator[Row]:
    """Measure for how long full verdicts on a large host hold the event loop, with requests by hand on record."""
    program = laboratory.harvestd
    took, holds, longest = Measures("harvestd safe"), [], []
    with ExitStack() as stack:
        host = grown(stack, laboratory, _JUDGED)
        config, socket = host.workstation.config, host.workstation.socket
        runs = -(-host.files // (2 * trees.LEAVES_PER_RUN + 1))
        requests = min(laboratory.count(_REQUESTS), runs)
        for run in range(requests):
            program.timed("-c", config, "fetch", trees.run_name(run), "--records")
        wait_until_quiet(host.daemon.pid, _TIMEOUT, quiet=3.0)
        for _ in range(laboratory.runs):
            with Requests(socket, "/healthz", _BETWEEN) as asked:
                took.add(program.timed("-c", config, "safe", host.box.name, expected=_VERDICTS))
            holds.append(held(asked.answered(), _USUAL))
            longest.append(max(asked.answered()))
            wait_until_quiet(host.daemon.pid, _TIMEOUT)
    work = f"full verdict on {host.files:,} files, {requests} requests on record"
    note = f"the longest hold {1000 * max(longest):.0f} ms, `harvestd safe` {took.series.median:.1f} s"
    yield figure(work, Series("harvestd", tuple(holds), unit="s of the event loop"), at_most=0.3, note=note)
