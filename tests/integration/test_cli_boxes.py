"""`harvestd once`, `plan` and `run` as a user starts them, against real sshds: what is filed, said and returned."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from harvestd.demo.writers import write_convention_example
from harvestd.errors import ExitCode
from harvestd.store.lock import DataRootLock, HolderKind
from harvestd.store.root import DataRoot
from support.command import Ended, command, environment, harvestd_command, on_terminal
from support.data_root import tree
from support.house import Workstation, until

pytestmark = pytest.mark.openssh

_STOP_WITHIN = 15.0
"""Seconds: five, and three times as many on a busy machine."""


_SETTLED = 0.5
"""Seconds after which what was written on a box has settled: more than the configuration of these tests says."""


@pytest.fixture
def ready(workstation: Workstation) -> Workstation:
    """Return a workstation that knows one box with the convention's example on it."""
    write_convention_example(workstation.add_box().root)
    workstation.settings()
    return workstation


def once(workstation: Workstation, *arguments: str) -> Ended:
    """Run `harvestd once`."""
    return harvestd_command("once", "-c", workstation.config, *arguments)


def wait_for(condition: Callable[[], object]) -> None:
    """Return when `condition` holds, outside of an event loop."""
    anyio.run(until, condition)


def test_once_brings_all_home_and_plan_is_empty_then(ready: Workstation) -> None:
    """The first pass files everything, the next one fetches nothing, and a plan after that has nothing to do."""
    plan = harvestd_command("-c", ready.config, "plan", "--json")
    assert plan.code == ExitCode.OK, plan.err
    assert not ready.data.exists()
    first = once(ready, "--json")
    assert (first.code, first.err) == (ExitCode.OK, "")
    (host,) = first.document["hosts"]
    assert (host["name"], host["error"], host["failed"], host["waiting"]) == ("gpu-a", None, [], [])
    wanted = {target for each in plan.document["hosts"][0]["fetch"] for target in each["to"]}
    assert wanted
    assert wanted <= tree(ready.data).keys()
    (host,) = once(ready, "--json").document["hosts"]
    assert (host["files"], host["bytes"]) == (0, 0)
    empty = harvestd_command("plan", "-c", ready.config, "--json")
    (host,) = empty.document["hosts"]
    assert (empty.code, host["nothing_to_do"], host["fetch"], host["append"]) == (ExitCode.OK, True, [], [])
    assert host["left_out"]


def test_plan_shows_both_ends_of_every_file(ready: Workstation) -> None:
    """A plan has the place on the box, the place at home, kind, size and reason of each file, and changes nothing."""
    written = time.monotonic()
    wait_for(lambda: time.monotonic() - written > _SETTLED)
    plan = harvestd_command("plan", "gpu-a", "-c", ready.config)
    assert (plan.code, plan.err) == (ExitCode.OK, "")
    lines = [line for line in plan.out.splitlines() if line.endswith("config is always wanted")]
    (config,) = [line for line in lines if "/training_runs/" in line]
    assert str(ready.boxes["gpu-a"].root) in config
    assert " config " in config
    assert "/training_run/config.yaml " in config
    assert not ready.data.exists()


def test_summary_off_a_terminal_is_plain(ready: Workstation) -> None:
    """Off a terminal the summary is aligned text without drawing, colours or progress bars."""
    done = once(ready, "gpu-a", "gpu-a")
    header, row = done.out.splitlines()
    assert header.split() == ["HOST", "FILES", "SIZE", "TIME", "RESULT"]
    assert row.split()[0] == "gpu-a"
    assert row.endswith(("complete", "ok"))
    assert done.out.isascii()
    assert done.err == ""


def test_events_are_asked_for(ready: Workstation) -> None:
    """With --log-level the events of a pass go to standard error, as JSON where that is asked for."""
    done = once(ready, "--json", "--log-level", "info", "--log-format", "json")
    events = {json.loads(line)["event"] for line in done.err.splitlines()}
    assert {"run.discovered", "experiment.named", "file.downloaded"} <= events
    assert done.document["files"] > 0


def test_unknown_host_is_refused_before_anything_is_done(ready: Workstation) -> None:
    """A host that nobody knows ends with 4, names the known ones, and nothing is connected to."""
    done = once(ready, "gpu-a", "gpu-x")
    assert (done.code, done.out) == (ExitCode.UNKNOWN_NAME, "")
    assert done.err == "error: no host is called gpu-x\nhint: known: gpu-a\n"
    assert not ready.data.exists()


def test_refused_key_is_no_host(ready: Workstation) -> None:
    """A box that refuses our key ends with 5 where it is the only one, and says which keys were offered."""
    ready.boxes["gpu-a"].server.revoke()
    done = once(ready)
    assert done.code == ExitCode.NO_HOST
    assert re.match(r"error: .*gpu-a .* refused", done.err)
    assert str(ready.boxes["gpu-a"].server.client_key) in done.err
    assert "Traceback" not in done.err


def test_one_lost_host_does_not_hide_the_other(ready: Workstation) -> None:
    """A box that is down ends a pass with 3, while the other one's files come home."""
    ready.add_box("gpu-b").server.stop()
    ready.settings()
    done = once(ready, "--json")
    assert done.code == ExitCode.PARTIAL
    errors = {host["name"]: host["error"] for host in done.document["hosts"]}
    assert errors["gpu-a"] is None
    assert "no connection" in errors["gpu-b"]["message"]
    assert re.match(r"error: .*gpu-b .*no connection", done.err)
    assert ready.filed()


