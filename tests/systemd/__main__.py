"""`make test-systemd`: harvestd on a machine that systemd boots, from a bare Debian to the last check. Needs root.

Exit codes: 0 all hold (or, with --if-possible, this machine can't boot another, and that is said), 1 some don't.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support.openssh import OpenSSHServer, find_sshd
from systemd.checks import CHECKS, Scene
from systemd.machine import Failed, booted
from systemd.tree import bare_debian, copy_of
from systemd.wheelhouse import built_in, wheels_for

_PROGRAMS = {"systemd-nspawn": "systemd-container", "debootstrap": "debootstrap", "nsenter": "util-linux"}
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harvestd-systemd"
_WHEELS = "/wheels"


class CantBoot(Exception):
    """This machine can't boot another, whatever becomes of harvestd."""


def main() -> int:
    """Run all checks in their order; gives the exit code."""
    parser = argparse.ArgumentParser(prog="make test-systemd", description=__doc__)
    parser.add_argument("--cache", type=Path, default=_CACHE, help="where the bare machine is kept")
    parser.add_argument("--if-possible", action="store_true", help="a machine that can't boot another is no failure")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="harvestd-systemd-") as place, scene_in(Path(place), given.cache) as it:
            passed = passed_in(it)
    except CantBoot as why:
        tell(f"systemd: NOT TESTED on this machine: {why}")
        return 0 if given.if_possible else 1
    # Each check goes on from where the one before it left the machine.
    failed = int(passed < len(CHECKS))
    tell(f"{passed} passed, {failed} failed")
    return failed


def passed_in(scene: Scene) -> int:
    """Make the checks in their order, each said on a line, up to the first that fails; gives how many passed."""
    for number, check in enumerate(CHECKS):
        name, began = check.__name__.replace("_", " "), time.monotonic()
        try:
            check(scene)
        except (Failed, OSError, subprocess.TimeoutExpired) as error:
            journal = scene.machine.run("journalctl --unit=harvestd --lines=25 --output=short-monotonic").stdout
            tell(f"systemd: FAILED {name} ({time.monotonic() - began:.1f} s): {error}\n{journal}")
            return number
        tell(f"systemd: ok {name} ({time.monotonic() - began:.1f} s)")
    return len(CHECKS)


@contextmanager
def scene_in(place: Path, cache: Path) -> Iterator[Scene]:
    """Provide a bare machine with nothing but the sources in root's home, and a box beside it; raises `CantBoot`."""
    lacking = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if os.geteuid() != 0:
        raise CantBoot("it needs root")
    if lacking or find_sshd() is None:
        raise CantBoot(f"install {' '.join([*lacking, 'openssh-server'])}")
    began = time.monotonic()
    try:
        bare = bare_debian(cache)
    except RuntimeError as error:
        raise CantBoot(str(error)) from error
    tree = copy_of(bare, place / "tree")
    source, wheel = built_in(place)
    wheels = wheels_for(wheel, cache)
    # tar: before 3.11.4, which Debian 12 is, Python's own has no filter.
    subprocess.run(["tar", "-xf", str(source), "-C", str(tree / "root")], check=True)
    next((tree / "root").glob("harvestd-*")).rename(tree / "root/harvestd")
    root = place / "localfs"
    (root / "second").mkdir(parents=True)
    tell(f"systemd: a bare Debian, the wheel and what it needs are ready ({time.monotonic() - began:.1f} s)")
    # pip looks for nothing but what lies here; the commands are as a newcomer types them.
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": _WHEELS, "DEBIAN_FRONTEND": "noninteractive"}
    with OpenSSHServer(place / "box/sshd") as box, ExitStack() as stack:
        try:
            machine = stack.enter_context(booted(tree, {wheels: _WHEELS}, env))
        except Failed as error:
            raise CantBoot(str(error)) from error
        tell(f"systemd: booted {machine.say('systemctl --version | head -1')}")
        yield Scene(machine, box, root)


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
