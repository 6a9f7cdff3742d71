"""The benchmarks: `make bench`, or `PYTHONPATH=tests python -m bench --runs 3 --only cold,warm`.

Prints a table of ratios against the bars, and writes the same with all figures and the conditions as JSON. A scenario
that could not be measured is said aloud, and makes the exit code 1; a bar that is missed does not.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench import (
    answers,
    changes,
    curves,
    fleets,
    freshness,
    history,
    large_files,
    peers,
    responding,
    resting,
    small_files,
    standing,
    trees,
)
from bench.laboratory import Laboratory, conditions
from bench.ours import Program
from bench.table import Row, as_markdown
from bench.timing import Unmeasurable

# All is made in directories of our own below these.
_RAM = Path("/dev/shm")  # noqa: S108  (as above)
_DISK = Path("/var/tmp")  # noqa: S108  (as above)
Scenario = Callable[[Laboratory], Iterator[Row]]
SCENARIOS: Mapping[str, Scenario] = {
    "cold": small_files.far,
    "near": small_files.near,
    "disk": small_files.onto_disk,
    "warm": standing.new_files,
    "unchanged": standing.unchanged,
    "fresh": freshness.quiet,
    "busy": freshness.beside_a_checkpoint,
    "large": large_files.near,
    "large-far": large_files.far,
    "many": fleets.cold,
    "idle": fleets.idle,
    "black-holes": fleets.black_holes,
    "growing": changes.growing,
    "one-by-one": changes.one_by_one,
    "chown": changes.chown,
    "history": history.history,
    "api-first-look": responding.first_look,
    "verdict": responding.verdict,
    "probe": resting.probe,
    "series": curves.series,
    "commands": answers.commands,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; gives the exit code."""
    options = _parser().parse_args(arguments)
    # So that whatever ends it, servers, daemons and directories end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    for missing in (name for name in peers.ALL if not peers.has(name)):
        _say(f"{missing} is not here and is left out: install it for the whole table")
    with ExitStack() as stack:
        ram, disk = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harvestd-bench-", dir=place)))
            for place in (options.ram, options.disk)
        )
        program = Program(options.harvestd.absolute())
        laboratory = Laboratory(ram, disk, program, options.runs, options.scale, options.minutes, options.timeout)
        return _measure(laboratory, options.only, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="harvestd beside rsync, scp, lftp and rclone.")
    parser.add_argument("--runs", type=int, default=5, help="how often each thing is measured (5)")
    parser.add_argument("--only", type=_names, default=tuple(SCENARIOS), help=f"some of: {','.join(SCENARIOS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: a trial with fewer and smaller files")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long idle processes are watched (2)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for a peer that takes minutes (60)")
    parser.add_argument("--ram", type=Path, default=_RAM, help=f"a directory on a RAM disk ({_RAM})")
    parser.add_argument("--disk", type=Path, default=_DISK, help=f"a directory on a disk ({_DISK})")
    parser.add_argument("--harvestd", type=Path, default=Program().path, help="another one than that of this Python")
    parser.add_argument("--json", type=Path, default=Path("bench-results.json"), help="(bench-results.json)")
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, text.split(",")))
    unknown = sorted(set(names) - set(SCENARIOS))
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}: choose from {', '.join(SCENARIOS)}")
    return names


def _measure(laboratory: Laboratory, names: Sequence[str], results: Path) -> int:
    surroundings = conditions(laboratory)
    rows: list[Row] = []
    failures: dict[str, str] = {}
    for name in names:
        started = time.monotonic()
        _say(f"{name} …")
        try:
            for row in _rows(name, laboratory):
                rows.append(row)
                _say(as_markdown([row]).splitlines()[-1])
        except Unmeasurable as e:
            failures[name] = str(e)
            _say(f"{name} could not be measured: {e}")
        _say(f"{name} took {time.monotonic() - started:.0f} s")
        document = {"conditions": surroundings, "rows": [row.document for row in rows], "failures": failures}
        # After each scenario: an interrupted run keeps what it has.
        results.write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(as_markdown(rows))
    sys.stdout.writelines(f"not measured: {name}: {reason}\n" for name, reason in failures.items())
    return 1 if failures else 0


def _rows(name: str, laboratory: Laboratory) -> Iterator[Row]:
    """Measure one scenario in directories that nobody has used before."""
    own = replace(laboratory, ram=laboratory.ram / name, disk=laboratory.disk / name)
    for place in (own.ram, own.disk):
        place.mkdir()
    try:
        yield from SCENARIOS[name](own)
    finally:
        for place in (own.ram, own.disk):
            trees.remove(place)


def _say(words: str) -> None:
    sys.stderr.write(f"bench: {words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
