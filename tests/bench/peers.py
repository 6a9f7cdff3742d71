"""What else one would use: rsync, scp, lftp and rclone, by the same key through the same port.

Command lines only. None of them reads the user's own configuration of ssh or of itself.
"""

import os
import re
import shutil
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from bench.boxes import GpuBox
from bench.timing import Unmeasurable

ALL = ("rsync", "scp", "lftp", "rclone")
_OPTIONS = (
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "IdentitiesOnly=yes",
    "BatchMode=yes",
    "LogLevel=ERROR",
)
_VERSION = {"rsync": "--version", "scp": "", "lftp": "--version", "rclone": "version"}
_NUMBER = re.compile(r"v?\d+\.\d+\S*")
_UNWANTED = ("records.jsonl*", "rollouts*.jsonl", "ratios.jsonl", "optimizer.pt", "scheduler.pt")
"""What harvestd leaves out as it comes, and these trees don't have: the peer pays for the same filter."""
_DEADLINE = 30.0


def has(program: str) -> bool:
    """Return whether this machine has it."""
    return shutil.which(program) is not None


def versions() -> dict[str, str]:
    """Return the versions of all peers that are here, and of ssh."""
    found = {"ssh": _words("ssh", "-V")}
    for program, flag in _VERSION.items():
        if has(program) and flag:
            number = _NUMBER.search(_words(program, flag))
            found[program] = number[0] if number else "?"
    return found


def _words(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_DEADLINE)
    return (done.stdout + done.stderr).strip()


def ssh_options(box: GpuBox) -> list[str]:
    """Return the options that ssh and scp share."""
    return ["-F", "none", "-i", str(box.key), *(part for each in _OPTIONS for part in ("-o", each))]


def ssh(box: GpuBox, *, control: Path | None = None) -> list[str]:
    """Return the ssh command to a box, without its name; over a ControlMaster's socket where one is given."""
    shared = [] if control is None else ["-o", f"ControlPath={control}"]
    return ["ssh", *ssh_options(box), *shared, "-p", str(box.port), "-l", box.user]


def rsync(box: GpuBox, target: Path, *extra: str, control: Path | None = None) -> list[str]:
    """Bring home all that is wanted of a box's root."""
    unwanted = [f"--exclude={each}" for each in _UNWANTED]
    remote = f"{box.server.address}:{box.root}/"
    return ["rsync", "-a", *unwanted, *extra, "-e", " ".join(ssh(box, control=control)), remote, f"{target}/"]


def scp(box: GpuBox, source: Path, target: Path) -> list[str]:
    """Copy a file or a whole directory."""
    remote = f"{box.user}@{box.server.address}:{source}"
    return ["scp", "-q", "-r", "-p", *ssh_options(box), "-P", str(box.port), remote, str(target)]


def lftp(box: GpuBox, target: Path) -> list[str]:
    """Mirror a box's root, several files at once."""
    program = " ".join(["ssh", "-a", "-x", *ssh_options(box)])
    site = f"sftp://{box.user}:@{box.server.address}:{box.port}"
    script = f'set sftp:connect-program "{program}"; open {site}; mirror --parallel=8 {box.root} {target}; bye'
    return ["lftp", "--norc", "-c", script]


def rclone(box: GpuBox, target: Path) -> list[str]:
    """Copy a box's root, several files at once."""
    options = {"host": box.server.address, "port": box.port, "user": box.user, "key-file": box.key}
    flags = [part for key, value in options.items() for part in (f"--sftp-{key}", str(value))]
    return ["rclone", "copy", "--config", os.devnull, *flags, "--transfers", "8", f":sftp:{box.root}", str(target)]


class ControlMaster(AbstractContextManager["ControlMaster"]):
    """An open connection that others of OpenSSH's clients share: no handshake of their own."""

    def __init__(self, box: GpuBox, directory: Path) -> None:
        self.path = directory / "control"
        self._command = [*ssh(box, control=self.path), "-M", "-N", "-f", box.server.address]
        self._exit = [*ssh(box, control=self.path), "-O", "exit", box.server.address]

    def __enter__(self) -> Self:
        # -f: it goes to the background once it is authenticated. Nothing of ours stays open in it.
        quiet = subprocess.DEVNULL
        done = subprocess.run(self._command, check=False, stdin=quiet, stdout=quiet, stderr=quiet, timeout=_DEADLINE)
        if done.returncode != 0:
            raise Unmeasurable(f"ssh's ControlMaster did not come up: exit code {done.returncode}")
        return self

    def __exit__(self, *exc_info: object) -> None:
        subprocess.run(self._exit, check=False, capture_output=True, timeout=_DEADLINE)
