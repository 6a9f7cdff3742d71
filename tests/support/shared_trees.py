"""What several boxes show at one path: one directory, which the second one sees late, or a disk of each one's own.

A bind mount shows everything at once. This is a FUSE mount that keeps attributes and names for a while, in a mount
namespace of the box's own, so that both boxes see the directory at the same path.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

STALE = 2.0
"""Seconds for which a box believes what it saw."""
_HINT = "this test needs bindfs, unshare, root and /dev/fuse: install it with `apt-get install bindfs`"


def own_view(disk: Path, place: Path) -> Sequence[str]:
    """Return the program within which a box sees `disk` at `place`. Skip without it, or fail in CI."""
    if not shutil.which("unshare") or os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail(_HINT)
        pytest.skip(_HINT)
    mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, str(disk), str(place)]


def late_view(directory: Path) -> Sequence[str]:
    """Return the program within which a box sees `directory` late. Skip without bindfs, or fail in CI."""
    there = shutil.which("bindfs") and shutil.which("unshare") and os.access("/dev/fuse", os.R_OK | os.W_OK)
    if not there or os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail(_HINT)
        pytest.skip(_HINT)
    options = f"attr_timeout={STALE},entry_timeout={STALE},negative_timeout={STALE}"
    mount = f'bindfs -o {options} "$0" "$0" && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, str(directory)]
