"""With which keys we log in, and what is said when none fits, against real OpenSSH."""

import subprocess
from pathlib import Path

import anyio
import asyncssh
import pytest

from contract.connected import outcome, target_for
from harvestd.remote.ssh.errors import AuthenticationRefused
from support.openssh import OpenSSHFactory, generate_key

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def test_wrong_key(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A refused log-in names the user, the keys that were offered and those that could not be."""
    server = openssh_factory()
    wrong, missing = generate_key(tmp_path / "wrong"), tmp_path / "missing"
    error = await outcome(target_for(server, identity_files=(missing, wrong)))
    assert isinstance(error, AuthenticationRefused)
    for part in (server.user, str(wrong), f"{missing} (does not exist)", f"127.0.0.1:{server.port}"):
        assert part in str(error)
    assert "ssh-copy-id" in error.hint
    assert wrong.read_text().splitlines()[1] not in str(error)


async def test_many_wrong_keys(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """Being cut off for too many keys is a refusal, too."""
    server = openssh_factory(extra_config=["MaxAuthTries 2"])
    keys = tuple(generate_key(tmp_path / f"wrong{n}") for n in range(4))
    assert isinstance(await outcome(target_for(server, identity_files=keys)), AuthenticationRefused)


async def test_second_key_fits(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """Keys are tried in their order until one is accepted."""
    server = openssh_factory()
    wrong = generate_key(tmp_path / "wrong")
    assert await outcome(target_for(server, identity_files=(wrong, server.client_key))) is None


async def test_key_with_passphrase(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A key that is locked is named as such, and that there is no agent to unlock it."""
    locked = _locked_key(tmp_path / "locked")
    error = await outcome(target_for(openssh_factory(), identity_files=(locked,)))
    assert isinstance(error, AuthenticationRefused)
    assert f"{locked} (has a passphrase" in str(error)
    assert "agent" in str(error)


async def test_no_key_at_all(openssh_factory: OpenSSHFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing is sent, and the error says how to get one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    server = openssh_factory()
    before = server.log_text()
    error = await outcome(target_for(server, identity_files=()))
    assert isinstance(error, AuthenticationRefused)
    assert "ssh-add" in error.hint
    assert server.log_text() == before


def _locked_key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)
    return path


async def answering(path: Path) -> asyncssh.SSHAgentClient:
    """Return a client of an agent that was started just now: its socket exists before anything listens there."""
    with anyio.fail_after(60):
        while True:
            try:
                agent = asyncssh.SSHAgentClient(str(path))
                await agent.get_keys()
            except (OSError, ValueError):
                await anyio.sleep(0.01)
            else:
                return agent


async def test_agent(openssh_factory: OpenSSHFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent's keys are used where they may be, those of the named files first, and never where not."""
    server = openssh_factory()
    path = tmp_path / "agent"
    async with await anyio.open_process(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL) as process:
        try:
            agent = await answering(path)
            strangers = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(8)]
            await agent.add_keys([*strangers, str(server.client_key)])
            agent.close()
            monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
            # The file is of no use by itself, but its public half tells which of the agent's nine keys it is.
            named = tmp_path / "named"
            named.write_text("not a private key")
            named.with_name("named.pub").write_text(server.client_key.with_name("client_key.pub").read_text())
            allowed = await outcome(target_for(server, identity_files=(named,), agent=True))
            forbidden = await outcome(target_for(server, identity_files=(named,), agent=False))
        finally:
            process.terminate()
    assert allowed is None
    assert isinstance(forbidden, AuthenticationRefused)
