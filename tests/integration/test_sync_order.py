"""What the kernel is asked for, in which order: seen by strace, which believes nobody."""

import re
import sys
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from support.house import Workstation
from support.strace import traced

pytestmark = pytest.mark.openssh

RUN = RunSpec()
LEAVES = 40
_QUOTED = re.compile(r'"([^"]*)"')
_HANDLE = re.compile(r"^\d+<([^>]*)>")


def test_every_file_is_synced_before_its_rename_and_its_directory_after(workstation: Workstation) -> None:
    """Content is on disk before it gets its name, the name before the row: for each of many files that share syncs."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    for step in range(1, LEAVES + 1):
        evals.evaluate(step)
    workstation.settings()
    harvestd = [sys.executable, "-m", "harvestd", "once", "-c", str(workstation.config)]
    wanted = "fsync,fdatasync,rename,renameat,renameat2"
    synced: set[str] = set()
    waiting: set[str] = set()
    published = 0
    for call in traced(harvestd, wanted, workstation.config.with_name("trace")):
        arguments = call.arguments
        if not call.succeeded:
            continue
        if call.name in {"fsync", "fdatasync"}:
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
