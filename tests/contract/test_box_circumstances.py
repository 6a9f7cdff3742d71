"""What a box says for a verdict, by either way of reading it: the probe looks, SFTP alone can't."""

import os
import socket
import subprocess
from datetime import timedelta
from pathlib import Path

import anyio
import asyncssh
import pytest

from contract.connected import box_at, fill, sftp_program, training, watching
from harvestd.convention.snapshot import Tree, TreeKind
from harvestd.remote.box import Box
from harvestd.remote.circumstances import Checkout, Circumstances
from support.openssh import OpenSSHFactory, OpenSSHServer

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

LATELY = timedelta(hours=1)
PATIENCE = 30.0


def state_of(*places: Path) -> dict[str, tuple[int, ...]]:
    """Give all times and sizes of what lies below, but for what sshd itself writes."""
    found = [each for place in places for each in (place, *place.rglob("*")) if each.name not in {"sshd.log", "box"}]
    return {str(each): (s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for each in found for s in [each.lstat()]}


def device_of(place: Path) -> int:
    """Give the number of the device that a place lies on."""
    return place.stat().st_dev


async def test_what_speaks_against_switching_it_off(server: OpenSSHServer, root: Path, method: str) -> None:
    """The probe tells of files, checkouts and devices and leaves all as it was; SFTP says that it does not know."""
    device = device_of(root)
    fill(root, {"run/config.yaml": b"a: 1\n"})
    home = server.directory
    (home / "notes.md").write_bytes(b"nowhere else")
    (home / "code").mkdir()
    for words in (["init", "-q"], ["config", "user.name", "a"], ["config", "user.email", "a@example.org"]):
        subprocess.run(["git", *words], cwd=home / "code", check=True)  # noqa: ASYNC221  (short, and whichever)
    (home / "code/train.py").write_bytes(b"new")
    before = state_of(home, root)
    missing = Tree(str(root / "missing"), "eval_runs", TreeKind.EVAL)
    async with box_at(server, watching(training(root), missing)) as box:
        await box.scan()
        told = await box.circumstances(LATELY)
        again = await box.circumstances(LATELY)
        assert not (await box.scan()).changed
    assert state_of(home, root) == before
    if method == "sftp":
        assert told == again == Circumstances()
        return
    assert told.hostname == socket.gethostname()
    assert told.devices == {str(root): device}
    assert told.checkouts == again.checkouts == (Checkout(str(home / "code"), 1, 0),)
    assert told.outside is not None
    # Whether it is whole hangs on this machine's /tmp, which may hold more than is looked through.
    assert str(home / "notes.md") in told.outside.newest
    assert not [place for place in told.outside.newest if place.startswith(str(root / "training_runs"))]
    assert told.outside.size >= len(b"nowhere else")


async def test_questions_side_by_side_keep_their_answers(server: OpenSSHServer, root: Path) -> None:
    """Who asks for processes while another waits for circumstances gets a number of processes."""
    async with box_at(server, watching(training(root))) as box:
        processes: list[int | None] = []

        async def ask() -> None:
            processes.append(await box.gpu_processes())

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
            told = await box.circumstances(LATELY)
        assert processes == [told.gpu_processes] * 3
        assert (await box.facts()).free_bytes


async def _until(box: Box, part: str, least: int) -> None:
    """Return when the box counts so many of something; fails after a while."""
    with anyio.fail_after(PATIENCE):
        while (getattr(await box.circumstances(LATELY), part) or 0) < least:
            pass


async def test_people_and_their_transfers_are_seen_and_ours_are_not(
    openssh_factory: OpenSSHFactory, root: Path
) -> None:
    """A shell with a terminal is a log-in, an SFTP session of another connection a transfer; none of it is us."""
    server = openssh_factory(extra_config=[f"Subsystem sftp {sftp_program()}"])
    async with box_at(server, watching(training(root))) as box:
        before = await box.circumstances(LATELY)
        assert before.log_ins is not None
        assert before.transfers is not None
        async with asyncssh.connect(
            server.address,
            server.port,
            username=server.user,
            client_keys=[str(server.client_key)],
            known_hosts=None,
            config=None,
            agent_path=None,
        ) as person:
            async with person.create_process("sleep 1000", term_type="xterm") as shell:
                await _until(box, "log_ins", before.log_ins + 1)
                shell.terminate()
            async with person.start_sftp_client():
                await _until(box, "transfers", before.transfers + 1)


async def test_a_home_that_cannot_be_told_is_not_whole(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """What could not be looked through is not taken for empty."""
    server = openssh_factory(extra_config=['ForceCommand HOME=/; export HOME; eval "$SSH_ORIGINAL_COMMAND"'])
    async with box_at(server, watching(training(root))) as box:
        told = await box.circumstances(LATELY)
    assert told.outside is not None
    assert not told.outside.whole
    assert os.uname().nodename == told.hostname
