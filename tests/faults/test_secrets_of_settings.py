"""Secrets on a wrong line of a configuration, in a wrong variable, or in a bug: the problem is told, they are not."""

import subprocess
import sys
from pathlib import Path

import pytest

from harvestd.errors import ExitCode
from harvestd.telemetry.sanitize import HIDDEN
from support.command import environment, harvestd_command
from support.faults import fired
from support.planted import Planted

LINES = {
    "api_key": 'api_key = "{}"',
    "ssh.user": 'ssh.user = "ada:{}"',
    "ssh.port": 'ssh.port = "{}"',
    "ssh.host_keys": 'ssh.host_keys = "{}"',
    "ssh.passphrase": 'ssh.passphrase = "{}"',
    "ssh.proxy_jump": 'ssh.proxy_jump = "ada:{}@jump"',
    "ssh.agent": 'ssh.agent = "{}"',
    "poll.interval": 'poll.interval = "{}"',
    "limits.memory": 'limits.memory = "{}"',
    "limits.bandwidth": 'limits.bandwidth = "{}"',
    "remote.roots[0]": 'remote.roots = ["{}"]',
    "naming.default_experiment": 'naming.default_experiment = "/{}"',
    "lambda_cloud.base_url": 'lambda_cloud.base_url = "https://ada:{}@cloud.example"',
    "notify.urls[0]": 'notify.urls = ["{}"]',
    "notify.webhook": 'notify.webhook = "ftp://ada:{}@hook.example"',
    "notify.webhook_secret": 'notify.webhook_secret = "whsec_{}"',
    "notify.heartbeat_url": 'notify.heartbeat_url = "{}"',
    "notify.quiet_hours": 'notify.quiet_hours = "{}"',
    "release.terminate": 'release.terminate = "{}"',
    "hosts[0].address": 'hosts = [{{ name = "", address = "ada:{}@box" }}]',
}
VARIABLES = {
    "HARVESTD_SSH__PASSPHRASE": "{}",
    "HARVESTD_TOKEN": "{}",
    "HARVESTD_HOSTS": '[{{"password": "{}"',
    "HARVESTD_POLL__SETTLE": "{}",
    "HARVESTD_VERDICT__ACCEPT_LOSS": '["{}"]',
}
COMMANDS = ("check", "doctor", "plan", "once", "run", "status")


def test_misplaced_secrets_are_not_repeated(tmp_path: Path, planted: Planted) -> None:
    """Every problem names its key, none the value that stood there."""
    config = tmp_path / "harvestd.toml"
    lines = [planted.new(f"the line of {key}", line) for key, line in LINES.items()]
    config.write_text("\n".join(["version = 1", *lines]) + "\n")
    variables = {name: planted.new(name, form) for name, form in VARIABLES.items()}
    for command in COMMANDS:
        for form in ((), ("--json",) if command != "run" else ("--log-level", "debug")):
            ended = harvestd_command(command, "-c", config, *form, cwd=None, **variables)
            assert ended.code == ExitCode.CONFIGURATION
            planted.hear(command, ended.out + ended.err)
    for told in (*LINES, *(f"environment {name}" for name in VARIABLES)):
        assert set(COMMANDS) <= set(planted.heard(f"{told}: ")), f"no problem was told of {told}"
    fired(42)
    assert planted.leaks({}) == []


@pytest.mark.parametrize("text", ['api_key = "{}', "api_key = {}", '[lambda_cloud]\napi_key = "{}"\napi_key = "{}"\n'])
def test_a_torn_file_is_not_quoted(tmp_path: Path, planted: Planted, text: str) -> None:
    """What is no TOML is told by its line and column."""
    config = tmp_path / "harvestd.toml"
    config.write_text(text.replace("{}", planted.new("the torn line")))
    ended = harvestd_command("check", "-c", config)
    assert ended.code == ExitCode.CONFIGURATION
    assert "is not TOML" in ended.out + ended.err
    fired(42)
    planted.hear("check", ended.out + ended.err)
    assert planted.leaks({}) == []


@pytest.mark.parametrize("moment", ["in a command", "in the daemon"])
def test_a_bug_is_told_without_secrets(tmp_path: Path, planted: Planted, moment: str) -> None:
    """A traceback is for whoever mends the bug: without what moves a terminal, or looks like a secret."""
    token = planted.new("a bug's text", "GET /api?token={}")
    body = planted.new("a bug's key")
    key = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----"
    config = tmp_path / "harvestd.toml"
    config.write_text(f'version = 1\ndata_root = "{tmp_path / "data"}"\n')
    place = {
        "in a command": "harvestd.settings.load.find_config",
        "in the daemon": "harvestd.harvest.fleet.fleet.Fleet.run",
    }
    module, _, name = place[moment].rpartition(".")
    program = f"""
import pkgutil, sys
def bug(*_, **__):
    raise RuntimeError({token!r} + "\\x1b[31m" + {key!r})
import harvestd.settings, harvestd.service
setattr(pkgutil.resolve_name({module!r}), {name!r}, bug)
if {name!r} == "find_config":
    harvestd.settings.find_config = bug
from harvestd.__main__ import main
sys.argv = ["harvestd", "run", "-c", {str(config)!r}]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60, env=environment()
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert f"RuntimeError: GET /api?token={HIDDEN}" in done.stderr
    fired(42)
    planted.hear("standard output", done.stdout)
    planted.hear("standard error", done.stderr)
    assert planted.leaks({}) == []
    assert "\x1b" not in done.stdout + done.stderr
