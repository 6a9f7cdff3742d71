"""Who works on the machine: people's log-ins, and what carries files. Read from /proc and utmp; nothing is asked.

Sent with the question alone, as all of `LATER` is.
"""
# pathlib has no directory handles:
# ruff: noqa: PTH115, PTH123, PTH208

import os
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
SERVERS = frozenset(("sshd", "sshd-session", "dropbear"))
CARRIERS = frozenset(
    (
        *("sftp-server", "scp", "sftp", "rsync", "rclone", "lftp", "ftp", "sshfs", "unison", "croc", "magic-wormhole"),
        *("aws", "s5cmd", "s3cmd", "s4cmd", "gsutil", "gcloud", "azcopy", "mc", "b2", "gdown"),
        *("huggingface-cli", "hf", "wget", "wget2", "curl", "aria2c", "axel"),
    )
)

# What holds a GPU for the machine, not for work on it.
GPU_KEEPERS = frozenset(("nvidia-persiste", "nv-hostengine", "dcgm-exporter", "nvidia-smi", "nvtop", "Xorg", "gpustat"))
GPU_PREFIXES = ("/dev/nvidia", "/dev/kfd")


class Processes:
    """The machine's processes at one moment."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}
        self.names: dict[int, str] = {}
        self.terminals: dict[int, int] = {}

    def above(self, pid: int) -> "Iterator[int]":
        """Give its ancestors, the nearest first."""
        seen = {pid}
        while self.parents.get(pid, 0) not in seen | {0}:
            pid = self.parents[pid]
            seen.add(pid)
            yield pid

    def own(self, pid: int) -> "set[int]":
        """Give what belongs to the connection that `pid` came by: its ancestors, and all that it started."""
        ancestors = list(self.above(pid))
        servers = [each for each in ancestors if self.names[each] in SERVERS]
        tops = {pid, *servers[:1]}
        return {each for each in self.names if each in tops or tops & set(self.above(each))} | set(ancestors)


def processes_now(proc: str = "/proc") -> "Processes | None":
    """Give all processes; None where some of them are hidden from us, or there are too many."""
    found = Processes()
    try:
        numbers = [int(name) for name in os.listdir(proc) if name.isdigit()]
        # With `hidepid` those of others are not even listed: the first of all shows it.
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
    return found if len(numbers) <= MOST_PROCESSES else None


def lives(pid: int) -> bool:
    """Tell whether a process lives, also where /proc hides it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def recorded_log_ins(utmp: str) -> "int | None":
    """Count the sessions in utmp whose process lives; None where nobody keeps one."""
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
        # screen and tmux keep sessions that nobody need look at: whoever does is there by another one.
        detached = host.startswith(b"tmux(") or (host.startswith(b":") and b":S." in host)
        count += kind == USER_PROCESS and pid > 0 and not detached and lives(pid)
    return count


def log_ins(processes: "Processes | None", utmp: str = UTMP) -> "int | None":
    """Count the sessions of people; None where nobody can tell. What has no terminal is no person: we have none."""
    recorded = recorded_log_ins(utmp)
    if processes is None:
        return recorded
    names = processes.names
    sitting = {
        terminal
        for pid, terminal in processes.terminals.items()
        if terminal and any(names.get(each) in SERVERS for each in processes.above(pid))
    }
    return max(len(sitting), recorded or 0)


def command_of(pid: int, proc: str) -> "list[bytes]":
    """Give the words of a process's command; none where they can't be read."""
    try:
        with open(f"{proc}/{pid}/cmdline", "rb") as file:
            return file.read(COMMAND_BYTES).split(b"\0")
    except OSError:
        return []


def carries(pid: int, name: str, proc: str) -> bool:
    """Tell whether a process carries files from one machine to another."""
    if name in CARRIERS:
        return True
    if name in SERVERS:
        # It serves files itself then, and says so in its title.
        return any(b"internal-sftp" in word for word in command_of(pid, proc))
    if name.startswith("python"):
        words = command_of(pid, proc)[1:3]
        return any(word.rpartition(b"/")[2].decode("utf-8", "replace") in CARRIERS for word in words)
    return False


def transfers(processes: "Processes | None", proc: str = "/proc") -> "int | None":
    """Count the processes that carry files, without those of our own connection; None where nobody can tell."""
    if processes is None:
        return None
    own = processes.own(os.getpid())
    others = [(pid, name) for pid, name in processes.names.items() if pid not in own]
    return sum(1 for pid, name in others if carries(pid, name, proc))


def gpu_users(processes: "Processes | None", proc: str = "/proc") -> int:
    """Count the processes that have a GPU open, as far as we may look: within a container nvidia-smi shows none."""
    if processes is None:
        return 0
    return sum(1 for pid, name in processes.names.items() if name not in GPU_KEEPERS and holds_gpu(pid, proc))


def holds_gpu(pid: int, proc: str) -> bool:
    """Tell whether a process has a GPU open; not where it is another user's."""
    handles = f"{proc}/{pid}/fd"
    try:
        for name in os.listdir(handles):
            if os.readlink(handles + "/" + name).startswith(GPU_PREFIXES):
                return True
    except OSError:
        return False  # not ours, or it ended
    return False
