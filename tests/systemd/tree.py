"""A bare Debian in a directory: built once, kept, and copied for each run."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

SUITE = "bookworm"
_BARE = ("systemd", "systemd-sysv", "dbus", "python3", "ca-certificates")
"""What a bare machine has: it boots, and it has python3. All else is for the commands of a newcomer to bring."""
_LATER = ("python3-venv", "libpam-systemd")
"""What is loaded, not installed: for a newcomer's first command, and for a user's own manager."""
_BUILDING = 900.0


def bare_debian(cache: Path) -> Path:
    """Return the kept tree, built where it is not there yet. It holds what apt would load, for later runs.

    Raises RuntimeError where it can't be built.
    """
    wanted = hashlib.sha256(" ".join((*_BARE, *_LATER)).encode()).hexdigest()[:12]
    tree = cache / f"{SUITE}-{wanted}"
    if tree.is_dir():
        return tree
    cache.mkdir(parents=True, exist_ok=True)
    half = cache / f"{SUITE}-half"
    shutil.rmtree(half, ignore_errors=True)
    _call("debootstrap", "--variant=minbase", f"--include={','.join(_BARE)}", SUITE, str(half))
    _call("chroot", str(half), "apt-get", "update", "-qq")
    _call("chroot", str(half), "apt-get", "install", "-qq", "--download-only", "--no-install-recommends", *_LATER)
    half.rename(tree)
    return tree


def copy_of(tree: Path, place: Path) -> Path:
    """Return a copy of a tree at `place`, owners and modes included."""
    _call("cp", "-a", "--reflink=auto", str(tree), str(place))
    return place


def _call(*command: str) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_BUILDING, env=env
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
