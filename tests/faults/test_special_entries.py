"""Links, special files and modes on a box with a real OpenSSH: nothing is followed, opened or taken over."""

import os
import socket
import stat
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.faults import fired
from support.house import Workstation
from support.lying import settled
from support.surroundings import untouched

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
FINAL = Path("training_state/step_final")
BOTH = pytest.mark.parametrize("sftp_only", [False, True], ids=["probe", "sftp"])


def write_run(root: Path) -> RunWriter:
    """Write a whole run."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(3)
    writer.finish()
    return writer


@BOTH
async def test_links_that_lead_out(workstation: Workstation, *, sftp_only: bool) -> None:
    """A link is listed and left out, wherever it leads; neither what it points at nor what lies below comes home."""
    box = workstation.add_box(sftp_only=sftp_only)
    writer = write_run(box.root)
    secret = workstation.data.with_name("secret")
    secret.mkdir()
    (secret / "optimizer.pt").write_text("the secret of the machine")
    model = writer.directory / FINAL / "model"
    links = {
        model / "shadow": "/etc/shadow",
        model / "parent": "..",
        model / "itself": "itself",
        model / "tree": str(box.root / "training_runs"),
        model / "file": str(secret / "optimizer.pt"),
        model / "far": str(secret),
        model / "ours": str(workstation.data),
        model / "long": "x/" * 2000,
        writer.directory / "tensorboard" / "events.out.tfevents.1.link.1.0": str(secret / "optimizer.pt"),
        writer.directory / "training_state" / "step_9": str(secret),
        writer.directory.with_name("run_2025-08-21_00-00-00"): str(secret),
        writer.directory.with_name("run_2025-08-22_00-00-00"): str(writer.directory),
        box.root / "eval_runs": str(secret),
    }
    for path, target in links.items():
        path.symlink_to(target)
    (writer.directory / "training_state" / "step_latest").unlink(missing_ok=True)
    (writer.directory / "training_state" / "step_latest").symlink_to("../../../../../passwd")
    settled(box.root)
    with untouched(workstation):
        await workstation.once()
    assert workstation.stands(RUN.name, str(FINAL / "model/adapter_model.safetensors"))()
    fired(49)
    filed = workstation.filed()
    assert not any("secret" in str(content) for content in filed.values())
    names = {Path(path).name for path in filed}
    assert not names & {path.name for path in links}
    assert not [path for path in filed if "step_latest" in path or "step_9" in path]
    reasons = {str(reason) for (reason,) in workstation.catalogue("SELECT reason FROM left_out")}
    assert any("link" in reason for reason in reasons), reasons
    workstation.audit()


@BOTH
async def test_special_files(workstation: Workstation, *, sftp_only: bool) -> None:
    """FIFOs, sockets and devices are never opened, wherever a file is wanted; the rest comes home."""
    box = workstation.add_box(sftp_only=sftp_only)
    writer = write_run(box.root)
    model = writer.directory / FINAL / "model"
    os.mkfifo(model / "fifo")
    os.mkfifo(writer.directory / "tensorboard" / "events.out.tfevents.1.fifo.1.0")
    os.mkfifo(writer.directory / "resume_config.yaml")
    other = writer.directory.with_name("run_2025-08-21_00-00-00")
    other.mkdir()
    os.mkfifo(other / "config.yaml")
    # A socket's path may have 107 bytes only.
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as one:
        os.chdir(model)
        try:
            one.bind("socket")
        finally:
            os.chdir(here)
    special = {"fifo", "socket", "resume_config.yaml", "events.out.tfevents.1.fifo.1.0"}
    if os.geteuid() == 0:
        os.mknod(model / "null", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        special.add("null")
    settled(box.root)
    with untouched(workstation):
        await workstation.once()
    assert workstation.stands(RUN.name, str(FINAL / "model/adapter_model.safetensors"))()
    fired(50)
    assert not {Path(path).name for path in workstation.filed()} & special
    workstation.audit()


@BOTH
async def test_modes(workstation: Workstation, *, sftp_only: bool) -> None:
    """Files and directories have our modes, whatever theirs are: no setuid, nothing executable, not for everyone."""
    box = workstation.add_box(sftp_only=sftp_only)
    writer = write_run(box.root)
    for place, folders, files in os.walk(writer.directory):
        for name in folders:
            (Path(place) / name).chmod(0o7777)
        for name in files:
            if not (Path(place) / name).is_symlink():
                (Path(place) / name).chmod(0o6777)
    (writer.directory / FINAL / "model" / "README.md").chmod(0o7000)
    settled(box.root)
    mask = os.umask(0o077)
    try:
        with untouched(workstation):
            await workstation.once()
    finally:
        os.umask(mask)
    config = workstation.training(RUN.name) / "config.yaml"
    assert (writer.directory / "config.yaml").stat().st_mode & 0o7777 == 0o6777
    fired(51)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    for path in (workstation.experiment(RUN.name) or Path()).rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert path.is_symlink() or mode == (0o700 if path.is_dir() else 0o600), (path, oct(mode))
    workstation.audit()
