"""Count the log-ins on the machine, and the processes on its GPUs, from /proc and utmp.

Sent only with the request, as all of `LATER` is.
"""
# pathlib has no directory handles:
# ruff: noqa: PTH115, PTH123, PTH208

import os
import re
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

UTMP = "/var/run/utmp"
UTMP_HEAD = struct.Struct("=h2xi32s4s32s256s")
# of a record: with 32-bit times, and with 64-bit ones (aarch64)
UTMP_SIZES = (384, 400)
UTMP_BYTES = 400 * 384 * 10
USER_PROCESS = 7
MOST_PROCESSES = 100000
COMMAND_BYTES = 4096
EDITOR_WORDS = 8  # of a command: a program's own path, its interpreter's, and a few options before it
STARTED = 19  # index, after the name, of a process's start time
SERVERS = frozenset(("sshd", "sshd-session", "dropbear"))
PROBE = b"zlib.decompress(sys.stdin.buffer.read("
# The servers of editors that work over SSH: ~/.vscode-server, .cursor-server, .windsurf-server …, JetBrains and Zed.
EDITORS = re.compile(rb"/\.[a-z]+(-[a-z]+)*[-_]server(-[a-z]+)?/|JetBrains/RemoteDev|/remote-dev-server|/code-server/")

# Programs that hold a GPU for the machine, not for work on it.
GPU_KEEPERS = frozenset(("nvidia-persiste", "nv-hostengine", "dcgm-exporter", "nvidia-smi", "nvtop", "Xorg", "gpustat"))
GPU_PREFIXES = ("/dev/nvidia", "/dev/kfd")


class Processes:
    """The machine's processes at one moment."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}
        self.names: dict[int, str] = {}
        self.terminals: dict[int, int] = {}
        self.started: dict[int, int] = {}

    def above(self, pid: int) -> "Iterator[int]":
        """Yield a process's ancestors, the nearest first."""
        seen = {pid}
        while self.parents.get(pid, 0) not in seen | {0}:
            pid = self.parents[pid]
            seen.add(pid)
            yield pid

    def own(self, pid: int) -> "set[int]":
        """Return the processes of the connection of `pid`: its ancestors, and all that the connection started."""
        ancestors = list(self.above(pid))
        servers = [each for each in ancestors if self.names[each] in SERVERS]
        tops = {pid, *servers[:1]}
        return {each for each in self.names if each in tops or tops & set(self.above(each))} | set(ancestors)


def processes_now(proc: str = "/proc") -> "Processes | None":
    """Return all processes; None where some of them are hidden, or there are too many."""
    found = Processes()
    try:
        numbers = [int(name) for name in os.listdir(proc) if name.isdigit()]
        # With hidepid other users' processes are not even listed: process 1 shows whether it is set.
        with open(proc + "/1/stat", "rb"):
            pass
    except OSError:
        return None
    for number in numbers[:MOST_PROCESSES]:
        try:
            with open(f"{proc}/{number}/stat", "rb") as file:
                line = file.read(COMMAND_BYTES)
        except PermissionError:
            return None
        except OSError:
            continue  # it has ended
        # A name may hold brackets and spaces of its own.
        name, _, rest = line.partition(b"(")[2].rpartition(b")")
        fields = rest.split()
        found.names[number] = name.decode("utf-8", "replace")
        found.parents[number] = int(fields[1])
        found.terminals[number] = int(fields[4])
        found.started[number] = int(fields[STARTED]) if len(fields) > STARTED else 0
    return found if len(numbers) <= MOST_PROCESSES else None


