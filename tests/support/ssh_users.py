"""What an SSH user has beside boxes: a harvestd.toml, a file of OpenSSH's client, keys in an agent."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harvestd.errors import HarvestError
from harvestd.harvest.host.passes import hosts_of, once
from harvestd.settings import load
from support.house import Moved

_DEADLINE = 60


async def logged_in(directory: Path, ssh: str = "", host: str = 'address = "gpu-a"') -> HarvestError | None:
    """Make one pass over one box, as `harvestd once` does; return what went wrong.

    The configuration is written to a file and loaded from there. `ssh`: lines of [ssh]; `host`: lines of the box's
    table. The SSH configuration is the file `ssh_config` in the directory, where there is one.
    """
    root = directory / "localfs"
    (root / "training_runs").mkdir(parents=True, exist_ok=True)
    files = f'config_files = ["{directory / "ssh_config"}"]' if (directory / "ssh_config").exists() else ""
    config = directory / "harvestd.toml"
    config.write_text(
        f'version = 1\ndata_root = "{directory / "data"}"\n[ssh]\n{files}\n{ssh}\n[report]\npictures = false\n'
        f'[limits]\nfree_space = "1MiB"\n'
        f'[[hosts]]\nname = "gpu-a"\nhardware = "h100"\nroots = ["{root}"]\n{host}\n'
    )
    settings = load(config, env={})
    (outcome,) = await once(settings, await hosts_of(settings), Moved())
    return outcome.error


@contextmanager
def agent_with(directory: Path, keys: Sequence[Path]) -> Iterator[Path]:
    """Run an ssh-agent with these keys; gives its socket."""
    socket = directory / "agent.socket"
    program = shutil.which("ssh-agent")
    assert program is not None
    environment = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
    with subprocess.Popen([program, "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as process:
        try:
            # ssh-add waits for nobody: it is asked until the agent listens.
            while subprocess.run(["ssh-add", "-l"], check=False, capture_output=True, env=environment).returncode > 1:
                assert process.poll() is None
            for key in keys:
                command = ["ssh-add", "-q", str(key)]
                subprocess.run(command, check=True, capture_output=True, env=environment, timeout=_DEADLINE)
            yield socket
        finally:
            process.terminate()
