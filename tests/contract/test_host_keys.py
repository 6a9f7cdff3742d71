"""Whose key is it: pins and known_hosts, against real OpenSSH."""

from pathlib import Path

import asyncssh
import pytest

from contract.connected import Pins, outcome, target_for
from harvestd.remote.ssh.errors import AuthenticationRefused, HostKeyChanged, HostKeyUnknown
from support.faults import fired
from support.openssh import OpenSSHFactory, generate_key

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def test_first_use_keeps_the_key(openssh_factory: OpenSSHFactory) -> None:
    """After the first log-in the host's key is kept under its identity, as the server has it."""
    server, pins = openssh_factory(), Pins()
    assert await outcome(target_for(server), pins) is None
    (line,) = pins.kept.values()
    assert list(pins.kept) == ["box"]
    key = asyncssh.import_public_key(line)
    assert key.get_fingerprint() == server.host_key_fingerprint


async def test_failed_log_in_keeps_no_key(openssh_factory: OpenSSHFactory) -> None:
    """A server that refuses us may be the last tenant's: its key is not kept."""
    server, pins = openssh_factory(), Pins()
    server.revoke()
    assert isinstance(await outcome(target_for(server), pins), AuthenticationRefused)
    assert not pins.kept


async def test_changed_key_is_refused_before_authentication(openssh_factory: OpenSSHFactory) -> None:
    """A host with another key is sent nothing, its pin stays, and the error names both keys and the way out."""
    server, pins = openssh_factory(), Pins()
    assert await outcome(target_for(server), pins) is None
    kept, old = dict(pins.kept), server.host_key_fingerprint
    server.change_host_key()
    before = len(server.log_text())
    error = await outcome(target_for(server), pins)
    assert server.host_key_fingerprint != old
    fired(9)
    assert isinstance(error, HostKeyChanged)
    assert old in str(error)
    assert server.host_key_fingerprint in str(error)
    assert "harvestd forget-key box" in error.hint
    assert pins.kept == kept
    log = server.log_text()[before:]
    assert "Accepted" not in log
    assert "publickey" not in log
    assert server.user not in log


async def test_pin_belongs_to_the_identity(openssh_factory: OpenSSHFactory) -> None:
    """The same address under a new identity is another host: nothing is compared with the old one's key."""
    server, pins = openssh_factory(), Pins()
    await outcome(target_for(server), pins)
    server.change_host_key()
    assert isinstance(await outcome(target_for(server), pins), HostKeyChanged)
    fired(10)
    assert await outcome(target_for(server, identity="new-instance"), pins) is None
    assert set(pins.kept) == {"box", "new-instance"}


@pytest.mark.parametrize("kept_type", ["rsa", "ecdsa", "ed25519"])
async def test_server_with_several_keys_never_looks_changed(openssh_factory: OpenSSHFactory, kept_type: str) -> None:
    """Whichever of a server's keys is kept is asked for again."""
    server = openssh_factory(host_key_types=("ed25519", "ecdsa", "rsa"))
    pins = Pins()
    public = (server.directory / f"host_{kept_type}_key.pub").read_text()
    pins.kept["box"] = public
    assert await outcome(target_for(server), pins) is None
    assert pins.kept["box"] == public


async def test_lost_algorithm_is_a_changed_key(openssh_factory: OpenSSHFactory) -> None:
    """A server that no longer has the kept kind of key has changed, too."""
    server = openssh_factory(host_key_types=("ed25519",))
    pins = Pins()
    pins.kept["box"] = generate_key(server.directory / "other", "rsa").with_suffix(".pub").read_text()
    error = await outcome(target_for(server), pins)
    assert isinstance(error, HostKeyChanged)
    assert server.host_key_fingerprint in str(error)


async def test_damaged_pin_is_no_first_use(openssh_factory: OpenSSHFactory) -> None:
    """A kept key that can't be read is never taken for "no key is kept"."""
    pins = Pins()
    pins.kept["box"] = "ssh-ed25519 not*base64"
    error = await outcome(target_for(openssh_factory()), pins)
    assert isinstance(error, HostKeyUnknown)
    assert "forget-key" in error.hint


async def test_known_hosts(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """In the known_hosts way the operator's file decides, and nothing is pinned."""
    server, pins = openssh_factory(), Pins()
    known = tmp_path / "known_hosts"
    target = target_for(server, host_keys="known_hosts", known_hosts=known)
    assert isinstance(await outcome(target, pins), HostKeyUnknown)
    known.write_text("")
    unknown = await outcome(target, pins)
    assert isinstance(unknown, HostKeyUnknown)
    assert server.host_key_fingerprint in str(unknown)
    public = (server.directory / "host_ed25519_key.pub").read_text()
    known.write_text(f"[127.0.0.1]:{server.port} {public}")
    assert await outcome(target, pins) is None
    server.change_host_key()
    assert isinstance(await outcome(target, pins), HostKeyUnknown)
    assert not pins.kept
