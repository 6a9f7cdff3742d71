"""A box's secrets and ours, through every command: none is told, none is written but in the run's own file."""

import subprocess
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.harvest.host.passes import hosts_of
from harvestd.remote.ssh.auth import identities
from harvestd.remote.ssh.config import resolve
from harvestd.remote.ssh.target import Target
from harvestd.settings import Settings
from harvestd.telemetry.sanitize import HIDDEN
from support.command import harvestd_command
from support.faults import fired
from support.house import GpuBox, Workstation
from support.openssh import OpenSSHFactory
from support.planted import Planted
from support.waiting import until

pytestmark = [pytest.mark.openssh, pytest.mark.anyio]

CONFIG = """\
backbone: Qwen/Qwen2.5-1.5B-Instruct
wandb: {{ api_key: {wandb} }}
hf_token: {hf}
notebook: http://10.1.2.3:8888/lab?token={jupyter}
"""
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("check",),
    ("doctor",),
    ("plan",),
    ("once",),
    ("status",),
    ("hosts",),
    ("runs",),
)
OWN = "training_run/config.yaml"


def _runs(box: GpuBox, planted: Planted) -> None:
    """Write a run whose config holds secrets, one whose config is torn after them, and an eval."""
    values = {name: planted.new(f"config.yaml's {name}") for name in ("wandb", "hf", "jupyter")}
    for spec, tail in (
        (RunSpec(total_steps=8), ""),
        (RunSpec(timestamp="2025-08-21_04-00-00", total_steps=8), "x: [\n"),
    ):
        run = RunWriter(box.root, spec)
        run.start()
        run.log_until(8)
        (run.directory / "config.yaml").write_text(CONFIG.format(**values) + tail)
        evals = evals_of_run(box.root, EvalSpec(spec, questions=5))
        evals.write_config()
        evals.evaluate(4)


def _talker(workstation: Workstation, factory: OpenSSHFactory, planted: Planted, directory: Path) -> None:
    """Add a box that greets with a secret and fails each command with others in its complaint."""
    banner, complaint = directory / "banner", directory / "complaint.sh"
    banner.write_text(planted.new("a banner", "welcome, your token={} waits\n"))
    exported = planted.new("a start file's output", "export WANDB_API_KEY='{}'")
    url = planted.new("a URL in a complaint", "http://10.1.2.3:8888/lab?token={}")
    complaint.write_text(f'#!/bin/sh\necho "{exported} {url}" >&2\nexit 1\n')
    complaint.chmod(0o755)
    server = factory("talker", extra_config=[f"Banner {banner}", f"ForceCommand {complaint}"])
    root = directory / "roots" / "talker"
    root.mkdir(parents=True)
    workstation.boxes["talker"] = GpuBox(server, root, server.port)


def _bad_keys(workstation: Workstation, planted: Planted, directory: Path) -> None:
    """Let further tables of hosts name a key with a passphrase, a file that is no key, and one that is refused."""
    locked, wrong, refused = directory / "locked", directory / "wrong", directory / "refused"
    passphrase = planted.new("a passphrase")
    for path, words in ((locked, passphrase), (refused, "")):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", words, "-f", str(path)], check=True, stdin=subprocess.DEVNULL
        )
        planted.key(path.name, path)
    wrong.write_text(planted.new("a file that is no key", "token = {}\n"))
    port = workstation.boxes["gpu-a"].port
    with workstation.config.open("a") as config:
        for path in (locked, wrong, refused):
            config.write(f'[[hosts]]\nname = "{path.name}"\naddress = "127.0.0.1"\nport = {port}\n')
            config.write(f'user = "{workstation.boxes["gpu-a"].server.user}"\nidentity_files = ["{path}"]\n')
        key_file = directory / "api_key"
        key_file.write_text(planted.new("the cloud's key file"))
        config.write(f'[lambda_cloud]\napi_key = "{planted.new("the file")}"\napi_key_file = "{key_file}"\n')


async def test_no_command_tells_a_secret(
    workstation: Workstation, openssh_factory: OpenSSHFactory, planted: Planted, tmp_path: Path
) -> None:
    """Keys, passphrases, tokens and a notebook's URL stand in no output and no file but those that are theirs."""
    box = workstation.add_box()
    _runs(box, planted)
    _talker(workstation, openssh_factory, planted, tmp_path)
    workstation.settings()
    planted.key("the client's key", box.server.client_key)
    _bad_keys(workstation, planted, tmp_path)
    variables = {
        "LAMBDA_API_KEY": planted.new("$LAMBDA_API_KEY"),
        "HARVESTD_LAMBDA_CLOUD__API_KEY": planted.new("$HARVESTD_LAMBDA_CLOUD__API_KEY"),
    }
    for words in COMMANDS:
        for form in ((), ("--json",)) if words != ("once",) else (("--log-level", "debug"), ("--json",)):
            ended = harvestd_command(*words, "-c", workstation.config, *form, cwd=None, **variables)
            planted.hear(f"harvestd {' '.join(words)}", ended.out + ended.err)
    (home,) = [each for each in workstation.data.iterdir() if (each / OWN).exists() and "2025-08-20" in each.name]
    for asked in (("show", home.name), ("explain", str(home / OWN)), ("explain", f"talker:{tmp_path}/x")):
        ended = harvestd_command(*asked, "-c", workstation.config, cwd=None, **variables)
        planted.hear(f"harvestd {asked[0]}", ended.out + ended.err)
    with workstation.program():
        await until(lambda: workstation.output_file.read_text().count('"host.quarantined"') >= 4)
    planted.hear("harvestd run", workstation.output_file.read_bytes())
    planted.walk(workstation.data)

    own = [str(path.relative_to(workstation.data)) for path in workstation.data.glob(f"*/{OWN}")]
    in_config = [place for place in planted.values if place.startswith("config.yaml")]
    assert len(own) == 2
    assert all(set(planted.heard(planted.values[place])) >= set(own) for place in in_config)
    for command in ("harvestd doctor", "harvestd once", "harvestd run"):
        assert command in planted.heard(f"WANDB_API_KEY='{HIDDEN}"), "the complaint was not told"
        assert command in planted.heard("has a passphrase")
        assert command in planted.heard("is no private key")
        assert command in planted.heard("refused to log in")
    fired(42)
    assert planted.leaks(dict.fromkeys(in_config, own)) == []
    workstation.audit()


async def test_no_repr_tells_a_secret(workstation: Workstation, planted: Planted) -> None:
    """What a debugger or a careless message would show of settings, targets and keys holds none."""
    box = workstation.add_box()
    planted.key("the client's key", box.server.client_key)
    settings = workstation.settings(lambda_cloud={"api_key": planted.new("the file")})
    assert settings.lambda_cloud.api_key is not None
    assert settings.lambda_cloud.api_key.get_secret_value() == planted.values["the file"]
    target = Target("i-1", "127.0.0.1", identity_files=(box.server.client_key,), agent=False)
    hosts = await hosts_of(settings)
    async with identities(target, await resolve(target)) as keys:
        assert keys.keys
        for thing in (settings, settings.lambda_cloud, settings.hosts, target, keys, keys.keys, *hosts):
            planted.hear(type(thing).__name__, f"{thing!r} {thing}")
    for made in (settings.model_dump_json(), Settings.model_validate(settings.model_dump())):
        planted.hear("a dump", str(made))
    fired(42)
    assert planted.leaks({}) == []
