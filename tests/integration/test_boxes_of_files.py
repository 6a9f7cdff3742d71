"""A file of targets before real boxes: the daemon follows it, and every command knows its boxes and its problems."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.command import harvestd_command
from support.house import Workstation
from support.openssh import OpenSSHServer
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


def group(server: OpenSSHServer, name: str, **labels: str) -> dict[str, object]:
    """Return the group of a box."""
    return {"targets": [f"127.0.0.1:{server.port}"], "labels": {"name": name, "user": server.user, **labels}}


class Targets:
    """Boxes that stand in no table, before one directory, and the file that names them."""

    def __init__(self, workstation: Workstation) -> None:
        self.workstation = workstation
        self.file = workstation.config.with_name("targets.json")
        self.root = workstation.config.with_name("shared")
        self.servers = {name: workstation.add_box(name, root=self.root).server for name in ("gpu-a", "gpu-b")}
        workstation.boxes.clear()

    def sections(self) -> dict[str, dict[str, object]]:
        """Return what the configuration says beside the usual."""
        key = str(self.servers["gpu-a"].client_key)
        return {
            "targets": {"files": ["targets.json"]},
            "ssh": {"identity_files": [key]},
            "remote": {"roots": [str(self.root)]},
        }

    def write(self, *groups: dict[str, object]) -> None:
        """Rename a file with these groups into place."""
        new = self.file.with_name("new")
        new.write_text(json.dumps(groups))
        new.rename(self.file)


@pytest.fixture
def targets(workstation: Workstation) -> Targets:
    """Return two boxes and no file yet."""
    return Targets(workstation)


async def test_boxes_of_a_file_come_change_and_go(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file names is watched under its id; labels that only name things leave the connection as it is."""
    monkeypatch.setattr("harvestd.settings.reload.QUIET", 50)
    monkeypatch.setattr("harvestd.inventory.file_sd.SECOND_CHECK", timedelta(seconds=0.2))
    a, b = targets.servers["gpu-a"], targets.servers["gpu-b"]
    run = RunWriter(targets.root, RunSpec(total_steps=64))
    run.start()
    run.log_until(2)
    async with targets.workstation.running(**targets.sections()) as event_log:
        await until(lambda: events(event_log, "inventory.failed", source="targets"))
        targets.write(group(a, "gpu-a", storage="fs", experiment="from_label", hardware="2x_a100"))
        await until(targets.workstation.follows(run))
        await until(lambda: events(event_log, "inventory.recovered", source="targets"))
        targets.write(
            group(a, "gpu-a", storage="fs", experiment="another", hardware="2x_a100"), group(b, "gpu-b", storage="fs")
        )
        await until(lambda: events(event_log, "host.connected", host="gpu-b"))
        targets.file.write_text("[{")
        await until(lambda: len(events(event_log, "inventory.failed")) == 2)
        run.log_until(4)
        await until(targets.workstation.follows(run))
        targets.write(group(b, "gpu-b", storage="fs"))
        await until(lambda: events(event_log, "host.gone", host="gpu-a"))
        run.log_until(6)
        await until(targets.workstation.follows(run))
        targets.write(group(b, "gpu-b", storage="fs"), group(a, "gpu-a", id="another-box", storage="fs"))
        await until(lambda: events(event_log, "host.replaced", host="gpu-a", old="targets:gpu-a"))
        await until(lambda: len(events(event_log, "host.connected", host="gpu-a")) == 2)
        assert len(events(event_log, "host.pinned")) == 3
        assert len(events(event_log, "host.connected", host="gpu-b")) == 1
    assert a.log_text().count("Accepted publickey") == 2
    (home,) = targets.workstation.data.glob("*/training_run")
    assert "2x_a100" in home.parent.name
    targets.workstation.audit()


async def test_commands_know_the_boxes_of_files_and_their_problems(targets: Targets) -> None:
    """`check`, `doctor`, `plan` and `once` ask the files; one that is bad is told, and the others' boxes are met."""
    targets.write(group(targets.servers["gpu-a"], "gpu-a"))
    sections = targets.sections()
    sections["targets"] = {"files": ["targets.json", "other.yaml"]}
    targets.workstation.settings(**sections)
    other = targets.file.with_name("other.yaml")
    reported: dict[str, str] = {}
    for content, code in (("[]", 0), ("- labels: {name: '\x1b[2J'}", 3)):
        other.write_text(content)
        for words, ends in (("check", 0), ("doctor", code), ("plan", code), ("once", code)):
            ended = harvestd_command(words, "-c", targets.workstation.config, "--json", cwd=None)
            assert ended.code == ends, ended.err
            reported[words] = ended.out + ended.err
            assert "\x1b" not in reported[words]
            assert (str(other) in reported[words]) == bool(code)
    assert json.loads(harvestd_command("check", "-c", targets.workstation.config, "--json", cwd=None).out)["hosts"] == 1
    assert harvestd_command("once", "gpu-a", "-c", targets.workstation.config, cwd=None).code == 3
    other.write_text("[]")
    assert harvestd_command("once", "gpu-a", "-c", targets.workstation.config, cwd=None).code == 0
    assert "1 host of files" in harvestd_command("doctor", "-c", targets.workstation.config, cwd=None).out


async def test_box_that_gets_another_name_is_not_gone(
    workstation: Workstation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs are its own under any name: a silent one is not taken for dead, and its name follows its facts."""
    monkeypatch.setattr("harvestd.settings.reload.QUIET", 50)
    monkeypatch.setattr("harvestd.inventory.file_sd.SECOND_CHECK", timedelta(seconds=0.2))
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\ncase $1 in *compute-apps*) echo 4001;; *) echo NVIDIA H100;; esac\n")
    smi.chmod(0o755)
    with_path = f'ForceCommand export PATH="{smi.parent}:$PATH"; eval "$SSH_ORIGINAL_COMMAND"'
    box = workstation.add_box(extra_config=[with_path])
    workstation.boxes.clear()
    run = RunWriter(box.root, RunSpec(total_steps=8))
    run.start()
    run.log_until(3)
    run.checkpoint(3)
    run.log_until(4)
    file = workstation.config.with_name("targets.json")
    file.write_text(json.dumps([group(box.server, "gpu-a", id="i-1")]))
    sections: dict[str, dict[str, object]] = {
        "targets": {"files": ["targets.json"]},
        "ssh": {"identity_files": [str(box.server.client_key)]},
        "remote": {"roots": [str(box.root)]},
        "verdict": {"idle_for": "1s"},
    }
    async with workstation.running(**sections) as event_log:
        await until(workstation.follows(run))
        file.write_text(json.dumps([group(box.server, "trainer", id="i-1")]))
        await until(lambda: events(event_log, "host.connected", host="trainer"))
        known = "SELECT host FROM runs"
        await until(lambda: workstation.catalogue(known) == [("trainer",)])
        await until(lambda: workstation.catalogue("SELECT name FROM hosts") == [("trainer",)])
        run.log_until(10)
        run.finish()
        await until(lambda: events(event_log, "experiment.renamed"))
        assert not events(event_log, "run.died")
        assert not [each for each in events(event_log, "checkpoint.completed") if each["provisional"]]
