"""The configuration changes while the daemon runs: what is valid applies at once, what is not changes nothing."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.lowlevel
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.command import command, environment
from support.faults import fired
from support.house import Workstation
from support.waiting import EventLog, events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


def log_ins(workstation: Workstation, box: str) -> int:
    """Return how often somebody logged in to a box, as its sshd counted."""
    return workstation.boxes[box].server.log_text().count("Accepted publickey")


def told(event_log: EventLog, event: str, **fields: object) -> Callable[[], bool]:
    """Return the condition that an event was told."""
    return lambda: bool(events(event_log, event, **fields))


def replace(workstation: Workstation, text: str) -> None:
    """Put a file in the configuration's place by renaming, as editors do."""
    new = workstation.config.with_name("new")
    new.write_text(text)
    new.rename(workstation.config)


def writing(workstation: Workstation, box: str, day: int = 20) -> RunWriter:
    """Start a run on a box."""
    writer = RunWriter(workstation.boxes[box].root, RunSpec(timestamp=f"2025-08-{day}_03-31-43", gns_probe=False))
    writer.start()
    writer.log_until(2)
    return writer


async def test_hosts_come_change_and_go_and_the_others_keep_their_connection(workstation: Workstation) -> None:
    """A host that is added is harvested, one that changes is reached anew, one that leaves is let go."""
    workstation.add_box("gpu-a")
    first = writing(workstation, "gpu-a")
    async with workstation.running() as event_log:
        await until(workstation.follows(first))

        workstation.add_box("gpu-b")
        second = writing(workstation, "gpu-b", 21)
        workstation.settings()
        await until(told(event_log, "config.reloaded", added=("hosts[gpu-b]",), removed=(), changed=()))
        await until(workstation.follows(second))

        text = workstation.config.read_text()
        replace(workstation, text.replace('name = "gpu-b"', 'name = "gpu-b"\nkeepalive = "7s"'))
        await until(told(event_log, "config.reloaded", changed=("hosts[gpu-b].keepalive",)))
        await until(lambda: len(events(event_log, "host.connected", host="gpu-b")) == 2)
        second.log_step(3)
        await until(workstation.follows(second))

        del workstation.boxes["gpu-b"]
        gone = second.train_log.read_bytes()
        workstation.settings()
        await until(told(event_log, "config.reloaded", removed=("hosts[gpu-b]",)))
        second.log_step(4)
        first.log_step(3)
        await until(workstation.follows(first))
        assert workstation.has(first.train_log, first.run.name, "logs", "train_log.jsonl")()
        here = workstation.training(second.run.name) / "logs" / "train_log.jsonl"
        assert here.read_bytes() == gone

        assert len(events(event_log, "host.appeared")) == 2
        assert len(events(event_log, "host.connected", host="gpu-a")) == 1
    assert log_ins(workstation, "gpu-a") == 1
    assert events(event_log, "config.rejected") == []
    workstation.audit()


async def test_limits_selection_and_names_apply_from_the_next_look(workstation: Workstation) -> None:
    """What was left out comes when it is selected, a new run takes the new name, and no host is reached anew."""
    workstation.add_box("gpu-a")
    first = writing(workstation, "gpu-a")
    async with workstation.running(select={"tensorboard": False}):
        log = ("logs", "train_log.jsonl")
        await until(workstation.has(first.train_log, first.run.name, *log))
        assert not (workstation.training(first.run.name) / "tensorboard").exists()
        workstation.settings(
            select={"tensorboard": True},
            naming={"default_experiment": "other"},
            limits={"memory": "64MiB", "bandwidth": "20MiB/s", "connecting": 2, "free_space": "2MiB"},
        )
        await until(workstation.follows(first))
        second = writing(workstation, "gpu-a", 21)
        await until(workstation.follows(second))
    assert workstation.training(second.run.name).parent.name.startswith("other_")
    assert log_ins(workstation, "gpu-a") == 1
    workstation.audit()


@pytest.mark.parametrize("asked", [False, True], ids=["file", "HUP"])
async def test_an_invalid_configuration_changes_nothing_and_every_problem_is_told(
    workstation: Workstation, *, asked: bool
) -> None:
    """Of a file with three problems all three are told, with file and key; hosts and limits stay as they were."""
    workstation.add_box("gpu-a")
    writer = writing(workstation, "gpu-a")
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        good = workstation.config.read_text()
        bad = good.replace('"300ms"', '"soon"').replace("[limits]", "[limits]\nmemory = 1\ncolour = 3")
        replace(workstation, bad.replace('name = "gpu-a"', 'name = "gpu-z"'))
        if asked:
            os.kill(os.getpid(), signal.SIGHUP)
        await until(told(event_log, "config.rejected"))
        fired(39)
        problems = events(event_log, "config.rejected")[0]["problems"]
        for key in ("poll.settle", "limits.memory", "limits.colour"):
            (problem,) = (each for each in problems if key in each)
            assert problem.startswith(f"{workstation.config}: ")
        writer.log_step(3)
        await until(workstation.follows(writer))
        assert events(event_log, "config.reloaded") == []
        assert {str(one["host"]) for one in events(event_log, "host.appeared")} == {"gpu-a"}
        replace(workstation, good)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(told(event_log, "config.reloaded", added=(), removed=(), changed=()))
    assert log_ins(workstation, "gpu-a") == 1
    workstation.audit()


