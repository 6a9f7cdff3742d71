"""A growing file that begins anew on its host, and a process that dies over the old or the new one."""

import copy
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
    """Provide the process that makes passes."""
    with passes() as made:
        yield made


@pytest.mark.parametrize("links_only", [False, True])
@pytest.mark.parametrize("point", ["anew.kept", "anew.begun"])
def test_dies_while_a_log_makes_room(tmp_path: Path, maker: Passes, point: str, *, links_only: bool) -> None:
    """A death between the old log and the new one: what is on record stands there, even where the source is gone."""
    workstation = Workstation(tmp_path, OpenSSHFactory(tmp_path / "openssh"))
    workstation.settings()
    host = Host()
    for path in (CONFIG, LOG):
        host.make(Change(Deed.WRITE, path))
    assert not maker.make(Task(workstation.config, host, links_only=links_only)).failures
    host.make(Change(Deed.WRITE, LOG))
    killed = maker.make(Task(workstation.config, host, (), Death(point, 1, signal.SIGKILL), links_only=links_only))
    assert killed.signal == signal.SIGKILL
    fired(31)
    gone = copy.deepcopy(host)
    gone.make(Change(Deed.ROTATE, LOG))
    assert not maker.make(Task(workstation.config, gone, links_only=links_only)).failures
    workstation.audit()
    assert not maker.make(Task(workstation.config, host, links_only=links_only)).failures
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
    assert not maker.make(Task(workstation.config, host)).failures
    (here,) = (content for path, content in workstation.filed().items() if path.endswith(".jsonl"))
    assert here == host.shown[LOG][-1]
    workstation.audit()
