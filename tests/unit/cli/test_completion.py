"""What a shell completes, asked as a shell asks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harvestd.cli.app import COMMANDS
from support.command import environment, harvestd_command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration with two hosts, one of them with a name that no shell should see."""
    file = tmp_path / "harvestd.toml"
    host = '[[hosts]]\nname = "{}"\naddress = "127.0.0.1"\n'
    file.write_text(f'version = 1\ndata_root = "{tmp_path}/data"\n{host.format("gpu-a")}{host.format("gpu-b")}')
    return file


def completed(line: str, config: Path) -> list[str]:
    """Return what is offered for the last word of a command line."""
    words = line.split(" ")
    done = harvestd_command(
        HARVESTD_CONFIG=str(config),
        _HARVESTD_COMPLETE="bash_complete",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
    )
    return [offer.partition(",")[2] for offer in done.out.split()]


def test_commands_and_options_are_offered(config: Path) -> None:
    """Commands at first, a command's own options after it."""
    assert completed("harvestd ex", config) == ["experiments", "explain"]
    assert completed("harvestd status --w", config) == ["--watch"]


def test_hosts_are_offered_by_the_configuration(config: Path) -> None:
    """Names of hosts complete before any was seen; without a configuration there are none, and no error."""
    assert completed("harvestd once g", config) == ["gpu-a", "gpu-b"]
    assert completed("harvestd -c /does/not/exist once g", config) == []


def test_commands_are_listed_without_importing_them() -> None:
    """A first word is completed at once: nothing heavy is imported for it."""
    script = (
        "import json, sys\n"
        "import click\n"
        "from harvestd.cli.app import app\n"
        "found = [item.value for item in app.shell_complete(click.Context(app), '')]\n"
        "print(json.dumps([found, sorted(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment(), timeout=60
    )
    offered, loaded = json.loads(done.stdout)
    assert offered == list(COMMANDS)
    assert "sqlalchemy" not in loaded


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_its_shell(shell: str, tmp_path: Path) -> None:
    """The shell itself reads it, where it is installed; how it is used stands in the last line."""
    done = harvestd_command("completion", shell)
    assert done.code == 0
    assert f"harvestd completion {shell}" in done.out.splitlines()[-1]
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(done.out)
        subprocess.run([shell, "-n", str(script)], check=True, timeout=60)
