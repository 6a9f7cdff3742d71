"""What the kernel is asked for, in which order: seen by strace, which believes nobody."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """One call, with descriptors followed by what they stand for, as in `3</tmp>`."""

    name: str
    arguments: str
    """What stands between the parentheses, and the result behind them."""

    @property
    def succeeded(self) -> bool:
        """Whether the answer was 0."""
        return self.arguments.rstrip().endswith("= 0")


def require_strace() -> str:
    """Return strace's path; without it skip, or fail where CI is set."""
    found = shutil.which("strace")
    if found is None and os.environ.get("CI"):
        pytest.fail("this test needs strace: install it with `apt-get install strace`")
    if found is None:
        pytest.skip("this test needs strace: install it with `apt-get install strace`")
    return found


def traced(command: Sequence[str], calls: str, told: Path) -> list[Call]:
    """Run a command, which must succeed, and give the `calls` (strace's words) of all its threads as they returned.

    `told` is a file for strace to write to.
    """
    strace = [require_strace(), "-f", "-y", "-s", "4096", "-e", f"trace={calls}", "-o", str(told)]
    subprocess.run([*strace, *command], check=True, timeout=120, capture_output=True)
    return list(_calls(told.read_text()))


def _calls(trace: str) -> Iterator[Call]:
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        if line.endswith("<unfinished ...>"):
            found = _CALL.match(line)
            assert found, line
            begun[found[1]] = found[3].removesuffix("<unfinished ...>")
            continue
        resumed = _RESUMED.match(line)
        found = resumed or _CALL.match(line)
        if found:
            yield Call(found[2], begun.pop(found[1], "") + found[3] if resumed else found[3])