def test_missing_root_is_a_failure(workstation: Workstation) -> None:
    """A box without the configured root is no success: 3, and the root is named with a way out."""
    workstation.add_box().root.rmdir()
    workstation.settings()
    for name in ("once", "plan"):
        done = harvestd_command(name, "-c", workstation.config)
        assert done.code == ExitCode.PARTIAL
        root = workstation.boxes["gpu-a"].root
        assert f"error: gpu-a: the root {root} does not exist on the box\nhint: is its file system mounted?" in done.err


def test_changed_host_key_and_the_way_out(ready: Workstation) -> None:
    """A changed host key stops the pass with both fingerprints; forget-key, as the hint says, lets it go on."""
    server = ready.boxes["gpu-a"].server
    before = server.host_key_fingerprint
    assert once(ready).code == ExitCode.OK
    server.change_host_key()
    done = once(ready)
    assert done.code == ExitCode.NO_HOST
    assert before in done.err
    assert server.host_key_fingerprint in done.err
    _, _, hint = done.err.partition("harvestd forget-key ")
    assert harvestd_command("forget-key", hint.split()[0], "-c", ready.config).code == ExitCode.OK
    assert once(ready).code == ExitCode.OK


def test_locked_data_root(ready: Workstation) -> None:
    """While a daemon holds the data root `once` and `run` end with 7, and a plan works all the same."""
    with DataRoot.open(ready.data) as root, DataRootLock.take(root, HolderKind.DAEMON):
        for name in ("once", "run"):
            done = harvestd_command(name, "-c", ready.config)
            assert (done.code, done.out) == (ExitCode.LOCKED, "")
            assert f"process {os.getpid()}" in done.err
        assert harvestd_command("plan", "-c", ready.config).code == ExitCode.OK


def test_flags_go_over_environment_over_file(ready: Workstation) -> None:
    """--set wins over a variable, and a variable over the file."""
    elsewhere = ready.data.with_name("elsewhere")
    done = harvestd_command(
        "once",
        "--set",
        f"data_root={elsewhere}",
        HARVESTD_CONFIG=str(ready.config),
        HARVESTD_DATA_ROOT=str(ready.data.with_name("never")),
    )
    assert done.code == ExitCode.OK, done.err
    assert tree(elsewhere)
    assert not ready.data.exists()
    assert not ready.data.with_name("never").exists()


def test_interrupted_pass_ends_at_once_and_quietly(ready: Workstation) -> None:
    """Ctrl-C ends a pass with 130, without a traceback, and the next pass finds everything in order."""
    arguments = ("once", "-c", ready.config, "--set", "limits.bandwidth=64KiB/s", "--set", "poll.settle=2s")
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        wait_for((ready.data / ".harvestd" / "catalogue.sqlite").exists)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=_STOP_WITHIN)
    assert (process.returncode, out.strip(), err.strip()) == (130, "", "")
    assert once(ready).code == ExitCode.OK


def test_terminal_shows_colours_and_no_color_none(ready: Workstation) -> None:
    """On a terminal the summary has colours, and none where NO_COLOR is set."""
    assert "\x1b[" in on_terminal(["once", "-c", ready.config])
    assert "\x1b[3" not in on_terminal(["once", "-c", ready.config], NO_COLOR="1")


def test_names_of_a_box_reach_no_terminal_unescaped(ready: Workstation) -> None:
    """A file name with an escape sequence is shown written out, on a terminal and off one."""
    run = next((ready.boxes["gpu-a"].root / "training_runs").iterdir())
    (run / "evil\x1b]0;owned\x07\n.tmp").touch()
    seen = on_terminal(["plan", "-c", ready.config]) + harvestd_command("plan", "-c", ready.config).out
    assert r"evil\x1b]0;owned\x07\n.tmp" in seen.replace("\r\n", "").replace(" ", "")
    assert "\x1b]0;owned" not in seen


def test_run_says_events_and_stops_on_sigterm(ready: Workstation, tmp_path: Path) -> None:
    """The daemon writes JSON lines off a terminal, survives SIGHUP, and ends with 0 after SIGTERM."""
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command("run", "-c", ready.config), stdout=out, env=environment())
    try:
        wait_for(lambda: "file.downloaded" in log.read_text())
        status = harvestd_command("status", "-c", ready.config, "--json")
        assert status.code == ExitCode.OK
        assert status.document["daemon"]["pid"] == process.pid
        assert status.document["daemon"]["running"] is True
        assert [host["state"] for host in status.document["hosts"]] == ["connected"]
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "config.reloaded" in log.read_text())
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=2 * _STOP_WITHIN) == ExitCode.OK
        assert time.monotonic() - started < _STOP_WITHIN
    finally:
        process.kill()
        process.wait()
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events[0] == "service.started"
    assert events[-1] == "service.stopped"
    stopped = harvestd_command("status", "-c", ready.config)
    assert stopped.code == ExitCode.LOCKED
    assert "warning: no daemon runs" in stopped.err
    assert "not watched" in stopped.out


def test_module_and_entry_point_are_one() -> None:
    """`python -m harvestd` and the console entry point are the same command line."""
    script = "import sys; sys.argv[1:] = ['--version']; from harvestd.__main__ import main; main()"
    entry = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, env=environment(), timeout=30
    )
    assert (entry.returncode, entry.stdout) == (0, harvestd_command("--version").out)
