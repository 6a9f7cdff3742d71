"""harvestd as it is installed: its console script, with a configuration and a data root of its own.

Its environment has nothing of the benchmarks in it, and its modules are compiled as an installed program's are. What it
brought home is compared with what is on the box after every run: a quick wrong answer is no result.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

from bench import trees
from bench.boxes import GpuBox
from bench.timing import Took, Unmeasurable, processor_time, timed

TIMEOUT = 300.0
"""Seconds for anything of ours."""
_STEP = 0.002
_NO_DAEMON = frozenset({0, 7})


@cache
def environment() -> dict[str, str]:
    """Return the environment of all that we start."""
    foreign = ("HARVESTD_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept.pop("SSH_AUTH_SOCK", None)
    return kept


@dataclass(frozen=True, slots=True)
class Program:
    """An installed harvestd; by default the one next to this Python."""

    path: Path = field(default_factory=lambda: Path(sys.executable).with_name("harvestd"))

    def timed(self, *arguments: str | Path, expected: frozenset[int] = frozenset({0})) -> Took:
        """Time a command to its end; raises `Unmeasurable` where it fails."""
        return timed([str(self.path), *map(str, arguments)], deadline=TIMEOUT, env=environment(), expected=expected)

    def imports(self) -> Took:
        """Time Python's own start and the modules of `once`, by the same door: no transfer can be quicker than that."""
        command = [str(self.path.with_name("python")), "-c", _IMPORTS]
        return timed(command, deadline=TIMEOUT, env=environment())


IMPORTED = ("cli.commands.once", "catalogue.open", "harvest.host.executor", "convention.metadata.yaml")
"""What `once` imports, by way of these modules."""
_IMPORTS = f"""
from harvestd.cli.lazy_import import imported
for module in {IMPORTED}:
    imported(f"harvestd.{{module}}")
"""


class Workstation:
    """A configuration for some boxes, and the data root that it names."""

    def __init__(
        self, program: Program, directory: Path, boxes: Sequence[GpuBox], **sections: dict[str, object]
    ) -> None:
        """`sections`: keys of the configuration that are not at their default."""
        self.program = program
        self.directory = directory
        self.home = directory / "home"
        self.config = directory / "harvestd.toml"
        self._boxes = tuple(boxes)
        self._sections = sections
        directory.mkdir(parents=True, exist_ok=True)
        self._write()

    @property
    def socket(self) -> Path:
        """The Unix socket of a daemon's API."""
        return self.home / ".harvestd" / "api.sock"

    def add(self, box: GpuBox) -> None:
        """Add a box to the configuration, which a running daemon follows."""
        self._boxes = (*self._boxes, box)
        self._write()

    def _write(self) -> None:
        self.config.write_text("\n".join(self._lines()) + "\n")

    def _lines(self) -> Iterator[str]:
        # Room enough is a matter of the machine, not of what is measured; nor is what others don't do, drawing.
        tables: dict[str, dict[str, object]] = {
            "ssh": {"agent": False},
            "limits": {"free_space": "64MiB"},
            "report": {"pictures": False},
        }
        for name, keys in self._sections.items():
            tables.setdefault(name, {}).update(keys)
        yield from ("version = 1", f'data_root = "{self.home}"')
        for name, keys in tables.items():
            yield f"[{name}]"
            # JSON's strings, numbers and booleans are TOML's as well.
            yield from (f"{key} = {json.dumps(value)}" for key, value in keys.items())
        for box in self._boxes:
            yield from ("[[hosts]]", f'name = "{box.name}"', f'address = "{box.server.address}"', f"port = {box.port}")
            yield from (f'user = "{box.user}"', f'identity_files = ["{box.key}"]')
            yield from (f'roots = ["{box.root}"]', 'hardware = "h100"')

    def once(self) -> Took:
        """Time `harvestd once` onto whatever is at home, and compare what is there afterwards."""
        took = self.program.timed("-c", self.config, "once")
        self.compare()
        return took

    def status(self) -> Took:
        """Time `harvestd status`, from the catalogue: no daemon runs, and it says so by its exit code."""
        return self.program.timed("-c", self.config, "status", expected=_NO_DAEMON)

    def compare(self) -> None:
        """Raise `Unmeasurable` where home and boxes don't have the same files of the same sizes in all."""
        there = [trees.content(box.root) for box in self._boxes]
        wanted = trees.Content(sum(each.files for each in there), sum(each.size for each in there))
        here = trees.content(self.home)
        if here != wanted:
            raise Unmeasurable(f"the boxes have {wanted}, home has {here}")

    def evals_of(self, run: int, dataset: str) -> Path:
        """Return where the evals of a run lie at home, by those of one dataset that are there already."""
        name = f"{trees.run_name(run)}_{dataset}"
        found = next(self.home.glob(f"*/eval_results/{name}"), None)
        if found is None:
            raise Unmeasurable(f"{name} is not at home")
        return found.parent

    def log_size(self) -> int:
        """Return how many bytes of the only run's log are at home."""
        return sum(log.stat().st_size for log in self.home.glob("*/training_run/logs/train_log.jsonl"))

    def clear(self) -> None:
        """Remove what is at home."""
        trees.remove(self.home)


