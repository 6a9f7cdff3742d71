"""Checkpoints on real OpenSSH: the rolling one, the provisional one of a run that died, and what comes after them."""

import json
from pathlib import Path

import pytest
import structlog.testing

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.house import GpuBox, Workstation
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=60)
ROLLING = {"checkpoint": "final+latest"}
AT_ONCE = {"idle_for": "0s"}
"""What does not move just now is dead, where no GPU process is left."""


@pytest.fixture
def smi(tmp_path: Path) -> Path:
    """Return the nvidia-smi of a box on whose GPU something runs."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    compute(smi, 1)
    return smi


@pytest.fixture
def box(workstation: Workstation, smi: Path) -> GpuBox:
    """Return a box with this nvidia-smi."""
    with_path = f'ForceCommand export PATH="{smi.parent}:$PATH"; eval "$SSH_ORIGINAL_COMMAND"'
    return workstation.add_box(extra_config=[with_path])


@pytest.fixture
def writer(box: GpuBox) -> RunWriter:
    """Return a run that began on the box."""
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(3)
    return writer


def compute(smi: Path, processes: int) -> None:
    """Let so many processes run on a box's GPU, as its nvidia-smi tells."""
    rows = "".join(f"echo {4000 + number}; " for number in range(processes))
    smi.write_text(f"#!/bin/sh\ncase $1 in *compute-apps*) {rows}:;; *) echo NVIDIA H100;; esac\n")
    smi.chmod(0o755)


def experiment(workstation: Workstation) -> Path:
    """Return the run's experiment, whatever it is called by now."""
    return next(workstation.data.glob("*/training_run"), workstation.data / "none" / "training_run").parent


def home(workstation: Workstation) -> dict[str, str]:
    """Return what stands in training_state at home, with where a link points; every link leads to what is there."""
    found: dict[str, str] = {}
    state = experiment(workstation) / "training_run" / "training_state"
    for path in state.iterdir() if state.exists() else ():
        assert path.exists(), f"{path} leads nowhere"
        found[path.name] = str(path.readlink()) if path.is_symlink() else ""
    return found


def same(workstation: Workstation, writer: RunWriter, step: str) -> bool:
    """Return whether a checkpoint is at home as it is on the box."""
    runs = (writer.directory, experiment(workstation) / "training_run")
    there, here = (each / "training_state" / step for each in runs)
    return _content(there) == _content(here)


def _content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def reasons(workstation: Workstation, step: str) -> set[str]:
    """Return why the files of a checkpoint are here, as the manifest says."""
    manifest = json.loads((experiment(workstation) / "manifest.json").read_text())
    return {file["reason"] for file in manifest["files"] if f"/{step}/" in file["path"]}


async def test_the_rolling_checkpoint_rolls(workstation: Workstation, writer: RunWriter) -> None:
    """Over a run that grows the newest checkpoint alone is at home, and the link leads to it; then the final one."""
    async with workstation.running(select=ROLLING) as event_log:
        for step in (10, 20, 30):
            writer.log_until(step)
            writer.checkpoint(step)
            name = f"step_{step}"
            await until(lambda name=name: home(workstation) == {name: "", "step_latest": name})  # type: ignore[misc]  # mypy can't tell
            assert same(workstation, writer, name)
        writer.log_until(60)
        writer.finish()
        await until(lambda: set(home(workstation)) == {"step_final", "step_latest"})
        assert home(workstation)["step_latest"] == "step_final"
        await until(lambda: len(events(event_log, "checkpoint.removed")) == 3)
    assert same(workstation, writer, "step_final")
    workstation.audit()


async def test_a_pass_leaves_the_newest(workstation: Workstation, writer: RunWriter) -> None:
    """A single pass removes what it supersedes too, and says so in the manifest."""
    writer.checkpoint(3)
    await workstation.once(select=ROLLING)
    writer.log_until(7)
    writer.checkpoint(7)
    await workstation.once(select=ROLLING)
    assert home(workstation) == {"step_7": "", "step_latest": "step_7"}
    assert reasons(workstation, "step_7") == {"rolling: the newest checkpoint, until a newer one is here"}
    assert reasons(workstation, "step_3") == set()
    workstation.audit()


async def test_what_a_person_changed_is_left(workstation: Workstation, writer: RunWriter) -> None:
    """A file of the rolling copy that was edited, and one that was put beside it, stay when the rest goes."""
    writer.checkpoint(3)
    await workstation.once(select=ROLLING)
    old = workstation.training(RUN.name) / "training_state" / "step_3"
    (old / "optimizer.pt").write_bytes(b"mine")
    (old / "model" / "notes.txt").write_text("mine too")
    writer.log_until(7)
    writer.checkpoint(7)
    await workstation.once(select=ROLLING)
    assert _content(old) == {"optimizer.pt": b"mine", "model/notes.txt": b"mine too"}
    assert home(workstation) == {"step_3": "", "step_7": "", "step_latest": "step_7"}
    workstation.audit()
    (again,) = (await workstation.once(select=ROLLING)).values()
    assert again.files == 0


async def test_nothing_goes_before_the_newer_one_stands(workstation: Workstation, writer: RunWriter) -> None:
    """Where the newer checkpoint is on record and was taken away here, the older one stays."""
    writer.checkpoint(3)
    await workstation.once(select=ROLLING)
    writer.log_until(7)
    writer.checkpoint(7)
    state = workstation.training(RUN.name) / "training_state"
    await workstation.once(select={"checkpoint": "all"})
    # What was rolling is wanted for good now.
    assert reasons(workstation, "step_3") == {"step_3 is wanted"}
    await workstation.once(select=ROLLING)
    assert set(home(workstation)) == {"step_3", "step_7", "step_latest"}
    assert _content(state / "step_3")


