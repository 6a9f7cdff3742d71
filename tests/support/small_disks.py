"""Small real file systems, made for one test: what runs full or can't be written there is told by the kernel itself."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_DEADLINE = 30.0
_BLOCK = 4096


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    """Mount a file system of `size` bytes at `path` for the body; its content is gone afterwards.

    Where nothing may be mounted the test is skipped, or fails where CI is set: there nothing may be skipped.
    """
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "harvestd-test", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_DEADLINE)
    if done.returncode:
        reason = f"this test needs to mount a file system, as root: {done.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield path
    finally:
        # Lazily: a process that a failed test left behind must not keep the mount for good.
        subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=_DEADLINE)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Let nobody write to the file system mounted at `path` for the body, root neither."""
    subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True, timeout=_DEADLINE)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(path)], check=True, timeout=_DEADLINE)


def free_on(path: Path) -> int:
    """Return the bytes that are free on a file system."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def fill(ballast: Path, leaving: int = 0) -> None:
    """Write to `ballast` until no more than `leaving` bytes are free around it; remove it to make room again."""
    with ballast.open("ab", buffering=0) as file:
        try:
            while (room := free_on(ballast.parent) - leaving) > 0:
                file.write(bytes(min(room, 64 * _BLOCK)))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
