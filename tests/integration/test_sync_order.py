"""What the kernel is asked for, in which order: seen by strace, which believes nobody."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from support.house import Workstation

pytestmark = pytest.mark.openssh

RUN = RunSpec()
LEAVES = 40
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_QUOTED = re.compile(r'"([^"]*)"')
_HANDLE = re.compile(r"^\d+<([^>]*)>")


def require_strace() -> str:
    """Give strace's path; without it skip, or fail where CI is set."""
    found = shutil.which("strace")
    if found is None and os.environ.get("CI"):
        pytest.fail("this test needs strace: install it with `apt-get install strace`")
    if found is None:
        pytest.skip("this test needs strace: install it with `apt-get install strace`")
    return found


def calls(trace: str) -> Iterator[tuple[str, str]]:
    """Give each call that succeeded with its arguments, in the order in which they returned."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        if line.endswith("<unfinished ...>"):
            found = _CALL.match(line)
            assert found, line
            begun[found[1]] = found[3].removesuffix("<unfinished ...>")
            continue
        resumed = _RESUMED.match(line)
        found = resumed or _CALL.match(line)
        if found and line.rstrip().endswith("= 0"):
            yield found[2], begun.get(found[1], "") + found[3] if resumed else found[3]


def test_every_file_is_synced_before_its_rename_and_its_directory_after(workstation: Workstation) -> None:
    """Content is on disk before it gets its name, the name before the row: for each of many files that share syncs."""
    strace = require_strace()
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    for step in range(1, LEAVES + 1):
        evals.evaluate(step)
    workstation.settings()
    told = workstation.config.with_name("trace")
    command = [
        strace,
        "-f",
        "-y",
        "-s",
        "4096",
        "-e",
        "trace=fsync,fdatasync,rename,renameat,renameat2",
        "-o",
        str(told),
    ]
    harvestd = [sys.executable, "-m", "harvestd", "once", "-c", str(workstation.config)]
    subprocess.run([*command, *harvestd], check=True, timeout=120, capture_output=True)
    synced: set[str] = set()
    waiting: set[str] = set()
    published = 0
    for call, arguments in calls(told.read_text()):
        if call in {"fsync", "fdatasync"}:
            handle = _HANDLE.match(arguments)
            assert handle, arguments
            synced.add(Path(handle[1]).name)
            waiting.discard(handle[1])
        elif ".harvestd/staging" in arguments:
            source, target = _QUOTED.findall(arguments)[:2]
            assert source in synced, f"{target} was renamed before it was synced"
            directory = re.findall(r"\d+<([^>]*)>", arguments)[1]
            waiting.add(directory)
            published += target not in {"manifest.json", "sentinel.json"}
    assert published >= 2 * LEAVES
    unsynced = {each for each in waiting if not each.endswith(".harvestd")}
    assert not unsynced, f"never synced after something was put there: {sorted(unsynced)[:3]}"
