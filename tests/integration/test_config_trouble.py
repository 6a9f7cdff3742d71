"""Runs whose config.yaml is of no use: they come home all the same, under what is known of them."""

import json

import pytest

from harvestd.convention.metadata.parse import MAX_FACT_BYTES
from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode
from support.command import harvestd_command
from support.house import Workstation

pytestmark = pytest.mark.openssh

HOME = "trial_2025-08-20_qwen2_5_1_5b_h100_8steps"


@pytest.mark.parametrize(
    "config",
    [
        b"backbone: [never closed\n",
        b"a: &a [x]\nb: *a\n",
        b"x: " + b"y" * (MAX_FACT_BYTES + 1) + b"\n",
        b"\xff\xfe\n",
        b"",
    ],
    ids=["torn", "anchors", "too large", "no text", "empty"],
)
def test_a_run_with_an_unusable_config_comes_home(workstation: Workstation, config: bytes) -> None:
    """Nothing is lost over a name: what the config can't say comes from the final checkpoint, or is called unknown."""
    box = workstation.add_box()
    run = RunWriter(box.root, RunSpec(total_steps=8, save_every=8))
    run.start()
    run.log_until(8)
    run.finish()
    (run.directory / "config.yaml").write_bytes(config)
    workstation.settings()
    ended = harvestd_command("once", "-c", workstation.config, "--json")
    assert ended.code == ExitCode.OK, ended.err
    home = workstation.data / HOME
    assert (home / "training_run/config.yaml").read_bytes() == config
    assert (home / "training_run/logs/train_log.jsonl").read_bytes() == run.train_log.read_bytes()
    assert (home / "training_run/training_state/step_final/optimizer.pt").exists()
    name = json.loads((home / "manifest.json").read_bytes())["experiment"]["name"]
    assert name["model"]["source"] == "training_info.json model_config.backbone"
