"""One writer for each data root."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harvestd.errors import ExitCode, Fatal
from harvestd.store.lock import DataRootLock, Holder, HolderKind, holder
from harvestd.store.root import DataRoot

HOLD = """
import sys
from pathlib import Path
from harvestd.store.lock import DataRootLock
from harvestd.store.root import DataRoot
with DataRoot.open(Path(sys.argv[1])) as root, DataRootLock.take(root):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_told_who(tmp_path: Path) -> None:
    """The second one ends with exit code 7 and the first one's pid; after a release it succeeds."""
    with DataRoot.open(tmp_path) as first, DataRoot.open(tmp_path) as second:
        with DataRootLock.take(first):
            with pytest.raises(Fatal) as refusal:
                DataRootLock.take(second)
            assert refusal.value.exit_code == ExitCode.LOCKED
            assert str(os.getpid()) in refusal.value.hint
        with DataRootLock.take(second):
            assert holder(first) == Holder(os.getpid(), HolderKind.COMMAND)


def test_asking_takes_nothing(tmp_path: Path) -> None:
    """Who asks for the holder learns of none, and doesn't become one."""
    with DataRoot.open(tmp_path) as root:
        assert holder(root) is None
        for kind in HolderKind:
            with DataRootLock.take(root, kind) as lock:
                assert holder(root) == Holder(os.getpid(), kind)
                lock.leave_in_order()
                assert holder(root) == Holder(0, kind)
            assert holder(root) is None


def test_the_lock_ends_with_its_holders_life(tmp_path: Path) -> None:
    """A lock whose holder was killed is free at once."""
    with DataRoot.open(tmp_path) as root:
        held = subprocess.Popen(
            [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with held:
            assert held.stdout is not None
            assert held.stdout.readline() == "held\n"
            assert holder(root) == Holder(held.pid, HolderKind.COMMAND)
            with pytest.raises(Fatal):
                DataRootLock.take(root)
            held.kill()
            assert held.wait(10) == -signal.SIGKILL
        with DataRootLock.take(root):
            assert holder(root) == Holder(os.getpid(), HolderKind.COMMAND)


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    """A link in place of the lock is refused, and what it points at keeps its content."""
    (tmp_path / "mine").write_text("mine")
    with DataRoot.open(tmp_path / "data") as root:
        (tmp_path / "data" / ".harvestd" / "lock").symlink_to(tmp_path / "mine")
        with pytest.raises(Exception, match="no regular file"):
            DataRootLock.take(root)
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("written", [b"               4711\n", b"               4711\n           overseer\n"])
def test_a_holder_of_another_version_counts_as_a_daemon(tmp_path: Path, written: bytes) -> None:
    """An older harvestd writes its pid alone, a newer one may have kinds that are not known here."""
    with DataRoot.open(tmp_path) as root, DataRootLock.take(root):
        (tmp_path / ".harvestd" / "lock").write_bytes(written)
        assert holder(root) == Holder(4711, HolderKind.DAEMON)