async def test_what_cannot_move_is_rejected_with_the_way_out(workstation: Workstation) -> None:
    """Another data root or state directory needs a restart; what else the file says does not apply either."""
    async with workstation.running() as event_log:
        text = workstation.config.read_text().replace(str(workstation.data), "/elsewhere").replace("1s", "2s")
        replace(workstation, text.replace("version = 1", 'version = 1\nstate_dir = "/state"'))
        await until(told(event_log, "config.rejected"))
        (rejected,) = events(event_log, "config.rejected")
        assert ["data_root" in rejected["problems"][0], "state_dir" in rejected["problems"][1]] == [True, True]
        assert all("restart the daemon" in problem for problem in rejected["problems"])
        assert events(event_log, "config.reloaded") == []
    workstation.settings()
    workstation.audit()


async def test_a_burst_of_saves_is_one_reload(workstation: Workstation) -> None:
    """Twenty saves, half of them half-written, are read once: nothing is rejected, and the last content applies."""
    workstation.add_box("gpu-a")
    writer = writing(workstation, "gpu-a")
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        good = workstation.config.read_text()
        versions = set()
        for turn in range(20):
            text = good.replace("[poll]", f"[poll]\npush = false\n# {turn}")
            workstation.config.write_text(text[: len(text) // 2])
            workstation.config.write_text(text) if turn % 2 else replace(workstation, text)
            versions.add((workstation.config.stat().st_mtime_ns, workstation.config.stat().st_ino))
            await anyio.lowlevel.checkpoint()
        assert len(versions) == 20
        fired(40)
        await until(told(event_log, "config.reloaded", changed=("poll.push",)))
        writer.log_step(3)
        await until(workstation.follows(writer))
    assert len(events(event_log, "config.reloaded")) == 1
    assert events(event_log, "config.rejected") == []
    workstation.audit()


async def test_a_file_that_is_deleted_is_told_once_and_comes_back(workstation: Workstation) -> None:
    """Without its file the daemon goes on by what it knows; the file that stands there again applies."""
    workstation.add_box("gpu-a")
    writer = writing(workstation, "gpu-a")
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        good = workstation.config.read_text()
        workstation.config.unlink()
        await until(told(event_log, "config.rejected"))
        assert "can't be read" in events(event_log, "config.rejected")[0]["problems"][0]
        writer.log_step(3)
        await until(workstation.follows(writer))
        workstation.config.write_text(good.replace('"300ms"', '"400ms"'))
        await until(told(event_log, "config.reloaded", changed=("poll.settle",)))
    assert len(events(event_log, "config.rejected")) == 1
    assert log_ins(workstation, "gpu-a") == 1
    workstation.audit()


async def test_flags_and_variables_stay_over_the_file_and_a_link_is_followed(
    workstation: Workstation, tmp_path: Path
) -> None:
    """Behind a link the file is seen to change all the same; what was said elsewhere holds against it."""
    workstation.settings()
    target = tmp_path / "dotfiles" / "h.toml"
    target.parent.mkdir()
    workstation.config.rename(target)
    workstation.config.symlink_to(target)
    log = tmp_path / "log"
    with command_of(workstation, log) as process:
        await until(lambda: "service.started" in log.read_text())
        text = target.read_text().replace('interval = "1s"', 'interval = "9s"').replace('"300ms"', '"400ms"')
        target.write_text(text.replace("[limits]", "[limits]\nconnecting = 5"))
        await until(lambda: "config.reloaded" in log.read_text())
        (line,) = (each for each in log.read_text().splitlines() if "config.reloaded" in each)
        assert json.loads(line)["changed"] == ["poll.settle"]
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None, seconds=5)
    assert process.returncode == 0


@contextmanager
def command_of(workstation: Workstation, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command with one key set by a flag and one by a variable."""
    arguments = command("run", "-c", workstation.config, "--set", "limits.connecting=3")
    with log.open("w") as out:
        process = subprocess.Popen(arguments, stdout=out, env=environment(HARVESTD_POLL__INTERVAL="2s"))
    try:
        yield process
    finally:
        process.kill()
        process.wait()