def lives(pid: int) -> bool:
    """Return whether a process is alive, also where /proc hides it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def recorded_log_ins(utmp: str) -> "int | None":
    """Count the sessions in utmp whose process is alive; None where there is no utmp."""
    try:
        with open(utmp, "rb") as file:
            table = file.read(UTMP_BYTES)
    except OSError:
        return None
    sizes = UTMP_SIZES if os.uname().machine != "aarch64" else UTMP_SIZES[::-1]
    size = next((each for each in sizes if len(table) % each == 0), 0)
    if not table or not size:
        return None
    count = 0
    for start in range(0, len(table), size):
        kind, pid, _, _, _, host = UTMP_HEAD.unpack_from(table, start)
        # screen and tmux keep sessions that may be unattended; an attached one has another session as well.
        detached = host.startswith(b"tmux(") or (host.startswith(b":") and b":S." in host)
        count += kind == USER_PROCESS and pid > 0 and not detached and lives(pid)
    return count


def log_ins(processes: "Processes | None", utmp: str = UTMP, proc: str = "/proc") -> "int | None":
    """Return the number of sessions of people; None where that is unknown.

    A session is a terminal below an SSH server, or a connection without one while an editor's server runs: that server
    is detached, and its terminals are not below the connection. harvestd's own connections have no terminal, and do not
    count.
    """
    recorded = recorded_log_ins(utmp)
    if processes is None:
        return recorded
    names = processes.names
    sitting = {
        terminal
        for pid, terminal in processes.terminals.items()
        if terminal and any(names.get(each) in SERVERS for each in processes.above(pid))
    }
    return max(len(sitting), recorded or 0) + edited(processes, proc)


def edited(processes: Processes, proc: str) -> int:
    """Return the number of connections that may belong to an editor whose server runs here."""
    connections = without_terminal(processes, proc)
    if not connections:
        return 0
    editors = any(
        EDITORS.search(b"\0".join(command_of(pid, proc)[:EDITOR_WORDS]))
        for pid, name in processes.names.items()
        if name not in SERVERS
    )
    return len(connections) if editors else 0


def without_terminal(processes: Processes, proc: str) -> "list[int]":
    """Return the processes that serve a connection without a terminal, except harvestd's."""
    names, terminals = processes.names, processes.terminals
    own = processes.own(os.getpid())
    below: dict[int, list[int]] = {pid: [] for pid, name in names.items() if name in SERVERS}
    for pid in names:
        for server in processes.above(pid):
            if server in below:
                below[server].append(pid)
    found = []
    for pid, held in below.items():
        # The listener, and a privileged monitor process, have a server below them.
        if pid in own or any(each in below for each in held):
            continue
        if any(terminals[each] for each in held) or any(is_probe(each, proc) for each in held):
            continue
        title = b" ".join(command_of(pid, proc))
        # [net], [accepted]: before the log-in. @pts/0: a terminal that was just opened. A server that no other server
        # started is the listener, unless systemd starts a server for each connection.
        started = b"@notty" in title or names.get(processes.parents[pid]) in SERVERS
        if started and b"[" not in title and b"@pts/" not in title:
            found.append(pid)
    return found


def is_probe(pid: int, proc: str) -> bool:
    """Return whether a process is harvestd's own program, of this connection or another."""
    return any(PROBE in word for word in command_of(pid, proc))


def command_of(pid: int, proc: str) -> "list[bytes]":
    """Return the words of a process's command; none where they can't be read."""
    try:
        with open(f"{proc}/{pid}/cmdline", "rb") as file:
            return file.read(COMMAND_BYTES).split(b"\0")
    except OSError:
        return []


def gpu_users(processes: "Processes | None", proc: str = "/proc") -> int:
    """Count the processes that have a GPU open, as far as readable: in a container nvidia-smi shows none."""
    if processes is None:
        return 0
    return sum(1 for pid, name in processes.names.items() if name not in GPU_KEEPERS and holds_gpu(pid, proc))


def holds_gpu(pid: int, proc: str) -> bool:
    """Return whether a process has a GPU open; False where it is another user's."""
    handles = f"{proc}/{pid}/fd"
    try:
        for name in os.listdir(handles):
            if os.readlink(handles + "/" + name).startswith(GPU_PREFIXES):
                return True
    except OSError:
        return False  # another user's, or it ended
    return False