class Daemon(AbstractContextManager["Daemon"]):
    """`harvestd run` on a workstation, and what it says."""

    def __init__(self, workstation: Workstation) -> None:
        self.workstation = workstation
        self._log = workstation.directory / "events.jsonl"
        self._read = 0
        self._events: list[dict[str, Any]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        config = str(self.workstation.config)
        program = str(self.workstation.program.path)
        command = [program, "-c", config, "--log-level", "debug", "--log-format", "json", "run"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment()
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)

    @property
    def pid(self) -> int:
        """The daemon's process id; raises `Unmeasurable` with its last words where it ended."""
        if self._process is None or self._process.poll() is not None:
            raise Unmeasurable(f"the daemon has ended: {self._log.read_text(errors='replace')[-2000:]}")
        return self._process.pid

    def age(self) -> float:
        """Return the seconds since the start of its process."""
        return time.monotonic() - self._started

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return all events called `name` until now."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            output = log.read()
        whole = output[: output.rfind(b"\n") + 1]
        self._read += len(whole)
        self._events += [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]
        return [event for event in self._events if event.get("event") == name]

    def look_now(self) -> None:
        """Have all hosts be looked at."""
        os.kill(self.pid, signal.SIGUSR1)

    def wait_for(self, name: str, number: int, timeout: float = 30.0) -> dict[str, Any]:
        """Return the event called `name` that came after `number` others; raises `Unmeasurable` where it does not."""
        give_up = time.monotonic() + timeout
        while len(found := self.events(name)) <= number:
            if time.monotonic() > give_up:
                raise Unmeasurable(f"the daemon did not say {name} for the {number + 1}. time in {timeout:.0f} s")
            _ = self.pid
            time.sleep(_STEP)
        return found[number]

    def wait_until_all_is_here(self, timeout: float = TIMEOUT) -> None:
        """Wait until the daemon has brought home what the boxes have."""
        give_up = time.monotonic() + timeout
        while True:
            started = time.monotonic()
            try:
                self.workstation.compare()
            except (FileNotFoundError, Unmeasurable) as e:
                _ = self.pid
                if started > give_up:
                    raise Unmeasurable(f"the daemon did not bring everything home in {timeout:.0f} s: {e}") from e
            else:
                return
            # Looking takes less than a fifth of a core from the daemon.
            time.sleep(max(0.2, 4 * (time.monotonic() - started)))

    def processor_time(self) -> float:
        """Return the seconds of processor time that it has had."""
        return processor_time(self.pid)


def wait_for_files(paths: Sequence[Path], timeout: float = TIMEOUT) -> float:
    """Wait until all of these are there; gives the moment (time.monotonic()) when the last one was seen."""
    give_up = time.monotonic() + timeout
    missing = list(paths)
    while missing:
        # Only the last one that is not there yet is looked for: hardly any work beside what is measured.
        if missing[-1].exists():
            missing.pop()
        elif time.monotonic() > give_up:
            raise Unmeasurable(f"{len(missing)} of {len(paths)} files did not come home in {timeout:.0f} s")
        else:
            time.sleep(_STEP)
    return time.monotonic()
