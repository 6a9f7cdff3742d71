"""A growing file that begins anew on its host, and a process that dies over the old or the new one."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.data_root import tree
from support.faults import fired
from support.harvest_process import Death, Passes, Task, passes
from support.house import Workstation
from support.openssh import OpenSSHFactory
from support.scripted_box import PATHS, Change, Deed, Host

CONFIG, LOG = list(PATHS)[:2]


@pytest.fixture(scope="module")
def maker() -> Iterator[Passes]:
    """Give the process that makes passes."""
    with passes() as made:
        yield made


@pytest.mark.parametrize("point", ["rename.linked", "versions.moved"])
def test_dies_while_a_log_is_set_aside(tmp_path: Path, maker: Passes, point: str) -> None:
    """Where a move is a link and an unlink, a death between the two leaves two names: the next pass takes one away."""
    workstation = Workstation(tmp_path, OpenSSHFactory(tmp_path / "openssh"))
    workstation.settings()
    host = Host()
    for path in (CONFIG, LOG):
        host.make(Change(Deed.WRITE, path))
    assert not maker.make(Task(workstation.config, host, links_only=True)).troubles
    host.make(Change(Deed.WRITE, LOG))
    killed = maker.make(Task(workstation.config, host, (), Death(point, 1, signal.SIGKILL), links_only=True))
    assert killed.signal == signal.SIGKILL
    fired(31)
    assert not maker.make(Task(workstation.config, host, links_only=True)).troubles
    old, new = host.shown[LOG]
    (here,) = (content for path, content in workstation.filed().items() if path.endswith(".jsonl"))
    assert here == new
    kept = [content for path, content in tree(workstation.state / "versions").items() if ".jsonl" in path]
    assert kept == [old]
    workstation.audit()


@pytest.mark.parametrize("point", ["growing.appended", "growing.synced", "growing.recorded"])
def test_dies_over_the_first_lines_of_a_log_that_begins_anew(tmp_path: Path, maker: Passes, point: str) -> None:
    """What a process that died had appended is known for ours, and does not keep out what the log holds by now."""
    workstation = Workstation(tmp_path, OpenSSHFactory(tmp_path / "openssh"))
    workstation.settings()
    host = Host()
    for path in (CONFIG, LOG):
        host.make(Change(Deed.WRITE, path))
    killed = maker.make(Task(workstation.config, host, (), Death(point, 1, signal.SIGKILL)))
    assert killed.signal == signal.SIGKILL
    fired(31)
    host.make(Change(Deed.WRITE, LOG))
    assert not maker.make(Task(workstation.config, host)).troubles
    (here,) = (content for path, content in workstation.filed().items() if path.endswith(".jsonl"))
    assert here == host.shown[LOG][-1]
    workstation.audit()
