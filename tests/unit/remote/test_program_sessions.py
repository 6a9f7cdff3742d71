"""Log-ins and users of GPUs, as the program on the box tells them from a /proc and a utmp that are made up here."""

import os
import shlex
import struct
from pathlib import Path

import pytest

from harvestd.remote.probe import protocol
from harvestd.remote.probe.program.sessions import Processes, gpu_users, log_ins, processes_now

OURS = os.getpid()
TTY = 34816

_Row = tuple[int, int, int, str]
"""Number, parent, terminal, name."""

PROBE_COMMAND = "\0".join(shlex.split(shlex.split(protocol.command())[2].rpartition("; exec ")[2])).encode()
QUIET: list[_Row] = [(1, 0, 0, "systemd"), (50, 1, 0, "sshd")]
OUR_CONNECTION: list[_Row] = [
    (60, 50, 0, "sshd"),
    (61, 60, 0, "sshd"),
    (OURS, 61, 0, "python3"),
    (62, OURS, 0, "nvidia-smi"),
    (63, 61, 0, "sftp-server"),
]


def proc(place: Path, *rows: _Row, commands: dict[int, bytes] | None = None) -> str:
    """Make a /proc with these processes."""
    for pid, parent, terminal, name in rows:
        (place / str(pid)).mkdir(parents=True)
        (place / f"{pid}/stat").write_text(f"{pid} ({name}) S {parent} {pid} {pid} {terminal} -1 0 0\n")
        (place / f"{pid}/cmdline").write_bytes((commands or {}).get(pid, name.encode() + b"\0"))
    (place / "uptime").write_text("1 1\n")
    return str(place)


def seen(place: str) -> Processes:
    """Return the processes of a made-up /proc."""
    found = processes_now(place)
    assert found is not None
    return found


def utmp(path: Path, *records: tuple[int, int, bytes], size: int = 384) -> str:
    """Write a utmp of records: their kind, process and host."""
    head = struct.Struct("=h2xi32s4s32s256s")
    content = b"".join(head.pack(kind, pid, b"pts/0", b"", b"ubuntu", host) for kind, pid, host in records)
    rows = [content[start : start + head.size].ljust(size, b"\0") for start in range(0, len(content), head.size)]
    path.write_bytes(b"".join(rows))
    return str(path)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], 0),
        ([(70, 50, 0, "sshd"), (71, 70, TTY, "bash"), (72, 71, TTY, "vim")], 1),
        ([(70, 50, 0, "sshd"), (71, 70, TTY, "bash"), (80, 50, 0, "sshd-session"), (81, 80, TTY + 1, "bash")], 2),
        ([(70, 1, 0, "tmux: server"), (71, 70, TTY, "bash")], 0),
        ([(70, 1, 0, "jupyter-lab"), (71, 70, TTY, "bash")], 0),
        ([(70, 50, 0, "sshd"), (71, 70, TTY, "tmux: client")], 1),
        ([(70, 50, 0, "sshd"), (71, 70, 0, "rsync")], 0),
        ([(70, 71, TTY, "loop"), (71, 70, TTY, "loop")], 0),
        ([(70, 50, 0, "sshd"), (71, 70, TTY, "a) S 1 1 1 0 (b")], 1),
    ],
    ids=["none", "a shell", "two", "detached tmux", "jupyter", "attached tmux", "no terminal", "loop", "odd name"],
)
def test_log_ins_are_terminals_below_sshd(tmp_path: Path, rows: list[_Row], expected: int) -> None:
    """Where nobody keeps a utmp a session is a terminal that came by SSH; our own connection has none."""
    place = proc(tmp_path / "proc", *QUIET, *OUR_CONNECTION, *rows)
    assert log_ins(seen(place), str(tmp_path / "no utmp")) == expected


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([(2, 0, b""), (7, OURS, b"192.0.2.1")], 1),
        ([(2, 0, b""), (8, OURS, b"192.0.2.1")], 0),
        ([(2, 0, b""), (7, 2**22 + 1, b"192.0.2.1")], 0),
        ([(2, 0, b""), (7, OURS, b"tmux(99).%0"), (7, OURS, b":pts/3:S.0")], 0),
        ([(2, 0, b""), (7, OURS, b":0"), (7, OURS, b"192.0.2.1")], 2),
    ],
    ids=["living", "dead by the record", "dead by its process", "detached", "at the screen too"],
)
@pytest.mark.parametrize("size", [384, 400])
def test_log_ins_stand_in_utmp(tmp_path: Path, records: list[tuple[int, int, bytes]], expected: int, size: int) -> None:
    """A record counts while its process lives, whatever the size of a record is on that machine."""
    kept = utmp(tmp_path / "utmp", *records, size=size)
    place = proc(tmp_path / "proc", *QUIET)
    assert log_ins(seen(place), kept) == expected
    assert log_ins(None, kept) == expected


