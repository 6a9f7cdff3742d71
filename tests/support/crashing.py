"""Work on a data root that kills itself at a named moment: the scenarios of the crash tests, as a program.

`python -m support.crashing ROOT SCENARIO POINT TURN MEANS` runs one of the functions below in the data root ROOT and
sends itself SIGKILL when POINT is reached for the TURN-th time; MEANS is "renameat2" or "links only".
"""

import hashlib
import os
import signal
import sys
from itertools import count
from pathlib import Path

from harvestd import failpoints
from harvestd.convention.paths import LocalPath
from harvestd.store import walking
from harvestd.store.growing import GrowingFile
from harvestd.store.publish import Publication, Result, publish
from harvestd.store.root import DataRoot
from harvestd.store.versions import begin_anew, set_aside
from support.data_root import staged

FIRST, SECOND, MARKER = LocalPath.parse("exp/leaf/a"), LocalPath.parse("exp/other/b"), LocalPath.parse("exp/leaf/m")
OLD = {path: b"old " + path.name.encode() * 70_000 for path in (FIRST, SECOND, MARKER)}
NEW = {path: b"new " + content for path, content in OLD.items()}


def publish_first(root: DataRoot) -> list[Result]:
    """Publish the group for the first time."""
    group = [Publication(staged(root, OLD[path]), path) for path in OLD]
    return [outcome.result for outcome in publish(root, group)]


def publish_again(root: DataRoot) -> list[Result]:
    """Publish the group's next version over the first."""
    group = [Publication(staged(root, NEW[path]), path, hashlib.sha256(OLD[path]).hexdigest()) for path in OLD]
    return [outcome.result for outcome in publish(root, group)]


def grow(root: DataRoot) -> None:
    """Append two lines to a growing file, syncing each."""
    with GrowingFile.open(root, FIRST, 4) as growing:
        for line in (b"two\n", b"three\n"):
            growing.append(line)
            growing.sync()


def put_aside(root: DataRoot) -> None:
    """Move a file away, as when it was found damaged."""
    set_aside(root, FIRST)


def start_over(root: DataRoot) -> None:
    """Begin a growing file anew, as when its source was replaced."""
    begin_anew(root, FIRST)


SCENARIOS = {scenario.__name__: scenario for scenario in (publish_first, publish_again, grow, put_aside, start_over)}


def main(place: str, scenario: str, point: str, turn: str, means: str) -> None:
    """Run `scenario`, to be killed at the moment given."""
    if means == "links only":
        walking.renameat2 = None
    turns = count(1)

    def die() -> None:
        if next(turns) == int(turn):
            os.kill(os.getpid(), signal.SIGKILL)

    with failpoints.armed(point, die), DataRoot.open(Path(place)) as root:
        SCENARIOS[scenario](root)


if __name__ == "__main__":
    main(*sys.argv[1:])
