"""What stands at home already when harvestd comes: carried on where it is the same, left alone and told where not."""

import json
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode
from support.command import Ended, harvestd_command
from support.house import Workstation

pytestmark = pytest.mark.openssh

HOME = Path("gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps")


@pytest.fixture
def run(workstation: Workstation) -> RunWriter:
    """Return a finished run on the only box."""
    writer = RunWriter(workstation.add_box().root, RunSpec(total_steps=8, save_every=8))
    writer.start()
    writer.log_until(8)
    writer.finish()
    workstation.settings()
    return writer


def once(workstation: Workstation) -> Ended:
    """Run `harvestd once`."""
    return harvestd_command("once", "-c", workstation.config, "--json")


def standing(workstation: Workstation, name: str, content: bytes) -> Path:
    """Put a file where harvestd will want to put its own."""
    path = workstation.data / HOME / "training_run" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


@pytest.mark.usefixtures("run")
def test_a_persons_log_in_the_way_is_left_alone_and_told(workstation: Workstation) -> None:
    """A pass that could not place a growing file is no complete one."""
    mine = standing(workstation, "logs/train_log.jsonl", b"mine\n")
    ended = once(workstation)
    assert ended.code == ExitCode.PARTIAL
    (conflict,) = ended.document["hosts"][0]["conflicts"]
    assert conflict["to"] == str(HOME / "training_run/logs/train_log.jsonl")
    assert mine.read_bytes() == b"mine\n"


@pytest.mark.parametrize("name", ["logs/train_log.jsonl", "tensorboard"])
def test_the_beginning_of_a_log_is_carried_on(workstation: Workstation, run: RunWriter, name: str) -> None:
    """Somebody copied the file while it was shorter: what is here is verified, and only the rest comes."""
    source = run.train_log if name.startswith("logs") else run.events
    content = source.read_bytes()
    if name == "tensorboard":
        name += f"/{source.name}"
        # Where a record ends: the first one's length, and what stands around its data.
        cut = int.from_bytes(content[:8], "little") + 16
    else:
        cut = 500
    copied = standing(workstation, name, content[:cut])
    inode = copied.stat().st_ino
    ended = once(workstation)
    assert ended.code == ExitCode.OK, ended.out + ended.err
    assert copied.read_bytes() == content
    assert copied.stat().st_ino == inode


def test_a_lost_catalogue_costs_no_log(workstation: Workstation, run: RunWriter) -> None:
    """Without its catalogue harvestd takes what stands there for what it is, and the log goes on growing."""
    assert once(workstation).code == ExitCode.OK
    for file in (workstation.data / ".harvestd").glob("catalogue*"):
        file.unlink()
    run.resume()
    run.log_step(9)
    ended = once(workstation)
    assert ended.code == ExitCode.OK, ended.out + ended.err
    log = workstation.data / HOME / "training_run/logs/train_log.jsonl"
    assert log.read_bytes() == run.train_log.read_bytes()


@pytest.mark.usefixtures("run")
def test_links_stand_in_the_manifest(workstation: Workstation) -> None:
    """What was made here in the place of a box's link is on record like everything else."""
    assert once(workstation).code == ExitCode.OK
    manifest = json.loads((workstation.data / HOME / "manifest.json").read_bytes())
    assert manifest["links"] == [{"path": "training_run/training_state/step_latest", "target": "step_final"}]
