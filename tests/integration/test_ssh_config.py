"""From a harvestd.toml and an SSH configuration file to a log-in on a real OpenSSH server, as `ssh` itself would."""

import getpass
import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from harvestd.errors import HostQuarantined, Retry
from harvestd.remote.ssh.errors import AuthenticationRefused, HostKeyUnknown
from support.openssh import OpenSSHFactory, OpenSSHServer, generate_key
from support.ssh_users import agent_with, logged_in
from support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


def _alias(server: OpenSSHServer, *lines: str, name: str = "gpu-a", key: str | Path | None = None) -> str:
    """Return the block of one host, as people write it."""
    block = [f"Host {name}", f"HostName {server.address}", f"Port {server.port}", f"User {server.user}"]
    block.append(f"IdentityFile {key or server.client_key}")
    return "\n  ".join([*block, *lines]) + "\n"


def _write(directory: Path, *blocks: str) -> Path:
    path = directory / "ssh_config"
    path.write_text("".join(blocks))
    return path


async def test_an_alias_is_reached_as_ssh_reaches_it(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """HostName, Port, User and IdentityFile come from the file where harvestd.toml says nothing of them."""
    server = openssh_factory()
    _write(tmp_path, _alias(server))
    assert await logged_in(tmp_path) is None
    assert "Accepted publickey" in server.log_text()


async def test_what_is_written_in_toml_stands_above_the_file(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """User, port and keys of harvestd.toml win over those of the file."""
    server = openssh_factory()
    wrong = generate_key(tmp_path / "wrong")
    (tmp_path / "ssh_config").write_text(
        f"Host gpu-a\n HostName 127.0.0.1\n Port 1\n User nobody\n IdentityFile {wrong}\n"
    )
    ssh = f'user = "{server.user}"\nport = {server.port}\nidentity_files = ["{server.client_key}"]'
    assert await logged_in(tmp_path, ssh) is None


async def test_defaults_stand_below_the_file(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A file that names no user leaves harvestd's default, and not the local account."""
    server = openssh_factory()
    _write(tmp_path, f"Host gpu-a\n HostName 127.0.0.1\n Port {server.port}\n IdentityFile {server.client_key}\n")
    error = await logged_in(tmp_path, "agent = false")
    assert isinstance(error, AuthenticationRefused)
    assert f"ubuntu@127.0.0.1:{server.port}" in str(error)


async def test_without_an_identity_file_ssh_s_own_names_are_tried(
    openssh_factory: OpenSSHFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias that names no key is reached with ~/.ssh/id_ed25519, as ssh reaches it."""
    server = openssh_factory()
    (tmp_path / ".ssh").mkdir()
    server.client_key.rename(tmp_path / ".ssh" / "id_ed25519")
    monkeypatch.setenv("HOME", str(tmp_path))
    _write(tmp_path, f"Host gpu-a\n HostName 127.0.0.1\n Port {server.port}\n User {server.user}\n")
    assert await logged_in(tmp_path) is None


@pytest.mark.parametrize(
    "line",
    [
        "ServerAliveInterval 30 # a trailing comment",
        "Host somebody-else # this box isn't ours",
        "Match sessiontype shell\n  User nobody",
        "Match host gpu-a exec true",
        "Match final host 127.0.0.1\n  ServerAliveInterval 5",
        'UserKnownHostsFile "/tmp/a place" # known',
        "ControlPath ~/.ssh/%r@%h:%p",
    ],
)
async def test_lines_that_ssh_takes_are_taken(line: str, openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A file that ssh can read is one that harvestd can read."""
    server = openssh_factory()
    config = _write(tmp_path, _alias(server), f"{line}\n")
    known = await anyio.run_process(["ssh", "-G", "-F", str(config), "gpu-a"], check=False)
    if known.returncode == 0:
        assert await logged_in(tmp_path) is None
    else:
        # What this machine's ssh does not know is refused as it refuses it.
        assert isinstance(await logged_in(tmp_path), HostQuarantined)


async def test_included_files_count_and_changes_are_seen(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """Include works, and a changed file is read again for the next connection."""
    server = openssh_factory()
    included = tmp_path / "more.conf"
    included.write_text("Host gpu-a\n  User nobody\n")
    included.chmod(0o600)
    _write(tmp_path, f"Include {included}\n", _alias(server))
    assert isinstance(await logged_in(tmp_path), AuthenticationRefused)
    included.write_text("")
    assert await logged_in(tmp_path) is None


async def test_match_exec_is_asked_each_time(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """What depends on a command is found out anew for each connection."""
    server = openssh_factory()
    flag = tmp_path / "flag"
    _write(tmp_path, f'Match host gpu-a exec "test -e {flag}"\n  User nobody\n', _alias(server))
    assert await logged_in(tmp_path) is None
    flag.touch()
    assert isinstance(await logged_in(tmp_path), AuthenticationRefused)


async def test_match_exec_that_hangs_costs_the_connect_timeout(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A command that does not end is ended, and the host is tried again later."""
    server = openssh_factory()
    pid = tmp_path / "pid"
    _write(tmp_path, f'Match exec "echo $$ > {pid}; exec sleep 1000"\n  User nobody\n', _alias(server))
    error = await logged_in(tmp_path, 'connect_timeout = "2s"')
    assert isinstance(error, Retry)
    assert "Match exec" in error.hint
    await until(lambda: not _lives(pid.read_text().strip()))


def _lives(pid: str) -> bool:
    """Return whether a process runs; one that ended may not have been waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_bad_file_is_named_with_its_line(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """What ssh does not take is the operator's to mend: file and line are named."""
    openssh_factory()
    config = _write(tmp_path, "Host gpu-a\n  Port 22\n  Nonsense yes\n")
    error = await logged_in(tmp_path)
    assert isinstance(error, HostQuarantined)
    assert f"{config} line 3" in str(error)
    assert "config_files" in error.hint


async def test_a_bastion_has_its_own_user_and_key(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """ProxyJump leads over a host whose address, port, user and key come from its own lines."""
    box, gate = openssh_factory("box"), openssh_factory("gate")
    key = generate_key(tmp_path / "gate_key")
    gate.revoke()
    gate.authorize(key)
    _write(tmp_path, _alias(box, "ProxyJump bastion"), _alias(gate, name="bastion", key=key))
    assert await logged_in(tmp_path, 'user = "root"' if getpass.getuser() == "root" else "") is None
    assert "Accepted publickey" in gate.log_text()
    assert "Accepted publickey" in box.log_text()


async def test_a_bastion_that_needs_a_bastion(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A jump host's own ProxyJump is followed, for one from harvestd.toml, too."""
    box, near, far = (openssh_factory(name) for name in ("box", "near", "far"))
    _write(tmp_path, _alias(box), _alias(far, "ProxyJump near", name="far"), _alias(near, name="near"))
    assert await logged_in(tmp_path, 'proxy_jump = "far"') is None
    assert all("Accepted publickey" in server.log_text() for server in (box, near, far))


async def test_jump_hosts_in_a_row_may_be_written_in_toml(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """`proxy_jump` takes several hosts, as ssh -J does."""
    box, near, far = (openssh_factory(name) for name in ("box", "near", "far"))
    hops = ",".join(f"{each.user}@127.0.0.1:{each.port}" for each in (near, far))
    ssh = f'user = "{box.user}"\nidentity_files = ["{box.client_key}"]\nport = {box.port}\nproxy_jump = "{hops}"'
    assert await logged_in(tmp_path, ssh, 'address = "127.0.0.1"') is None
    assert all("Accepted publickey" in server.log_text() for server in (box, near, far))


async def test_jump_hosts_that_lead_to_themselves_are_bounded(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A loop of jump hosts is said, not followed for ever."""
    box = openssh_factory("box")
    _write(tmp_path, _alias(box, "ProxyJump a"), "Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    error = await logged_in(tmp_path)
    assert isinstance(error, HostQuarantined)
    assert "jump hosts" in str(error)


async def test_a_bastion_behind_a_proxy_command(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A jump host's own ProxyCommand is run."""
    box, gate = openssh_factory("box"), openssh_factory("gate")
    ran = tmp_path / "ran"
    command = f"sh -c 'echo %n >> {ran}; exec {_carry(gate)}'"
    _write(
        tmp_path,
        _alias(box, "ProxyJump bastion"),
        f"Host bastion\n  HostName nowhere.invalid\n  User {gate.user}\n  IdentityFile {gate.client_key}\n"
        f"  ProxyCommand {command}\n",
    )
    assert await logged_in(tmp_path) is None
    assert ran.read_text() == "bastion\n"


def _carry(server: OpenSSHServer) -> str:
    """Return a command that carries its standard input and output to a server, as nc does."""
    program = (
        "import socket,sys,threading,os;"
        f's=socket.create_connection((\\"{server.address}\\",{server.port}));'
        't=threading.Thread(target=lambda:[s.sendall(d) for d in iter(lambda:os.read(0,65536),b\\"\\")],daemon=True);'
        "t.start();"
        '[os.write(1,d) for d in iter(lambda:s.recv(65536),b\\"\\")]'
    )
    return f'python3 -c "{program}"'


async def test_a_proxy_command_is_run_by_a_shell(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """~, tokens and a pipe mean what they mean to a shell; what the command says on stderr breaks nothing."""
    server = openssh_factory()
    ran = tmp_path / "ran"
    script = tmp_path / "carry"
    script.write_text(
        f"#!/bin/sh\necho chatty >&2; echo ~ $1 $2 >> {ran}\nexec {_carry(server).replace(chr(92), '')}\n"
    )
    script.write_text(script.read_text().replace('python3 -c "', "python3 -c '")[:-2] + "'\n")
    script.chmod(0o755)
    _write(
        tmp_path,
        f"Host gpu-a\n  HostName gpu-a.invalid\n  User {server.user}\n  IdentityFile {server.client_key}\n"
        f"  ProxyCommand {script} %h %p | cat\n",
    )
    assert await logged_in(tmp_path) is None
    assert ran.read_text().split()[1:] == ["gpu-a.invalid", "22"]


async def test_a_missing_proxy_program_is_named(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """The program that is missing stands in the error, and the hint speaks of a service's PATH."""
    server = openssh_factory()
    _write(tmp_path, _alias(server, "ProxyCommand no-such-proxy --tunnel %h"))
    error = await logged_in(tmp_path)
    assert isinstance(error, HostQuarantined)
    assert "no-such-proxy" in str(error)
    assert "PATH" in error.hint


async def test_what_a_proxy_command_says_is_in_the_error(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A command that fails is quoted, escaped."""
    server = openssh_factory()
    _write(tmp_path, _alias(server, r"ProxyCommand printf '\033[31mtoken expired' >&2; exit 3"))
    error = await logged_in(tmp_path)
    assert isinstance(error, Retry)
    assert "token expired" in str(error)
    assert "\033" not in str(error)


async def test_a_key_of_an_agent_is_chosen_by_its_public_half(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """IdentityAgent, IdentitiesOnly and an IdentityFile that is a .pub: the recipe of 1Password and hardware keys."""
    server = openssh_factory(extra_config=["MaxAuthTries 2"])
    strangers = [generate_key(tmp_path / f"stranger{n}") for n in range(7)]
    mine = generate_key(tmp_path / "mine")
    server.revoke()
    server.authorize(mine)
    with agent_with(tmp_path, [*strangers, mine]) as socket:
        mine.unlink()
        agent = [f'IdentityAgent "{socket}"', "IdentitiesOnly yes"]
        _write(tmp_path, _alias(server, *agent, key=mine.with_name("mine.pub")))
        assert await logged_in(tmp_path) is None


async def test_identities_only_keeps_other_keys_of_the_agent_back(
    openssh_factory: OpenSSHFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With IdentitiesOnly no key is shown that was not named; without it the agent's keys are offered."""
    server = openssh_factory()
    wrong = generate_key(tmp_path / "wrong")
    with agent_with(tmp_path, [server.client_key]) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        _write(tmp_path, _alias(server, "IdentitiesOnly yes", key=wrong))
        assert isinstance(await logged_in(tmp_path), AuthenticationRefused)
        _write(tmp_path, _alias(server, key=wrong))
        assert await logged_in(tmp_path) is None
        ssh = f'identities_only = true\nagent_socket = "{socket}"'
        assert isinstance(await logged_in(tmp_path, ssh), AuthenticationRefused)


async def test_an_agent_may_be_named_in_toml(
    openssh_factory: OpenSSHFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service has no SSH_AUTH_SOCK: the agent's socket can be written down."""
    server = openssh_factory()
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with agent_with(tmp_path, [server.client_key]) as socket:
        host = f'address = "127.0.0.1"\nport = {server.port}\nuser = "{server.user}"\nidentity_files = []'
        public = server.client_key.with_name("client_key.pub")
        host = host.replace("[]", f'["{public}"]')
        assert await logged_in(tmp_path, f'agent_socket = "{socket}"', host) is None


def _certified(directory: Path, key: Path, principal: str) -> Path:
    """Sign a key by a new authority; return the certificate, moved away from the key's side."""
    authority = generate_key(directory / "authority")
    command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", "-n", principal, f"{key}.pub"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return key.with_name(f"{key.name}-cert.pub").rename(directory / "elsewhere.pub")


async def test_certificate_file(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A CertificateFile goes with its key; one that is missing is left out, and no host is given up for it."""
    key = generate_key(tmp_path / "key")
    certificate = _certified(tmp_path, key, getpass.getuser())
    server = openssh_factory(extra_config=[f"TrustedUserCAKeys {tmp_path / 'authority.pub'}"])
    server.revoke()
    _write(
        tmp_path, _alias(server, f"CertificateFile {tmp_path / 'missing'}", f"CertificateFile {certificate}", key=key)
    )
    assert await logged_in(tmp_path) is None
    assert "Accepted publickey" in server.log_text()
    _write(tmp_path, _alias(server, f"CertificateFile {tmp_path / 'missing'}", key=key))
    assert isinstance(await logged_in(tmp_path), AuthenticationRefused)
    server.authorize(key)
    assert await logged_in(tmp_path) is None


async def test_host_keys_are_checked_as_the_file_says(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """UserKnownHostsFile and HostKeyAlias count where host_keys is "known_hosts"."""
    server = openssh_factory()
    known = tmp_path / "known hosts"
    line = (server.directory / "host_ed25519_key.pub").read_text()
    known.write_text(f"the-real-name {line}")
    lines = [f'UserKnownHostsFile "{known}"', "HostKeyAlias the-real-name"]
    _write(tmp_path, _alias(server, *lines))
    assert await logged_in(tmp_path, 'host_keys = "known_hosts"') is None
    _write(tmp_path, _alias(server, lines[0], "HostKeyAlias another"))
    assert isinstance(await logged_in(tmp_path, 'host_keys = "known_hosts"'), HostKeyUnknown)


async def test_address_family_and_bind_address(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """AddressFamily and BindAddress decide how the connection is made."""
    server = openssh_factory()
    _write(tmp_path, _alias(server, "BindAddress 127.0.0.9"))
    assert await logged_in(tmp_path) is None
    assert "Accepted publickey for root from 127.0.0.9" in server.log_text().replace(server.user, "root")
    _write(tmp_path, _alias(server, "AddressFamily inet6"))
    assert isinstance(await logged_in(tmp_path), Retry)


async def test_algorithms_of_the_file_are_used(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """KexAlgorithms and MACs of the file are asked for, and none that harvestd does not know keeps it away."""
    server = openssh_factory(extra_config=["KexAlgorithms ecdh-sha2-nistp256"])
    _write(tmp_path, _alias(server, "KexAlgorithms ecdh-sha2-nistp256", "MACs hmac-sha2-512"))
    assert await logged_in(tmp_path) is None
    _write(tmp_path, _alias(server, "KexAlgorithms curve25519-sha256"))
    assert isinstance(await logged_in(tmp_path), Retry)


async def test_without_an_ssh_program_it_is_said(
    openssh_factory: OpenSSHFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no ssh to read the files, the error says so."""
    server = openssh_factory()
    _write(tmp_path, _alias(server))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    error = await logged_in(tmp_path)
    assert isinstance(error, HostQuarantined)
    assert "openssh-client" in error.hint


async def test_an_address_that_a_shell_would_interpret_runs_nothing(tmp_path: Path) -> None:
    """A name from a file of other programs never becomes part of a ProxyCommand's words."""
    key = generate_key(tmp_path / "key")
    _write(tmp_path, f"Host *\n  User root\n  ProxyCommand echo %h >> {tmp_path / 'ran'}\n  IdentityFile {key}\n")
    error = await logged_in(tmp_path, host='address = "fe80::1%$(id)"')
    assert isinstance(error, HostQuarantined)
    assert not (tmp_path / "ran").exists()


async def test_check_names_what_is_ignored(tmp_path: Path) -> None:
    """`harvestd check` names each option of a host that is not honoured, and what lies beside a key and is stale."""
    key = generate_key(tmp_path / "key")
    generate_key(tmp_path / "other").with_name("other.pub").rename(tmp_path / "key.pub")
    config = _write(
        tmp_path,
        f"Host gpu-*\n  User me\n  IdentityFile {key}\n  ControlMaster auto\n  ControlPath /tmp/%C\n",
        "  ServerAliveInterval 7 # as everywhere\n  ForwardAgent yes\n  SetEnv A=b\n  Compression yes\n",
        "  RevokedHostKeys /dev/null\n  BindInterface lo\n  ProxyJump bastion\n",
        "Host bastion\n  PKCS11Provider /usr/lib/x.so\n",
        "Host another\n  Ciphers aes128-ctr\n",
    )
    toml = tmp_path / "harvestd.toml"
    toml.write_text(
        f'version = 1\ndata_root = "{tmp_path / "data"}"\n[ssh]\nconfig_files = ["{config}"]\n'
        '[[hosts]]\nname = "a"\naddress = "gpu-a"\n[[hosts]]\nname = "b"\naddress = "gpu-b"\n'
    )
    command = [sys.executable, "-m", "harvestd", "check", "-c", str(toml), "--json"]
    answer = json.loads((await anyio.run_process(command)).stdout)
    assert answer["ok"]
    given = {warning["message"]: warning["key"] for warning in answer["warnings"]}
    (options,) = (message for message in given if "controlmaster" in message)
    for name in ("controlpath", "serveraliveinterval", "forwardagent", "setenv", "compression", "revokedhostkeys"):
        assert name in options
    assert "bindinterface" in options
    assert "ssh.keepalive" in options
    assert "user" not in options.replace("userknown", "")
    assert given[options] == "hosts[a,b]"
    assert any("pkcs11provider" in message for message in given)
    assert any("key.pub" in message for message in given)
    assert not any("ciphers" in message for message in given)


async def test_check_says_what_ssh_refuses(tmp_path: Path) -> None:
    """A file that can't be used is told before a host is connected to."""
    config = _write(tmp_path, "Host *\n  Nonsense 1\n")
    toml = tmp_path / "harvestd.toml"
    toml.write_text(
        f'version = 1\ndata_root = "{tmp_path / "data"}"\n[ssh]\nconfig_files = ["{config}"]\n'
        '[[hosts]]\nname = "a"\naddress = "gpu-a"\n'
    )
    command = [sys.executable, "-m", "harvestd", "check", "-c", str(toml), "--json"]
    answer = json.loads((await anyio.run_process(command)).stdout)
    assert any(f"{config} line 2" in warning["message"] for warning in answer["warnings"])


async def test_stale_files_beside_a_key_end_no_pass(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A KEY.pub and a KEY-cert.pub of another key are a warning, whoever left them there."""
    server = openssh_factory()
    key, other = generate_key(tmp_path / "key"), generate_key(tmp_path / "other")
    server.authorize(key)
    _certified(tmp_path, other, server.user).rename(tmp_path / "key-cert.pub")
    other.with_name("other.pub").rename(tmp_path / "key.pub")
    host = f'address = "127.0.0.1"\nport = {server.port}\nuser = "{server.user}"\nidentity_files = ["{key}"]'
    assert await logged_in(tmp_path, host=host) is None


async def test_a_certified_host_is_trusted(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A line of known_hosts may name an authority in place of each host's key."""
    authority = generate_key(tmp_path / "authority")
    server = openssh_factory()
    host_key = server.directory / "host_ed25519_key"
    command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "box", "-h", "-n", "the-real-name", f"{host_key}.pub"]
    await anyio.run_process(command)
    certified = openssh_factory(
        "certified", extra_config=[f"HostCertificate {host_key}-cert.pub", f"HostKey {host_key}"]
    )
    known = tmp_path / "known"
    known.write_text(f"@cert-authority the-real-* {authority.with_name('authority.pub').read_text()}")
    _write(tmp_path, _alias(certified, f"UserKnownHostsFile {known}", "HostKeyAlias the-real-name"))
    assert await logged_in(tmp_path, 'host_keys = "known_hosts"') is None
    _write(tmp_path, _alias(certified, f"UserKnownHostsFile {known}", "HostKeyAlias another-name"))
    assert isinstance(await logged_in(tmp_path, 'host_keys = "known_hosts"'), HostKeyUnknown)


_ROWS = {
    "names": ["CanonicalizeHostname no", "Tag gpu"],
    "patience": ["ConnectTimeout 1", "ServerAliveInterval 1", "ServerAliveCountMax 1"],
    "shared by ssh": ["ControlMaster auto", "ControlPath /tmp/harvestd-no-such-socket", "ControlPersist yes"],
    "what a person sees": ["RequestTTY force", "RemoteCommand echo no", "ForwardAgent yes", "SendEnv A*", "SetEnv A=b"],
    "ports": ["LocalForward 127.0.0.1:1 127.0.0.1:2", "ExitOnForwardFailure yes", "DynamicForward 127.0.0.1:1"],
    "other ways in": ["PasswordAuthentication yes", "GSSAPIAuthentication yes", "PreferredAuthentications password"],
    "providers": ["PKCS11Provider /no/such.so", "SecurityKeyProvider /no/such.so"],
    "lengths and ciphers": ["Compression yes", "Ciphers aes256-ctr", "RekeyLimit 1G 1h"],
    "host keys": [
        "StrictHostKeyChecking yes",
        "UserKnownHostsFile /dev/null",
        "HostKeyAlias x",
        "VerifyHostKeyDNS yes",
    ],
    "families": ["AddressFamily inet", "TCPKeepAlive no"],
    "matches": ["Match final", "LogLevel QUIET", "Match user nobody", "Port 1"],
}


@pytest.mark.parametrize("row", _ROWS)
async def test_a_box_behind_a_bastion_with_what_people_set(
    row: str, openssh_factory: OpenSSHFactory, tmp_path: Path
) -> None:
    """No option keeps a box away that ssh reaches: with all that is honoured, and with all that is ignored."""
    box, gate = openssh_factory("box"), openssh_factory("gate")
    lines = "\n".join(_ROWS[row])
    config = _write(
        tmp_path,
        "IgnoreUnknown Tag\n",
        _alias(box, "ProxyJump bastion"),
        _alias(gate, name="bastion"),
        f"Host gpu-a bastion\n{lines}\n",
    )
    known = await anyio.run_process(["ssh", "-G", "-F", str(config), "gpu-a"], check=False)
    assert known.returncode == 0, known.stderr
    assert await logged_in(tmp_path) is None
    assert "Accepted publickey" in gate.log_text()
    assert "Accepted publickey" in box.log_text()
