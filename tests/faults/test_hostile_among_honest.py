"""One hostile host beside sixteen honest ones with real OpenSSH, in one daemon: they hardly notice it.

Compared with a control run on the same machine in which another process takes what the hostile host sends, so that it
costs the machine as much in both.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.faults import fired
from support.house import Workstation
from support.lying import add_port, settled
from support.memory import resident
from support.openssh import OpenSSHFactory
from support.surroundings import untouched

pytestmark = [pytest.mark.openssh, pytest.mark.slow, pytest.mark.alone]

HONEST = 16
AT_ONCE = 4
"""Connections that the hostile host has in the first moment, one for each name by which it is known."""
CHECKPOINT = 96 * 1024 * 1024
LOGS = 40
ROUNDS = 3
EVERY = 2.0
"""Seconds after which a quarantined host is tried again here, and attacks again."""
TIMEOUT = 120.0
KEPT = 0.8
QUARANTINED_WITHIN = 10.0
FLAT = 96 * 1024 * 1024


@dataclass
class Measured:
    """One run of the daemon until all honest hosts came home."""

    seconds: float
    peak: int
    """Resident bytes of the daemon at most."""
    quarantines: int
    """How often the hostile host was quarantined."""

    def __str__(self) -> str:
        """Return the figures for a person."""
        return f"{self.seconds:5.1f} s  {self.peak >> 20:4} MiB  {self.quarantines:3} quarantines"


def run_of(number: int) -> RunSpec:
    """Return the run of one honest box."""
    return RunSpec(timestamp=f"2025-08-20_03-31-{number:02}")


def fill(root: Path, number: int) -> None:
    """Write a run with a checkpoint that is worth waiting for, and many small files."""
    writer = RunWriter(root, run_of(number))
    writer.start()
    writer.log_until(LOGS)
    writer.finish()
    final = writer.directory / "training_state" / "step_final"
    (final / "optimizer.pt").write_bytes(b"x" * CHECKPOINT)
    for n in range(LOGS):
        (final / "model" / f"part-{n}.json").write_text(f"{n}" * 1000)
    settled(root)


@contextmanager
def hostile_server(root: Path, output: Path) -> Iterator[int]:
    """Run the hostile host as a process; gives its port. `output` is to hold how long each limit was broken."""
    command = [sys.executable, "-m", "support.hostile_server", str(root)]
    paths = os.pathsep.join(path for path in sys.path if path)
    env = {**os.environ, "PYTHONPATH": paths}
    with output.open("w") as out, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, env=env) as process:
        try:
            while "\n" not in output.read_text():
                assert process.poll() is None
                time.sleep(0.05)
            yield int(output.read_text())
        finally:
            process.kill()


def measure(workstation: Workstation, others: list[Workstation]) -> Measured:
    """Run the daemons, this one until all honest hosts came home."""
    wanted = [Path("training_state/step_final/training_info.json"), Path("logs/train_log.jsonl")]
    names = [run_of(n).name for n in range(HONEST)]
    with ExitStack() as stack:
        for each in (workstation, *others):
            each.settings()
            each.output_file.touch()
        with untouched(workstation):
            began = time.monotonic()
            for other in others:
                stack.enter_context(other.program(quarantine=EVERY))
            daemon = stack.enter_context(workstation.program(quarantine=EVERY))
            found: dict[str, Path] = {}
            while len(found) < HONEST:
                assert daemon.poll() is None
                assert time.monotonic() - began < TIMEOUT
                time.sleep(0.05)
                for name in (name for name in names if name not in found):
                    place = home(workstation, name)
                    if place is not None and all((place / each).exists() for each in wanted):
                        found[name] = place
            seconds = time.monotonic() - began
            peak = resident("VmHWM", daemon.pid)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)
    workstation.audit()
    shutil.rmtree(workstation.data)
    return Measured(seconds, peak, quarantines(workstation.output_file))


def home(workstation: Workstation, name: str) -> Path | None:
    """Return where a run stands at home, once it is known."""
    place = workstation.training(name)
    return place if place.exists() else None


def quarantines(output: Path) -> int:
    """Count how often a hostile host was quarantined, as the daemon said; no honest one ever was, or was lost."""
    told = [json.loads(line) for line in output.read_text().splitlines() if line.startswith("{")]
    hosts = [str(each["host"]) for each in told if each["event"] in {"host.quarantined", "host.lost"}]
    assert all(host.startswith("hostile") for host in hosts), hosts
    return sum(each["event"] == "host.quarantined" for each in told)


def test_one_hostile_host_among_sixteen_honest_ones(tmp_path: Path, openssh_factory: OpenSSHFactory) -> None:
    """Honest hosts keep their throughput, the hostile one is quarantined, memory and the file system stay the same."""
    houses = tmp_path / "houses"
    boxes = Workstation(houses, openssh_factory)
    for n in range(HONEST):
        fill(boxes.add_box(f"gpu-{n:02}").root, n)
    lies, output = tmp_path / "lies", tmp_path / "lasted"
    RunWriter(lies, RunSpec()).start()
    settled(lies)

    def house(name: str, *, honest: bool, hostile: bool) -> Workstation:
        workstation = Workstation(tmp_path / name, openssh_factory)
        workstation.data.parent.mkdir()
        workstation.boxes = dict(boxes.boxes) if honest else {}
        for number in range(AT_ONCE if hostile else 0):
            add_port(workstation, f"hostile-{number}", port, lies)
        return workstation

    shares, with_it, controls = [], [], []
    with hostile_server(lies, output) as port:
        for n in range(ROUNDS):
            drain = house(f"drain-{n}", honest=False, hostile=True)
            controls.append(measure(house(f"control-{n}", honest=True, hostile=False), [drain]))
            with_it.append(measure(house(f"hostile-{n}", honest=True, hostile=True), []))
            shares.append(controls[-1].seconds / with_it[-1].seconds)
    fired(58)
    lasted = [(float(line.split()[0]), line) for line in output.read_text().splitlines()[1:]]
    for control, hostile in zip(controls, with_it, strict=True):
        sys.stdout.write(f"control {control}\nhostile {hostile}\n")
    longest = f"{len(lasted)} hostile connections, the longest after it broke a limit: {max(lasted)}"
    sys.stdout.write(f"kept {statistics.median(shares):.2f}, {longest}\n")
    assert all(each.quarantines > 2 * AT_ONCE for each in with_it)
    # A flood that a busy machine slows down keeps within its share of our time, and breaks no limit until it is faster.
    assert max(seconds for seconds, line in lasted if " lie " in line) < QUARANTINED_WITHIN
    assert statistics.median(shares) >= KEPT
    assert min(hostile.peak - control.peak for control, hostile in zip(controls, with_it, strict=True)) < FLAT
