"""Jump hosts and configuration files, against real OpenSSH."""

import socket
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from contract.connected import Pins, fill, outcome, read, target_for, training, wanted, watching
from harvestd.errors import HostQuarantined
from harvestd.remote.api import Limits
from harvestd.remote.open import open_box
from harvestd.remote.ssh.connect import connect
from harvestd.remote.ssh.errors import HostKeyChanged, Unreachable
from support.openssh import OpenSSHFactory

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def test_jump_host(openssh_factory: OpenSSHFactory) -> None:
    """Through a jump host both keys are kept, each under its own identity."""
    box, gate, pins = openssh_factory("box"), openssh_factory("gate"), Pins()
    target = target_for(box, proxy_jump=f"{gate.user}@127.0.0.1:{gate.port}")
    assert await outcome(target, pins) is None
    assert set(pins.kept) == {"box", f"jump:127.0.0.1:{gate.port}"}
    assert "Accepted publickey" in gate.log_text()
    assert "Accepted publickey" in box.log_text()


async def test_much_through_a_jump_host(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """What a box sends through a jump host is asked for there as well: neither is taken for one that floods us."""
    jump, inner = openssh_factory("jump"), openssh_factory("inner")
    content = bytes(range(256)) * 64 * 1024
    fill(tmp_path, {"optimizer.pt": content})
    target = target_for(inner, proxy_jump=f"{jump.user}@{jump.address}:{jump.port}")
    async with (
        connect(target, Pins()) as connection,
        open_box(connection, watching(training(tmp_path)), Limits()) as box,
    ):
        (answer,) = await read(box, [wanted(tmp_path, "optimizer.pt")])
    assert answer.data == content


async def test_two_jump_hosts(openssh_factory: OpenSSHFactory) -> None:
    """Jump hosts may stand in a row."""
    box, near, far = (openssh_factory(name) for name in ("box", "near", "far"))
    pins = Pins()
    jump = f"127.0.0.1:{near.port},127.0.0.1:{far.port}"
    assert await outcome(target_for(box, proxy_jump=jump), pins) is None
    assert len(pins.kept) == 3
    assert "Accepted publickey" in near.log_text()
    assert "Accepted publickey" in far.log_text()


async def test_changed_key_of_a_jump_host(openssh_factory: OpenSSHFactory) -> None:
    """A jump host is checked as strictly as the box: with another key nothing goes through it."""
    box, gate, pins = openssh_factory("box"), openssh_factory("gate"), Pins()
    target = target_for(box, proxy_jump=f"127.0.0.1:{gate.port}")
    await outcome(target, pins)
    gate.change_host_key()
    before = box.log_text()
    error = await outcome(target, pins)
    assert isinstance(error, HostKeyChanged)
    assert f"jump:127.0.0.1:{gate.port}" in str(error)
    assert box.log_text() == before


async def test_box_that_a_jump_host_does_not_reach(openssh_factory: OpenSSHFactory) -> None:
    """When the way ends behind the jump host, it is the box that is unreachable."""
    box, gate = openssh_factory("box"), openssh_factory("gate")
    target = target_for(box, proxy_jump=f"127.0.0.1:{gate.port}")
    box.stop()
    error = await outcome(target)
    assert isinstance(error, Unreachable)
    assert str(error).startswith("box (")
    assert "jump host" in str(error)


async def test_config_file_only_where_it_is_named(
    openssh_factory: OpenSSHFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias of ~/.ssh/config means nothing unless the file is named; then address, user, port, keys and jump do."""
    box, gate = openssh_factory("box"), openssh_factory("gate")
    (tmp_path / ".ssh").mkdir()
    config = tmp_path / ".ssh" / "config"
    config.write_text(
        f"Host alias.invalid\n  Hostname 127.0.0.1\n  Port {box.port}\n  User {box.user}\n"
        f"  IdentityFile {box.client_key}\n  ProxyJump gate.invalid\n"
        f"Host gate.invalid\n  Hostname 127.0.0.1\n  Port {gate.port}\n  User {gate.user}\n"
        f"  IdentityFile {gate.client_key}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    alias = target_for(box, address="alias.invalid", port=0, user="", identity_files=())
    named = replace(alias, config_files=(config,))
    pins = Pins()
    assert await outcome(named, pins) is None
    assert set(pins.kept) == {"box", "jump:gate.invalid:22"}
    assert "Accepted publickey" in gate.log_text()
    assert isinstance(await outcome(replace(alias, identity_files=(box.client_key,))), Unreachable)


async def test_bad_config_file(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A configuration that can't be read is a matter for the operator, not for another try."""
    error = await outcome(target_for(openssh_factory(), config_files=(tmp_path / "missing",)))
    assert isinstance(error, HostQuarantined)
    config = tmp_path / "config"
    config.write_text("Port nonsense\n")
    error = await outcome(target_for(openssh_factory("other"), config_files=(config,)))
    assert isinstance(error, HostQuarantined)
    assert "config_files" in error.hint


async def test_a_jump_host_that_does_not_get_further_is_named(openssh_factory: OpenSSHFactory) -> None:
    """The way ends at the jump host then: whether a firewall is between here and the box is no question."""
    bastion = openssh_factory("bastion")
    listener = socket.socket()
    with listener:
        # Nobody accepts, and the queue is full: the jump host waits for an answer to its SYN.
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for each in fillers:
            each.setblocking(False)  # noqa: FBT003  (the system's signature)
            each.connect_ex(listener.getsockname())
        box = target_for(openssh_factory("box"), port=listener.getsockname()[1], connect_timeout=timedelta(seconds=2))
        error = await outcome(replace(box, proxy_jump=f"{bastion.user}@127.0.0.1:{bastion.port}"))
        for each in fillers:
            each.close()
    assert isinstance(error, Unreachable)
    assert "the jump host did not connect further within 2 s" in str(error)
    assert "from there" in error.hint