async def test_a_dead_run_leaves_its_last_checkpoint(workstation: Workstation, smi: Path, writer: RunWriter) -> None:
    """While a GPU process is left the run may go on; without one its newest whole checkpoint comes, as provisional."""
    writer.checkpoint(3)
    writer.log_until(40)
    writer.checkpoint(40)
    writer.begin_checkpoint(50)
    await workstation.once(verdict=AT_ONCE)
    assert home(workstation) == {}
    compute(smi, 0)
    with structlog.testing.capture_logs() as event_log:
        await workstation.once(verdict=AT_ONCE)
    assert [event["provisional"] for event in events(event_log, "checkpoint.completed")] == [True]
    assert home(workstation) == {"step_40": "", "step_latest": "step_40"}
    assert same(workstation, writer, "step_40")
    assert reasons(workstation, "step_40") == {"provisional: the run died at step 40 without a final checkpoint"}
    workstation.audit()


async def test_a_final_checkpoint_supersedes_the_provisional_one(
    workstation: Workstation, smi: Path, writer: RunWriter
) -> None:
    """A run that was taken for dead and goes on to its end: only the final one is here then."""
    compute(smi, 0)
    writer.log_until(40)
    writer.checkpoint(40)
    await workstation.once(verdict=AT_ONCE)
    assert set(home(workstation)) == {"step_40", "step_latest"}
    compute(smi, 1)
    writer.log_until(60)
    writer.finish()
    await workstation.once()
    assert home(workstation) == {"step_final": "", "step_latest": "step_final"}
    assert same(workstation, writer, "step_final")
    workstation.audit()
    (again,) = (await workstation.once()).values()
    assert again.files == 0


async def test_a_run_on_a_box_that_is_quiet_for_less_is_alive(workstation: Workstation, writer: RunWriter) -> None:
    """Without a GPU process, too, a run counts as alive until nothing of it has moved for long enough."""
    writer.checkpoint(3)
    await workstation.once(verdict={"idle_for": "1h"})
    assert home(workstation) == {}


async def test_a_run_resumed_in_place_rolls_on_beyond_its_finish(workstation: Workstation, writer: RunWriter) -> None:
    """What it writes beyond its old final step is the newest, until the final one is written anew."""
    writer.log_until(40)
    writer.finish()
    await workstation.once(select=ROLLING)
    assert home(workstation) == {"step_final": "", "step_latest": "step_final"}
    writer.resume()
    writer.log_until(50)
    writer.checkpoint(50)
    await workstation.once(select=ROLLING)
    assert home(workstation) == {"step_final": "", "step_50": "", "step_latest": "step_50"}
    writer.log_until(60)
    writer.finish()
    await workstation.once(select=ROLLING)
    assert home(workstation) == {"step_final": "", "step_latest": "step_final"}
    assert same(workstation, writer, "step_final")
    workstation.audit()


def shard(writer: RunWriter, number: int) -> None:
    """Write one of the two shards of a full model into step_final."""
    model = writer.directory / "training_state" / "step_final" / "model"
    content = (model / "adapter_model.safetensors").read_bytes()
    (model / f"model-0000{number}-of-00002.safetensors").write_bytes(content)


async def test_a_sharded_model_comes_when_all_of_it_is_there(workstation: Workstation, writer: RunWriter) -> None:
    """Its marker says that it is whole; a shard that is missing says that it is not."""
    directory = writer.begin_checkpoint("final")
    (directory / "model" / "tokenizer" / "v2").mkdir(parents=True)
    (directory / "model" / "tokenizer" / "v2" / "vocab.json").write_text("{}")
    shard(writer, 1)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (directory / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    writer.seal_checkpoint("final")
    (result,) = (await workstation.once()).values()
    assert [wait.reason for wait in result.waiting] == ["1 of the 2 shards of model.safetensors are there"]
    assert home(workstation) == {}
    shard(writer, 2)
    await workstation.once()
    assert home(workstation) == {"step_final": "", "step_latest": "step_final"}
    assert same(workstation, writer, "step_final")
    workstation.audit()


async def test_an_index_that_names_what_is_not_there_brings_nothing(
    workstation: Workstation, writer: RunWriter
) -> None:
    """Whatever its files are called: it is told as failed, and the rest of the run comes."""
    directory = writer.begin_checkpoint("final")
    (directory / "model" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "elsewhere.safetensors"}}')
    writer.seal_checkpoint("final")
    (result,) = (await workstation.once()).values()
    (trouble,) = result.failed.values()
    assert trouble.reason == "model.safetensors.index.json: 1 of the 1 files that it names are not there"
    assert home(workstation) == {}
    assert workstation.stands(RUN.name, "config.yaml")()
    workstation.audit()


@pytest.mark.slow
async def test_a_run_that_died_over_its_marker_leaves_the_checkpoint_before(
    workstation: Workstation, smi: Path, writer: RunWriter
) -> None:
    """A marker that is torn seals nothing, and nobody will mend it: what is whole comes, and the torn one is told."""
    compute(smi, 0)
    writer.checkpoint(3)
    writer.log_until(40)
    writer.checkpoint(40)
    marker = writer.directory / "training_state" / "step_40" / "training_info.json"
    marker.write_bytes(marker.read_bytes()[:100])
    (result,) = (await workstation.once(verdict=AT_ONCE)).values()
    assert [Path(place).name for place in result.failed] == ["step_40"]
    assert home(workstation) == {"step_3": ""}
    assert same(workstation, writer, "step_3")
    workstation.audit()
