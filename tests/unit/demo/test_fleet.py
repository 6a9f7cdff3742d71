"""The embedded fleet answers as boxes do, and leaves nothing behind."""

import hashlib
import signal
import time
from pathlib import Path

import anyio
import asyncssh
import pytest

from harvestd.demo import story
from harvestd.demo.fleet import Box, Fleet

pytestmark = pytest.mark.anyio


async def connect(fleet: Fleet, box: Box) -> asyncssh.SSHClientConnection:
    """Connect to a box with the fleet's key; the host key is not checked here."""
    with anyio.fail_after(60):
        return await asyncssh.connect(
            box.address,
            box.port,
            username="ubuntu",
            client_keys=[str(fleet.client_key)],
            known_hosts=None,
            config=[],
            agent_path=None,
        )


async def until_gone(pid: int) -> None:
    """Wait until no process of that id runs (a zombie that waits for its parent does not run)."""
    with anyio.fail_after(60):
        while True:
            try:
                stat = await anyio.Path(f"/proc/{pid}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                return
            if stat.rpartition(")")[2].split()[0] == "Z":
                return
            await anyio.sleep(0.01)


def tree(root: Path) -> dict[str, str]:
    """Return what lies below `root`: the hash of each file, the target of each link."""
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


async def test_commands_run_with_binary_input_and_output(tmp_path: Path) -> None:
    """A command gets the client's bytes untouched, gives its own, and its status arrives."""
    data = bytes(range(256)) * 4096
    async with Fleet(tmp_path) as fleet, await connect(fleet, fleet.box("gpu-a")) as connection:
        with anyio.fail_after(60):
            echoed = await connection.run("cat", input=data, encoding=None)
            assert echoed.stdout == data
            failed = await connection.run("echo oops >&2; exit 7")
            assert (failed.exit_status, failed.stderr) == (7, "oops\n")
            ended = await connection.run("kill -TERM $$")
            assert ended.exit_status == 128 + signal.SIGTERM


async def test_commands_see_the_box_and_not_this_machine(tmp_path: Path) -> None:
    """A command's home is the box's directory, its environment is the box's, its GPUs are made up."""
    async with Fleet(tmp_path) as fleet, await connect(fleet, fleet.box("gpu-b")) as connection:
        with anyio.fail_after(60):
            home = await connection.run('echo "$HOME"; pwd; ls localfs')
            smi = await connection.run("nvidia-smi --query-gpu=name --format=csv,noheader")
            busy = await connection.run("nvidia-smi --query-compute-apps=pid --format=csv,noheader")
            environment = await connection.run("env")
    assert str(home.stdout).split() == [str(tmp_path / "gpu-b")] * 2 + ["eval_runs", "training_runs"]
    assert str(smi.stdout).splitlines() == ["NVIDIA A100-SXM4-80GB"] * 8
    assert busy.stdout == ""
    assert "SSH_AUTH_SOCK" not in str(environment.stdout)


async def test_command_is_killed_with_its_children_when_the_channel_closes(tmp_path: Path) -> None:
    """A client that goes away takes its command and the command's children with it."""
    async with Fleet(tmp_path) as fleet, await connect(fleet, fleet.box("gpu-a")) as connection:
        with anyio.fail_after(60):
            process = await connection.create_process("sleep 1000 & echo $!; echo $$; wait")
            pids = [int(await process.stdout.readline()) for _ in range(2)]
            process.close()
        for pid in pids:
            await until_gone(pid)


async def test_command_that_ignores_its_input_is_no_trouble(tmp_path: Path) -> None:
    """A command that ends without reading what it was sent ends well."""
    async with Fleet(tmp_path) as fleet, await connect(fleet, fleet.box("gpu-a")) as connection:
        with anyio.fail_after(60):
            result = await connection.run("echo done", input=b"x" * 1_000_000, encoding=None)
        assert (result.exit_status, result.stdout) == (0, b"done\n")


async def test_a_box_that_dies_drops_its_connections_and_the_others_live(tmp_path: Path) -> None:
    """Stopping one box ends its listening, connections and commands; its siblings notice nothing."""
    async with Fleet(tmp_path) as fleet:
        dying, living = await connect(fleet, fleet.box("gpu-a")), await connect(fleet, fleet.box("gpu-b"))
        process = await dying.create_process("echo $$; exec sleep 1000")
        pid = int(await process.stdout.readline())
        await fleet.stop_box("gpu-a")
        with anyio.fail_after(60):
            await dying.wait_closed()
            await until_gone(pid)
            with pytest.raises(ConnectionRefusedError):
                await connect(fleet, fleet.box("gpu-a"))
            assert (await living.run("echo alive")).stdout == "alive\n"


async def test_leaving_the_fleet_ends_everything(tmp_path: Path) -> None:
    """After the context no command runs, open connections are cut, and time is not wasted."""
    with anyio.fail_after(60):
        async with Fleet(tmp_path) as fleet:
            connection = await connect(fleet, fleet.box("gpu-a"))
            process = await connection.create_process("echo $$; exec sleep 1000")
            pid = int(await process.stdout.readline())
            before = time.monotonic()
        assert time.monotonic() - before < 30
        await connection.wait_closed()
        await until_gone(pid)


async def test_third_box_offers_read_only_sftp_alone(tmp_path: Path) -> None:
    """gpu-c shows its files over SFTP, refuses every change, and runs nothing."""
    async with Fleet(tmp_path) as fleet, await connect(fleet, fleet.box("gpu-c")) as connection:
        box = fleet.box("gpu-c")
        (box.root / "file").write_text("metrics")
        path = bytes(box.root / "file")
        with anyio.fail_after(60):
            async with connection.start_sftp_client() as sftp:
                async with sftp.open(path) as file:
                    assert await file.read() == "metrics"
                for attempt in (
                    sftp.open(path, "r+"),
                    sftp.open(path + b"2", "w"),
                    sftp.remove(path),
                    sftp.rename(path, path + b"2"),
                    sftp.posix_rename(path, path + b"2"),
                    sftp.mkdir(path + b"2"),
                    sftp.rmdir(bytes(box.root / "eval_runs")),
                    sftp.symlink(path, path + b"2"),
                    sftp.link(path, path + b"2"),
                    sftp.chmod(path, 0o777),
                ):
                    with pytest.raises(asyncssh.SFTPPermissionDenied):
                        await attempt
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.run("true")
        assert tree(box.root) == {"file": hashlib.sha256(b"metrics").hexdigest()}


async def test_only_the_fleets_key_opens_it(tmp_path: Path) -> None:
    """Another key is refused, and the fleet's key is readable by its owner alone."""
    async with Fleet(tmp_path, boxes=1) as fleet:
        assert fleet.client_key.stat().st_mode & 0o077 == 0
        box = fleet.box("gpu-a")
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(
                box.address,
                box.port,
                client_keys=[asyncssh.generate_private_key("ssh-ed25519")],
                known_hosts=None,
                config=[],
                agent_path=None,
            )


async def test_fleet_has_as_many_boxes_as_asked(tmp_path: Path) -> None:
    """Boxes are named in order and listen on loopback ports of their own; an empty fleet is refused."""
    async with Fleet(tmp_path, boxes=4) as fleet:
        assert [box.name for box in fleet.boxes] == ["gpu-a", "gpu-b", "gpu-c", "gpu-d"]
        assert {box.address for box in fleet.boxes} == {"127.0.0.1"}
        assert len({box.port for box in fleet.boxes}) == 4
    with pytest.raises(ValueError, match="boxes"):
        Fleet(tmp_path, boxes=0)


async def test_story_ends_the_same_at_any_pace(tmp_path: Path) -> None:
    """Two tellings leave the same bytes on the boxes, finished runs and all evals among them."""
    ends = []
    for pace, name in ((0.0, "at-once"), (0.02, "slower")):
        async with Fleet(tmp_path / name) as fleet:
            with anyio.fail_after(30):
                await story.play(fleet, pace)
            ends.append({box.name: tree(box.root) for box in fleet.boxes})
    assert ends[0] == ends[1]
    training = f"training_runs/{story.TRAINING.name}/training_state"
    assert ends[0]["gpu-a"][f"{training}/step_latest"] == "step_final"
    assert f"{training}/step_40/training_info.json" in ends[0]["gpu-a"]
    sealed = [name for name in ends[0]["gpu-a"] if name.endswith("run_meta.json")]
    assert len(sealed) == len(story.TRAINING_EVAL_STEPS) + 1
    batch = f"eval_runs/{story.BATCH.name}_gsm8k/results"
    assert f"{batch}/consolidated_summary.json" in ends[0]["gpu-b"]
    quiet = f"training_runs/{story.QUIET.name}/training_state"
    assert f"{quiet}/step_15/optimizer.pt" in ends[0]["gpu-c"]
    assert f"{quiet}/step_15/training_info.json" not in ends[0]["gpu-c"]
