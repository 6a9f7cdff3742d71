"""Many boxes at once: a first pass over all of them, a hundred that do nothing, and hundreds that never answer."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

from bench import ours, peers, trees
from bench.boxes import Boxes, GpuBox
from bench.distance import Distance
from bench.laboratory import Laboratory
from bench.silence import Silence
from bench.table import Row, Series, figure, times
from bench.timing import Measures, Unmeasurable, resident, timed

_FAR = 50.0
"""Milliseconds."""
_MANY, _LEAVES_EACH = 64, 250
_IDLE_SERVERS, _IDLE_EACH, _IDLE_LEAVES = 10, 10, 500
_WIDE_OPEN = "200:30:400"
"""One server stands for ten boxes: it must not take them for one crowd."""
_DEADLINE = 600.0
_WARM_UP = 40.0
"""Seconds: manifests are written half a minute after the last file at the latest."""
_SAMPLE = 1.0
"""Seconds between two looks at an idle process."""
_HEALTHY_SERVERS, _HEALTHY_EACH, _SILENT = 25, 10, 250
_TICK = 0.05
"""Seconds between two looks at a daemon's events."""


def cold(laboratory: Laboratory) -> Iterator[Row]:
    """Measure a first pass over many boxes, beside as many rsyncs side by side."""
    number, leaves = laboratory.count(_MANY), laboratory.count(_LEAVES_EACH)
    harvestd, rsync = Measures("harvestd"), Measures(f"{number} x rsync -a")
    with ExitStack() as stack:
        started = stack.enter_context(Boxes(laboratory.ram / "boxes"))
        boxes = [started.start(f"gpu-{each:03}") for each in range(number)]
        for each, box in enumerate(boxes):
            trees.write_evals(box.root, leaves, first_run=each * 100)
        trees.wait_until_settled()
        line = stack.enter_context(Distance([box.port for box in boxes], rtt=_FAR))
        away = [box.through(line.port(box.port)) for box in boxes]
        workstation = ours.Workstation(laboratory.harvestd, laboratory.ram / "ours", away)
        mirrors = [laboratory.ram / "mirrors" / box.name for box in boxes]
        for _ in range(laboratory.runs):
            workstation.clear()
            harvestd.add(workstation.once())
            workstation.clear()
            for mirror in mirrors:
                mirror.mkdir(parents=True)
            commands = [peers.rsync(box, mirror) for box, mirror in zip(away, mirrors, strict=True)]
            rsync.add(timed(*commands, deadline=_DEADLINE))
            for box, mirror in zip(boxes, mirrors, strict=True):
                if trees.content(mirror) != trees.content(box.root):
                    raise Unmeasurable(f"rsync did not bring all of {box.name}")
            trees.remove(mirrors[0].parent)
    work = f"cold once, {number} boxes of {2 * leaves} files, {_FAR:g} ms"
    yield times(work, harvestd.series, rsync.series, at_most=0.7)


def idle(laboratory: Laboratory) -> Iterator[Row]:
    """Watch a daemon that watches a hundred boxes, polled every 10 s with push on, while nothing happens."""
    servers, each_has = laboratory.count(_IDLE_SERVERS), laboratory.count(_IDLE_EACH)
    leaves = laboratory.count(_IDLE_LEAVES)
    with ExitStack() as stack:
        started = stack.enter_context(Boxes(laboratory.ram / "boxes"))
        boxes = _fleet(started, servers, each_has)
        for number, box in enumerate(boxes):
            trees.write_evals(box.root, leaves, first_run=number * 100)
        trees.wait_until_settled()
        workstation = ours.Workstation(
            laboratory.harvestd, laboratory.ram / "ours", boxes, poll={"interval": "10s", "push": True}
        )
        daemon = stack.enter_context(ours.Daemon(workstation))
        daemon.wait_until_all_is_here(_DEADLINE)
        time.sleep(_WARM_UP)
        shares, sizes = _watched(daemon, laboratory.minutes * 60)
    work = f"{len(boxes)} idle boxes of {2 * leaves:,} files, {laboratory.minutes:g} min"
    third = max(1, len(sizes) // 3)
    first, last = sum(sizes[:third]) / third, sum(sizes[-third:]) / third
    yield figure(work, Series("harvestd", tuple(shares), unit="% of a core"), at_most=2)
    resident_sizes = Series("harvestd", tuple(sizes), unit="MB resident")
    yield figure(work, resident_sizes, at_most=200, note=f"first third {first:.0f} MB, last third {last:.0f} MB")


def black_holes(laboratory: Laboratory) -> Iterator[Row]:
    """Measure from the start of a daemon until the last healthy box is connected, where as many never answer."""
    with ExitStack() as stack:
        started = stack.enter_context(Boxes(laboratory.ram / "boxes"))
        port = stack.enter_context(Silence()).port
        healthy = _fleet(started, laboratory.count(_HEALTHY_SERVERS), laboratory.count(_HEALTHY_EACH))
        for number, box in enumerate(healthy):
            trees.write_evals(box.root, 1, first_run=number)
        number = laboratory.count(_SILENT)
        silent = [started.share(healthy[0], f"gone-{each:03}").through(port) for each in range(number)]
        # The silent ones first: healthy ones must not depend on where they stand in the configuration.
        workstation = ours.Workstation(laboratory.harvestd, laboratory.ram / "ours", [*silent, *healthy])
        daemon = stack.enter_context(ours.Daemon(workstation))
        while (connected := len({event["host"] for event in daemon.events("host.connected")})) < len(healthy):
            if daemon.age() > _DEADLINE:
                raise Unmeasurable(f"{connected} of {len(healthy)} boxes were connected in {_DEADLINE:.0f} s")
            _ = daemon.pid
            time.sleep(_TICK)
        seconds = daemon.age()
        daemon.wait_until_all_is_here()
    work = f"the last of {len(healthy)} boxes is connected, {number} others never answer"
    yield figure(work, Series("harvestd", (seconds,)), at_most=20)


def _fleet(started: Boxes, servers: int, each_has: int) -> list[GpuBox]:
    """Start servers that stand for some boxes each, with empty roots."""
    boxes = []
    for server in range(servers):
        box = started.start(f"gpu-{server:02}-0", max_startups=_WIDE_OPEN)
        boxes += [box, *(started.share(box, f"gpu-{server:02}-{each}") for each in range(1, each_has))]
    return boxes


def _watched(daemon: ours.Daemon, seconds: float) -> tuple[list[float], list[float]]:
    """Return the share of a core in percent, over all of the time, and the resident memory in MB, second by second."""
    sizes = []
    began, cpu = time.monotonic(), daemon.processor_time()
    while (now := time.monotonic()) - began < seconds:
        sizes.append(resident(daemon.pid))
        time.sleep(_SAMPLE)
    return [100 * (daemon.processor_time() - cpu) / (now - began)], sizes
