"""A whole look, for a verdict: every entry is looked at anew, whatever look was asked for just before."""

from pathlib import Path

import pytest

from contract.connected import box_at, names, sftp_program, training, watching
from harvestd.remote.probe.process import ProbeProcess
from harvestd.remote.probe.session import Mailbox
from support.openssh import OpenSSHFactory

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with its training tree and one file."""
    (tmp_path / "localfs/training_runs").mkdir(parents=True)
    (tmp_path / "localfs/training_runs/a").write_bytes(b"content")
    return tmp_path / "localfs"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what is asked of programs after their start: of each look, whether it is to be a whole one."""
    asked: list[object] = []
    ask = ProbeProcess.send

    def listen(process: ProbeProcess, request: dict[str, object], box: Mailbox) -> None:
        if request["do"] == "scan":
            asked.append(request["whole"])
        ask(process, request, box)

    monkeypatch.setattr(ProbeProcess, "send", listen)
    return asked


async def test_a_whole_look_is_asked_for(openssh_factory: OpenSSHFactory, root: Path, looks: list[object]) -> None:
    """Looks in passing are light ones; a whole one shows all, and what is new since the look before it."""
    async with box_at(openssh_factory(), watching(training(root))) as box:
        await box.scan()
        assert not (await box.scan()).changed
        assert looks == [False]
        (root / "training_runs/b").write_bytes(b"content")
        snapshot = await box.scan_whole()
        assert names(snapshot) == {"a", "b"}
        assert snapshot.changed
        assert not (await box.scan_whole()).changed
        assert not (await box.scan()).changed
    assert looks == [False, True, True, False]


async def test_a_look_that_was_asked_for_ahead_is_no_whole_one(
    openssh_factory: OpenSSHFactory, root: Path, looks: list[object]
) -> None:
    """What was asked for before is taken in, and the whole look made none the less; nothing new is missed."""
    async with box_at(openssh_factory(), watching(training(root))) as box:
        await box.scan()
        (root / "training_runs/b").write_bytes(b"content")
        box.scan_ahead()
        snapshot = await box.scan_whole()
        assert looks == [False, True]
        assert names(snapshot) == {"a", "b"}
        assert snapshot.changed
        assert not (await box.scan()).changed


async def test_sftp_knows_no_other_look(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """A box without the program shows everything at each look."""
    sftp_program()
    async with box_at(openssh_factory(sftp_only=True), watching(training(root))) as box:
        assert box.method == "sftp"
        assert names(await box.scan_whole()) == {"a"}
