"""Real OpenSSH servers on loopback, one directory each, for the user who runs the tests (root or not).

They are what a user would meet: stock sshd, stock options where a test depends on them. A server never listens on
anything but loopback, never reads or writes the user's own ~/.ssh, and ends only processes that it started itself.
All calls block: call them outside the event loop, or in a thread.
"""

import functools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest

from support.processes import end_family, with_environment

_DEADLINE = 30.0
"""Seconds for sshd to listen, and for it to end."""
_PORT_ATTEMPTS = 5
_PRIVILEGE_SEPARATION = Path("/run/sshd")
_MARK = "HARVESTD_TEST_BOX"
"""Environment of what clients start, so that it is found again after its sshd is gone."""
_INSTALL_HINT = "install it with `apt-get install openssh-server` (Debian, Ubuntu) or `dnf install openssh-server`"


def find_sshd() -> Path | None:
    """Return the absolute path of sshd, None where this machine has none (it must be started by an absolute path)."""
    found = shutil.which("sshd", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
    return Path(found).absolute() if found and shutil.which("ssh-keygen") else None


def require_sshd() -> Path:
    """Return sshd's path; without one skip the calling test, or fail it in CI: there nothing may be skipped."""
    sshd = find_sshd()
    if sshd is not None:
        return sshd
    reason = f"this test needs sshd and ssh-keygen, and they are not here: {_INSTALL_HINT}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def generate_key(path: Path, key_type: str = "ed25519") -> Path:
    """Make a key pair without passphrase at `path` and `path`.pub, in place of one that is there; gives `path`."""
    for old in (path, path.with_name(path.name + ".pub")):
        old.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A longer RSA key takes three times as long to find.
    bits = ["-b", "2048"] if key_type == "rsa" else []
    command = ["ssh-keygen", "-q", "-t", key_type, *bits, "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=_DEADLINE * 6)
    return path


@functools.cache
def _made_once() -> tuple[bytes, bytes]:
    """Return a private key and its public half, the same for all servers of this process."""
    with TemporaryDirectory() as directory:
        path = generate_key(Path(directory) / "client_key")
        return path.read_bytes(), path.with_name("client_key.pub").read_bytes()


def _write_client_key(path: Path) -> None:
    private, public = _made_once()
    path.touch(mode=0o600)
    path.write_bytes(private)
    path.with_name(path.name + ".pub").write_bytes(public)


def obeying_permissions(command: str = '/bin/sh -c "$SSH_ORIGINAL_COMMAND"') -> list[str]:
    """Return the lines of sshd_config with which sessions obey permissions, also where root runs the tests."""
    if os.geteuid() != 0:
        return []
    assert shutil.which("setpriv"), "root ignores permissions, and setpriv (util-linux) stops it from that"
    return [f"ForceCommand exec setpriv --bounding-set -all --inh-caps -all {command}"]


def _public_key(path: Path) -> str:
    public = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    return public.read_text().strip()


def _prepare_root() -> None:
    """Return sshd what it wants of a machine when root starts it; raises RuntimeError where a test must not mend it."""
    if os.geteuid() != 0:
        return
    _PRIVILEGE_SEPARATION.mkdir(mode=0o755, parents=True, exist_ok=True)
    _PRIVILEGE_SEPARATION.chmod(0o755)
    user = pwd.getpwuid(os.geteuid()).pw_name
    for line in Path("/etc/shadow").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == user and rest.startswith("!"):
            raise RuntimeError(f"the account {user} is locked in /etc/shadow, sshd refuses it: `usermod -p '*' {user}`")


@functools.cache
def _penalties(sshd: Path) -> tuple[str, ...]:
    """Return the lines that switch off OpenSSH 9.8's ban of addresses that fail: all tests come from one address."""
    line = "PerSourcePenalties no"
    command = [str(sshd), "-G", "-f", os.devnull, "-o", line.replace(" ", "=")]
    known = subprocess.run(command, check=False, capture_output=True, timeout=_DEADLINE).returncode == 0
    return (line,) if known else ()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class OpenSSHServer(AbstractContextManager["OpenSSHServer"]):
    """One sshd with its own directory, host keys, log and authorized keys; the context starts and stops it.

    `extra_config` are lines of sshd_config; an option that stands there replaces this class's own line for it.
    Servers whose directories lie side by side share one client key. `within` is a program that becomes the one whose
    command line follows it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "box",
        sftp_only: bool = False,
        extra_config: Sequence[str] = (),
        host_key_types: Sequence[str] = ("ed25519",),
        max_startups: str = "10:30:100",
        within: Sequence[str] = (),
    ) -> None:
        self.directory = directory.absolute()
        self.name = name
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.client_key = self.directory.parent / "client_key"
        self.port = 0
        self.address = "127.0.0.1"
        self._host_keys = [self.directory / f"host_{kind}_key" for kind in host_key_types]
        self._kinds = tuple(host_key_types)
        self._extra_config = tuple(extra_config)
        self._own_config = [f"MaxStartups {max_startups}", *(["ForceCommand internal-sftp"] if sftp_only else [])]
        self._within = tuple(within)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.directory / "sshd.log"
        self._authorized = self.directory / "authorized_keys"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the master process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The master's process id; raises RuntimeError where it does not run."""
        if self._process is None:
            raise RuntimeError(f"the server {self.name} is not running")
        return self._process.pid

    @property
    def host_key_fingerprint(self) -> str:
        """The first host key's fingerprint as ssh shows it, SHA256:…."""
        command = ["ssh-keygen", "-l", "-E", "sha256", "-f", str(self._host_keys[0])]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_DEADLINE).stdout
        return shown.split()[1]

    def commands(self) -> list[int]:
        """Return the ids of the processes that clients started here and that still live, orphans of lost links too."""
        return with_environment(_MARK, str(self.directory))

    def log_text(self) -> str:
        """Return everything that sshd logged since the first start (LogLevel VERBOSE)."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Start sshd and wait until it listens; raises RuntimeError with its log where it does not come up.

        The first start picks a free port, later ones keep it.
        """
        if self.running:
            raise RuntimeError(f"the server {self.name} runs already")
        sshd = find_sshd()
        if sshd is None:
            raise RuntimeError(f"no sshd here: {_INSTALL_HINT}")
        _prepare_root()
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.client_key.exists():
            _write_client_key(self.client_key)
        if not self._authorized.exists():
            self.authorize(self.client_key)
        for kind, path in zip(self._kinds, self._host_keys, strict=True):
            if not path.exists():
                generate_key(path, kind)
        attempts = 1 if self.port else _PORT_ATTEMPTS
        for _ in range(attempts):
            start = self._log.stat().st_size if self._log.exists() else 0
            self._start_on(sshd, self.port or _free_port())
            if self._listens(start):
                return
            self._process = None
        self.port = 0
        raise RuntimeError(f"sshd of {self.name} did not come up:\n{self.log_text()}")

    def _start_on(self, sshd: Path, port: int) -> None:
        self.port = port
        config = self.directory / "sshd_config"
        config.write_text(self._config(_penalties(sshd)))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._within, str(sshd), "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # What it starts beside itself ends with it, too.
                env={**os.environ, _MARK: str(self.directory)} if self._within else None,
            )

    def _config(self, penalties: Sequence[str]) -> str:
        own = [
            f"Port {self.port}",
            f"ListenAddress {self.address}",
            *(f"HostKey {path}" for path in self._host_keys),
            f"PidFile {self.directory / 'sshd.pid'}",
            f"AuthorizedKeysFile {self._authorized}",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "PermitUserEnvironment no",
            "PrintMotd no",
            "StrictModes no",
            "UseDNS no",
            "UsePAM no",
            "LogLevel VERBOSE",
            "Subsystem sftp internal-sftp",
            # A home of its own: the user's own start files may wait for locks that a killed shell left behind.
            f"SetEnv {_MARK}={self.directory} HOME={self.directory}",
            *self._own_config,
            *penalties,
        ]
        replaced = {line.split()[0].casefold() for line in self._extra_config}
        kept = [line for line in own if line.split()[0].casefold() not in replaced]
        # A Match block reaches to the end of the file, so what a test adds comes last.
        return "\n".join([*kept, *self._extra_config]) + "\n"

    def _listens(self, start: int) -> bool:
        """Return True once sshd says that it listens, and False if it ended by itself before.

        `start`: bytes of its log that are older. A connection would be another way to find out, but costs sshd and the
        test more than all else that they do here, and would count among MaxStartups.
        """
        process = self._process
        assert process is not None
        give_up = time.monotonic() + _DEADLINE
        while time.monotonic() < give_up:
            if b"Server listening on" in self._log.read_bytes()[start:]:
                return True
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.005)
                return False
        self.kill()
        raise RuntimeError(f"sshd of {self.name} runs but does not listen:\n{self.log_text()}")

    def stop(self) -> None:
        """End the master and all its sessions with SIGTERM (SIGKILL after a deadline); nothing where none runs."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the master and all its sessions with SIGKILL, as on a box that dies (its kernel still closes sockets)."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        end_family(process.pid, how, self.commands())
        process.wait(timeout=_DEADLINE)

    def restart(self) -> None:
        """Stop, then start again on the same port with the same keys."""
        self.stop()
        self.start()

    def change_host_key(self) -> None:
        """Make new host keys; a running server restarts with them."""
        for kind, path in zip(self._kinds, self._host_keys, strict=True):
            generate_key(path, kind)
        if self.running:
            self.restart()

    def authorize(self, key: Path) -> None:
        """Let the holder of `key` (a private key's path or its .pub) log in from now on."""
        with self._authorized.open("a") as keys:
            keys.write(_public_key(key) + "\n")

    def revoke(self) -> None:
        """Let nobody log in from now on; sessions that are open stay open, as with sshd everywhere."""
        self._authorized.write_text("")


class OpenSSHFactory:
    """Starts servers side by side below one directory, with one client key; `close` ends them all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._servers = ExitStack()

    def __call__(
        self,
        name: str = "box",
        *,
        sftp_only: bool = False,
        extra_config: Sequence[str] = (),
        host_key_types: Sequence[str] = ("ed25519",),
        max_startups: str = "10:30:100",
        at: tuple[str, int] = ("127.0.0.1", 0),
        within: Sequence[str] = (),
    ) -> OpenSSHServer:
        """Return a started server called `name` (each name once); for the options see `OpenSSHServer`.

        `at`: its address of loopback and its port, 0 for a free one.
        """
        server = OpenSSHServer(
            self._directory / name,
            name=name,
            sftp_only=sftp_only,
            extra_config=extra_config,
            host_key_types=host_key_types,
            max_startups=max_startups,
            within=within,
        )
        server.address, server.port = at
        return self._servers.enter_context(server)

    def close(self) -> None:
        """End every server that was started here."""
        self._servers.close()
