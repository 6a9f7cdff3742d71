"""The soak: `make soak MINUTES=30`. The daemon as a process, real boxes that never rest, and a table of what it holds.

Exit code 0: every count is flat, the daemon followed to the end, and the data root passes its audit.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from soak.lives import Life
from soak.table import HEAD, as_text, rises, rows_of
from support.house import Workstation
from support.openssh import OpenSSHFactory

_ROWS = 60
_ROWS = 12
"""In a short trial."""
_LONGEST_ROW = 30.0
"""Seconds."""
_CATCHING_UP = 90.0
"""Seconds for the daemon to bring home what was written last."""
_STOPPING = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak for as long as was asked; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (30)")
    parser.add_argument("--boxes", type=int, default=4, help="how many (4)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the boxes' lives (the time)")
    options = parser.parse_args(arguments)
    # So that whatever ends it, servers, daemon and directories end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _say(f"{options.boxes} boxes, {options.minutes:g} minutes, --seed {options.seed}")
    with (
        tempfile.TemporaryDirectory(prefix="harvestd-soak-") as place,
        closing(OpenSSHFactory(Path(place) / "openssh")) as servers,
    ):
        workstation = Workstation(Path(place), servers)
        lives = [Life(workstation.add_box(f"gpu-{n}"), n, options.seed) for n in range(options.boxes)]
        workstation.settings(poll={"interval": "1s"})
        samples = Path(place) / "samples"
        with _daemon(workstation, samples) as daemon:
            _live(lives, samples, options.minutes * 60)
            behind = _behind(workstation, lives)
            daemon.terminate()
            code = daemon.wait(_STOPPING)
        _say(
            "done: "
            + ", ".join(f"{what} {n}" for what, n in sum((liveness.done for liveness in lives), Counter()).items())
        )
        good = _judge(_read(samples), _stretch(options.minutes * 60))
        for run in behind:
            _say(f"NOT AT HOME: {run}")
        _say(f"exit code of the daemon: {code}")
        workstation.audit()
        _say("the data root passes its audit")
    return 0 if good and not behind and code == 0 else 1


@contextmanager
def _daemon(workstation: Workstation, samples: Path) -> Iterator[subprocess.Popen[bytes]]:
    paths = os.pathsep.join(path for path in sys.path if path)
    with workstation.output_file.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "soak.watched", str(workstation.config), str(samples)],
            stdout=out,
            stderr=subprocess.STDOUT,
            # As in the units for systemd.
            env={**os.environ, "PYTHONPATH": paths, "MALLOC_ARENA_MAX": "2"},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _live(lives: list[Life], samples: Path, seconds: float) -> None:
    """Let the boxes live, and say each row when it is full."""
    _say(HEAD)
    began, told = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        for liveness in lives:
            liveness.step()
        time.sleep(1)
        found = _read(samples)
        for row in list(rows_of(found, _stretch(seconds)))[told:-1] if found else ():
            _say(as_text(row))
            told += 1


def _behind(workstation: Workstation, lives: list[Life]) -> list[str]:
    """Let the boxes rest, and give the runs that are not at home, as they are there, when the patience ends."""
    for liveness in lives:
        liveness.settle()
    give_up = time.monotonic() + _CATCHING_UP
    while behind := [liveness.run.run.name for liveness in lives if not workstation.follows(liveness.run)()]:
        if time.monotonic() > give_up:
            break
        time.sleep(0.5)
    return behind


def _judge(samples: list[dict[str, float]], seconds: float) -> bool:
    # The last row may be short, and is of boxes that rest.
    rows = list(rows_of(samples, seconds))[:-1]
    found = rises(rows)
    for each in found:
        _say(str(each))
    return all(each.flat for each in found)


def _stretch(seconds: float) -> float:
    return min(_LONGEST_ROW, seconds / _ROWS)


def _read(samples: Path) -> list[dict[str, float]]:
    lines = samples.read_text().splitlines(keepends=True) if samples.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