def test_nobody_can_tell_of_log_ins_without_utmp_and_proc(tmp_path: Path) -> None:
    """An empty utmp is one that nobody keeps."""
    (tmp_path / "utmp").touch()
    assert log_ins(None, str(tmp_path / "utmp")) is None


def test_hidden_processes_are_unknown(tmp_path: Path) -> None:
    """Where /proc shows us our own processes alone, there is no saying what else runs."""
    place = proc(tmp_path / "proc", (OURS, 1, 0, "python3"))
    assert processes_now(place) is None
    assert processes_now(str(tmp_path / "nothing")) is None


VSCODE = b"/home/ubuntu/.vscode-server/cli/servers/Stable-1a/server/node\0/home/ubuntu/.vscode-server/x.js\0"
CONNECTION: list[_Row] = [(70, 50, 0, "sshd"), (71, 70, 0, "sshd"), (72, 71, 0, "bash")]
"""A monitor with rights of its own, and what serves the connection."""
TITLES = {70: b"sshd: ubuntu [priv]\0", 71: b"sshd: ubuntu@notty\0"}


@pytest.mark.parametrize(
    ("rows", "commands", "expected"),
    [
        ([*CONNECTION, (90, 1, 0, "node"), (91, 90, TTY, "bash")], {90: VSCODE}, 1),
        ([*CONNECTION, (90, 1, 0, "cursor-server")], {90: b"/root/.cursor-server/bin/1/cursor-server\0"}, 1),
        ([*CONNECTION, (90, 1, 0, "java")], {90: b"/home/a/.cache/JetBrains/RemoteDev/dist/1/jbr/bin/java\0"}, 1),
        ([*CONNECTION, (90, 1, 0, "zed-remote-serv")], {90: b"/home/a/.zed_server/zed-remote-server-1\0run\0"}, 1),
        ([(90, 1, 0, "node"), (91, 90, TTY, "bash")], {90: VSCODE}, 0),
        (CONNECTION, {}, 0),
        ([(70, 50, 0, "sshd"), (71, 70, 0, "sshd"), (90, 1, 0, "node")], {90: VSCODE, 71: b"sshd: a [net]\0"}, 0),
        ([(71, 50, 0, "sshd"), (72, 71, 0, "bash"), (90, 1, 0, "node")], {90: VSCODE, 71: b"sshd: root@notty\0"}, 1),
        ([(71, 1, 0, "sshd"), (72, 71, 0, "bash"), (90, 1, 0, "node")], {90: VSCODE, 71: b"sshd: root@notty\0"}, 1),
        ([(71, 1, 0, "sshd"), (90, 1, 0, "node")], {90: VSCODE, 71: b"sshd: /usr/sbin/sshd -D [listener] 0\0"}, 0),
        ([*CONNECTION, (73, 72, TTY, "vim"), (90, 1, 0, "node")], {90: VSCODE}, 1),
        ([*CONNECTION[:2], (72, 71, 0, "python3"), (90, 1, 0, "node")], {90: VSCODE, 72: PROBE_COMMAND}, 0),
    ],
    ids=[
        *("code", "cursor", "jetbrains", "zed", "left behind", "no editor", "not logged in", "root", "by a socket"),
        *("listener", "terminal counts once", "another harvestd"),
    ],
)
def test_an_editor_counts_while_a_connection_lives(
    tmp_path: Path, rows: list[_Row], commands: dict[int, bytes], expected: int
) -> None:
    """Its server is detached, with its terminals below it: what shows a person is a connection without a terminal."""
    place = proc(tmp_path / "proc", *QUIET, *OUR_CONNECTION, *rows, commands=TITLES | commands)
    assert log_ins(seen(place), str(tmp_path / "no utmp"), place) == expected


@pytest.mark.parametrize(
    ("name", "opened", "expected"),
    [
        ("python3", ["/dev/null", "/dev/nvidia0"], 1),
        ("python3", ["/dev/kfd"], 1),
        ("python3", ["/dev/null", "socket:[1]"], 0),
        ("nvidia-persiste", ["/dev/nvidia0"], 0),
    ],
)
def test_who_has_a_gpu_open_works_on_it(tmp_path: Path, name: str, opened: list[str], expected: int) -> None:
    """Where nvidia-smi shows no process of a container, its open devices do; daemons that keep them are no work."""
    place = proc(tmp_path / "proc", *QUIET, (70, 1, 0, name))
    (tmp_path / "proc/70/fd").mkdir()
    for number, target in enumerate(opened):
        (tmp_path / f"proc/70/fd/{number}").symlink_to(target)
    assert gpu_users(seen(place), place) == expected
    assert gpu_users(None, place) == 0
