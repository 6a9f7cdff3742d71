"""The faults that harvestd must survive, and the ledger of those that really happened in a test run.

A test calls `fired(case)` at the moment at which it has seen its fault happen; what it proves after that is its own.
Cases that fired are appended to a ledger beside the checkout's other caches, and `python -m support.faults` holds the
ledger against the list: a case that never fired fails the build, whatever its tests say.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

LEDGER: Final = Path(__file__).parents[2] / ".faults"
"""A line for each fault that fired: the case, a tab, the test. `make test` begins it anew."""

CASES: Final[Mapping[int, str]] = MappingProxyType(
    {
        # A. Network and SSH
        1: "a connection is cut early, in the middle, and at the last byte",
        2: "the network swallows everything, silently",
        3: "a host accepts the connection and shows no banner",
        4: "a banner comes a byte at a time",
        5: "a link of a kilobyte a second",
        6: "sshd restarts in the middle of a scan",
        7: "sshd refuses sessions or connections",
        8: "the key is revoked",
        9: "the host key changes under the same identity",
        10: "a new instance has an old one's address",
        11: "a host with neither Python nor SFTP",
        12: "keys are exchanged anew within a large file",
        13: "two hundred hosts come back at once",
        # B. The source changes
        14: "a file grows while it is read",
        15: "a file is truncated while it is read",
        16: "a file is rewritten in place with as many bytes",
        17: "a file vanishes between scan and open",
        18: "a directory becomes a file, and the other way round",
        19: "the box's disk is full: files of no bytes",
        20: "a root is empty after a good scan",
        21: "a part of the tree can't be read",
        22: "a log is rotated or started anew",
        # C. The workstation
        23: "no space left in a write",
        24: "the catalogue can't be written",
        25: "fsync fails",
        26: "no descriptors left",
        27: "the data root is read-only",
        28: "a person deletes or edits a published file",
        29: "a second daemon on the same data root",
        30: "a local path would be too long",
        # D. Crashes
        31: "kill -9 at a named moment of publishing",
        32: "kill -9 at any moment, under load",
        33: "SIGTERM in a transfer",
        34: "SIGTERM twice",
        35: "the catalogue is damaged or gone",
        36: "the catalogue is of a newer version",
        37: "what a transfer would resume was altered",
        38: "the event loop is wedged",
        # E. Configuration and inventory
        39: "a changed configuration is invalid",
        40: "an editor saves a file many times at once",
        41: "the cloud's API fails, or answers nonsense",
        42: "a secret on its way to a log, an error, a report or a repr",
        # H. Hostile boxes
        43: "names that lead elsewhere",
        44: "a NUL in a name",
        45: "names that play with a terminal",
        46: "names that are not UTF-8",
        47: "names too long, directories too deep",
        48: "names that are equal to harvestd's own",
        49: "links that lead out, up, or round",
        50: "devices, sockets and FIFOs",
        51: "modes that give away more than ours",
        52: "sizes and times that lie",
        53: "files, listings and trees without end",
        54: "a sparse file of terabytes",
        55: "answers that are longer, shifted, empty or garbage",
        56: "a configuration that explodes when it is parsed",
        57: "a bit that flips after its hash was announced",
        58: "one hostile host among many honest ones",
        # F. Alarms
        59: "the daemon is killed between an alarm and its delivery",
        60: "a receiver of alarms hangs, fails or is gone",
    }
)
"""Each fault's number and what happens. The numbers are for good; gaps between the groups' letters are none."""


def fired(case: int) -> None:
    """Note that the fault of the test that runs now has happened; raises KeyError for a number that is no case."""
    CASES[case]
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rsplit(" (", 1)[0]
    with LEDGER.open("a") as ledger:
        ledger.write(f"{case}\t{test}\n")


def main() -> int:
    """Print every case with the number of tests in which it fired; 1 where one never did."""
    seen: dict[int, set[str]] = {case: set() for case in CASES}
    for line in LEDGER.read_text().splitlines() if LEDGER.exists() else ():
        number, test = line.split("\t", 1)
        seen[int(number)].add(test)
    for case, tests in seen.items():
        sys.stdout.write(f"{case:3}  {len(tests) or 'never':>5}  {CASES[case]}\n")
    missing = [case for case, tests in seen.items() if not tests]
    never = f"; never: {missing}" if missing else ""
    sys.stdout.write(f"{len(CASES) - len(missing)} of {len(CASES)} faults fired{never}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
