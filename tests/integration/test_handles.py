"""Everything below the data root is reached by the handle of its directory, and never through a link."""

import os
import re
import sys

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from support.house import Workstation
from support.strace import Call, traced

pytestmark = pytest.mark.openssh

_HANDLE = re.compile(r'(\d+|AT_FDCWD)<([^>]*)>, "((?:[^"\\]|\\.)*)"')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LOOKS = {"newfstatat", "fstatat64", "statx", "faccessat2", "fchmodat", "fchownat"}


def _told(workstation: Workstation) -> list[Call]:
    """Make a pass, and give all its calls that name a file."""
    harvestd = [sys.executable, "-m", "harvestd", "once", "-c", str(workstation.config)]
    return traced(harvestd, "%file", workstation.config.with_name("trace"))


def _by_handle(calls: list[Call], data: str) -> tuple[list[Call], int]:
    """Return the calls that go below the data root in another way than by handle, and how many went by one."""
    # SQLite opens its own files, by the path that it was given; what is asked of the root itself is the operator's.
    own = re.compile(re.escape(data) + r"(/\.harvestd(/catalogue\.sqlite(-\w+)?)?)?")
    wrong, good = [], 0
    for call in calls:
        handles = _HANDLE.findall(call.arguments)
        below = [name for number, place, name in handles if number != "AT_FDCWD" and f"{place}/".startswith(f"{data}/")]
        for name in below:
            follows = call.name == "openat" and "O_NOFOLLOW" not in call.arguments
            follows |= call.name in _LOOKS and not re.search("NOFOLLOW|AT_EMPTY_PATH|AT_EACCESS", call.arguments)
            if "/" in name or name == ".." or follows:
                wrong.append(call)
        good += len(below)
        named = [name for name in _QUOTED.findall(call.arguments) if f"{name}/".startswith(f"{data}/")]
        wrong += [call for name in named if not own.fullmatch(name)]
    return wrong, good


def test_every_path_below_the_data_root_is_a_handle_and_a_name(workstation: Workstation) -> None:
    """New files, growing ones, replaced ones and versions: a directory that becomes a link leads nowhere."""
    box = workstation.add_box()
    run = RunWriter(box.root, RunSpec())
    run.start()
    run.log_until(8)
    evals = evals_of_run(box.root, EvalSpec(run.run, questions=5))
    evals.write_config()
    evals.evaluate(4)
    workstation.settings()
    first = _told(workstation)
    os.truncate(run.train_log, 0)
    run.log_until(12)
    evals.evaluate(8)
    run.finish()
    (run.directory / "config.yaml").write_text("changed: true\n")
    second = _told(workstation)
    for calls, least in ((first, 40), (second, 40)):
        wrong, good = _by_handle(calls, str(workstation.data))
        assert not wrong, wrong[:5]
        assert good >= least, f"strace saw only {good} calls"
    assert list((workstation.data / ".harvestd/versions").rglob("train_log.jsonl/*"))
    workstation.audit()
