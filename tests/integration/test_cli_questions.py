"""Questions to the catalogue, `check`, `doctor` and `forget-key`, as a user asks them after a real pass."""

import resource
import subprocess
from pathlib import Path

import pytest

from harvestd.demo.writers import write_convention_example
from harvestd.errors import ExitCode
from support.command import Ended, command, environment, harvestd_command, started_command
from support.house import Workstation

pytestmark = pytest.mark.openssh

_HELP_WITHIN = 0.3
"""Processor seconds."""


@pytest.fixture
def filed(workstation: Workstation) -> Workstation:
    """Return a workstation after a whole pass over a box with the convention's example."""
    write_convention_example(workstation.add_box().root)
    workstation.settings()
    done = asking(workstation, "once")
    assert done.code == ExitCode.OK, done.err
    return workstation


def asking(workstation: Workstation, *arguments: str, cwd: Path | None = None) -> Ended:
    """Run a command with the workstation's configuration."""
    return harvestd_command("-c", workstation.config, *arguments, cwd=cwd)


def experiment_of(workstation: Workstation) -> str:
    """Return the name of the one experiment's directory."""
    (found,) = [path.name for path in workstation.data.iterdir() if path.is_dir() and path.name != ".harvestd"]
    return found


def test_status_answers_without_a_daemon(filed: Workstation) -> None:
    """Without a daemon the catalogue answers, standard error says so, and the exit code is 7."""
    done = asking(filed, "status", "--json")
    assert done.code == ExitCode.LOCKED
    assert done.err.startswith("warning: no daemon runs")
    document = done.document
    assert document["daemon"] == {"running": False, "pid": None, "answers": None, "paused": None, "stuck": None}
    assert document["experiments"] == 1
    assert document["bytes"] == sum(len(content) for content in filed.filed().values() if isinstance(content, bytes))
    (run,) = document["runs"]
    assert (run["host"], run["finished"], run["experiment"]) == ("gpu-a", True, experiment_of(filed))
    assert experiment_of(filed) in asking(filed, "status").out


def test_hosts_show_those_never_seen(filed: Workstation) -> None:
    """A configured host that nobody reached yet is listed; a name that nobody has ends with 4."""
    hosts = asking(filed, "hosts", "--json").document["hosts"]
    assert [(host["name"], host["state"], host["configured"]) for host in hosts] == [("gpu-a", "visited", True)]
    assert hosts[0]["last_success"].endswith("Z")
    filed.add_box("gpu-b")
    filed.settings()
    assert "never seen" in asking(filed, "hosts", "gpu-b").out
    assert asking(filed, "hosts", "gpu-x").code == ExitCode.UNKNOWN_NAME


def test_show_knows_experiment_and_run(filed: Workstation) -> None:
    """Shown by its directory or by its run, an experiment is the same: name with sources, files, what was left out."""
    name = experiment_of(filed)
    shown = asking(filed, "show", name, "--json").document
    (run,) = asking(filed, "runs", "--json").document["runs"]
    assert asking(filed, "show", run["name"], "--json").document == shown
    assert shown["name"]["hardware"]["value"] == "h100"
    assert {file["path"] for file in shown["files"]} <= filed.filed().keys()
    assert any("records" in each["reason"] for each in shown["left_out"])
    page = asking(filed, "show", name).out
    assert shown["files"][0]["sha256"][:12] in page
    assert asking(filed, "show", "nothing").code == ExitCode.UNKNOWN_NAME


def test_runs_are_listed_by_state_age_and_number(filed: Workstation) -> None:
    """A finished run is not active; an empty choice is told apart from a catalogue without runs."""
    (run,) = asking(filed, "runs", "--json").document["runs"]
    assert asking(filed, "runs", "--since", "1h", "-n", "1", "--json").document["runs"] == [run]
    for none in (["--active"], ["-n", "0"]):
        assert asking(filed, "runs", *none, "--json").document["runs"] == []
        assert "none of 1 run" in asking(filed, "runs", *none).out
    assert asking(filed, "runs", "--since", "soon").code == ExitCode.CONFIGURATION


def test_explain_leads_there_and_back(filed: Workstation) -> None:
    """A file at home is explained by its place on the box, and that place by the file at home."""
    name = experiment_of(filed)
    here = asking(filed, "explain", "training_run/config.yaml", "--json", cwd=filed.data / name).document
    (file,) = here["files"]
    assert file["path"] == f"{name}/training_run/config.yaml"
    assert file["from"].startswith(f"{filed.boxes['gpu-a'].root}/training_runs/")
    assert asking(filed, "explain", f"gpu-a:{file['from']}", "--json").document["files"] == [file]
    assert file["from"] in asking(filed, "explain", str(filed.data / file["path"])).out


def test_explain_follows_an_experiment_to_its_new_name(filed: Workstation) -> None:
    """A path with the old name is explained by the file at its place now; a name that never was is unknown."""
    before = experiment_of(filed)
    (run,) = asking(filed, "runs", "--json").document["runs"]
    assert asking(filed, "name", run["name"], "another").code == ExitCode.OK
    after = experiment_of(filed)
    assert after != before
    found = asking(filed, "explain", f"{before}/training_run/config.yaml", "--json").document
    assert [file["path"] for file in found["files"]] == [f"{after}/training_run/config.yaml"]
    assert found["note"] is None
    for path in ("nosuch/manifest.json", "nosuch/training_run/config.yaml"):
        assert asking(filed, "explain", path).code == ExitCode.UNKNOWN_NAME
    (filed.data / after / "manifest.json").unlink()
    assert "not on the disk" in asking(filed, "explain", f"{after}/manifest.json").out


def test_an_ignored_run_is_said_to_be_ignored(filed: Workstation) -> None:
    """What is asked of a run that is ignored is refused in a sentence that can be understood."""
    (run,) = asking(filed, "runs", "--json").document["runs"]
    assert asking(filed, "ignore", run["name"]).code == ExitCode.OK
    done = asking(filed, "fetch", run["name"], "--records")
    assert (done.code, done.out) == (ExitCode.CONFIGURATION, "")
    assert done.err.startswith(f"error: {run['name']} is ignored by hand on ")


def test_explain_says_why_something_is_not_here(filed: Workstation) -> None:
    """What was left out is explained by the rule that said so; what nobody saw ends with 4."""
    left_out = asking(filed, "show", experiment_of(filed), "--json").document["left_out"]
    rules = {entry["reason"]: entry for entry in left_out}
    assert len(rules) > 1
    for entry in list(rules.values())[:2]:
        (found, *_) = asking(filed, "explain", entry["from"], "--json").document["left_out"]
        assert found["reason"] == entry["reason"]
    unknown = asking(filed, "explain", "gpu-a:/nowhere")
    assert unknown.code == ExitCode.UNKNOWN_NAME
    assert unknown.err.startswith("error: nothing is known of gpu-a:/nowhere\nhint: ")


def test_check_names_every_problem(tmp_path: Path) -> None:
    """A configuration with several problems is told with all of them, each with file and key, and ends with 2."""
    config = tmp_path / "harvestd.toml"
    config.write_text('version = 1\n[poll]\nintervall = "5s"\nsettle = "5 parsecs"\n[[hosts]]\nname = "a"\n')
    for name in ("check", "once"):
        done = harvestd_command(name, "-c", config)
        assert (done.code, done.out) == (ExitCode.CONFIGURATION, "")
        lines = [line.strip() for line in done.err.splitlines()]
        assert lines[0] == "error: the configuration has 3 problems:"
        assert any(
            line.startswith(f"{config}: poll.intervall: ") and "did you mean 'interval'?" in line for line in lines
        )
        assert any(line.startswith(f"{config}: poll.settle: ") for line in lines)
        assert any(line.startswith(f"{config}: hosts[a].address: ") for line in lines)
    document = harvestd_command("check", "-c", config, "--json").document
    assert (document["ok"], len(document["problems"])) == (False, 3)


def test_check_of_a_good_configuration(workstation: Workstation) -> None:
    """A good configuration is one line on standard output; what deserves a word is on standard error."""
    workstation.add_box()
    workstation.settings()
    key = workstation.boxes["gpu-a"].server.client_key
    flag = f'ssh.identity_files=["{key}"]'
    done = harvestd_command("check", "-c", workstation.config, "--set", flag)
    assert (done.code, done.out, done.err) == (ExitCode.OK, f"{workstation.config}: ok, 1 host\n", "")
    key.unlink()
    done = harvestd_command("check", "-c", workstation.config, "--set", flag)
    assert (done.code, done.out) == (ExitCode.OK, f"{workstation.config}: ok, 1 host\n")
    assert done.err.startswith(f"warning: {key}: ssh.identity_files[0]: does not exist")


def test_no_configuration_shows_a_first_one(tmp_path: Path) -> None:
    """Who has no configuration is told where one was looked for, and what a first one looks like."""
    done = harvestd_command("once", cwd=tmp_path, HOME=str(tmp_path), XDG_CONFIG_HOME="")
    assert done.code == ExitCode.CONFIGURATION
    assert done.err.startswith("error: no configuration found")
    assert f"{tmp_path}/.config/harvestd/harvestd.toml" in done.err
    assert "\n[[hosts]]\n" in done.err


def test_doctor_looks_and_changes_nothing(workstation: Workstation) -> None:
    """A healthy house ends with 0, names what it looked at, and leaves neither a data root nor a pin behind."""
    box = workstation.add_box()
    write_convention_example(box.root)
    workstation.settings()
    done = asking(workstation, "doctor", "--json")
    assert (done.code, done.err) == (ExitCode.OK, "")
    home, host = done.document["examined"]
    given = {finding["what"]: finding["said"] for finding in host["findings"]}
    assert home["ok"]
    assert host["ok"]
    assert "the probe, Python 3" in given["read by"]
    assert str(box.root) in given["tree"]
    assert not workstation.data.exists()


def test_doctor_finds_what_is_wrong(workstation: Workstation) -> None:
    """A box that is down, a missing root and a data root that is a file are failures with hints: 3."""
    workstation.add_box("gpu-a").server.stop()
    workstation.add_box("gpu-b").root.rmdir()
    workstation.settings()
    workstation.data.touch()
    done = asking(workstation, "doctor", "--json")
    assert done.code == ExitCode.PARTIAL
    wrong = {
        (examined["name"], finding["what"]): finding["hint"]
        for examined in done.document["examined"]
        for finding in examined["findings"]
        if not finding["ok"]
    }
    assert {("this machine", "data root"), ("gpu-a", "connection"), ("gpu-b", "root")} <= wrong.keys()
    assert all(wrong.values())
    assert asking(workstation, "doctor", "gpu-x").code == ExitCode.UNKNOWN_NAME


def test_damaged_catalogue_is_an_error_and_no_traceback(filed: Workstation) -> None:
    """A catalogue that is no database any more is told with a way out, by questions and by the doctor."""
    catalogue = filed.data / ".harvestd" / "catalogue.sqlite"
    for path in catalogue.parent.glob("catalogue.sqlite-*"):
        path.unlink()
    catalogue.write_bytes(b"no database at all" * 1000)
    for name in ("runs", "doctor", "plan", "forget-key gpu-a"):
        done = asking(filed, *name.split())
        assert done.code == ExitCode.PARTIAL, name
        assert "Traceback" not in done.err
        assert "hint: " in done.err + done.out or "HINT" in done.out


def test_forget_key_knows_who_is_meant(filed: Workstation) -> None:
    """A kept key is dropped once; then there was none; a host that is neither known nor pinned ends with 4."""
    assert "is forgotten" in asking(filed, "forget-key", "gpu-a").out
    again = asking(filed, "forget-key", "static:gpu-a")
    assert (again.code, again.out) == (ExitCode.OK, "no host key was kept for static:gpu-a\n")
    assert asking(filed, "forget-key", "gpu-x").code == ExitCode.UNKNOWN_NAME
    asked = asking(filed, "forget-key", "gpu-a", "--json").document
    assert asked == {"host": "gpu-a", "identity": "static:gpu-a", "forgotten": False}


def test_forget_key_of_a_host_that_left_the_configuration(filed: Workstation) -> None:
    """The key of a host that is not configured any more can be forgotten by its name."""
    filed.boxes.clear()
    filed.settings()
    assert "is forgotten" in asking(filed, "forget-key", "gpu-a").out


def test_help_comes_at_once() -> None:
    """The best of a few calls of --help takes so little work that it feels immediate, whatever else runs beside it."""
    took = []
    for _ in range(4):
        before = _spent()
        assert started_command("--help").code == ExitCode.OK
        took.append(_spent() - before)
    assert min(took) < _HELP_WITHIN


def _spent() -> float:
    """Return the processor seconds of the processes that this one started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_answer_may_be_cut_off(filed: Workstation) -> None:
    """Whoever stops reading an answer, as `head` does, gets no complaint from us."""
    with subprocess.Popen(
        command("show", experiment_of(filed), "-c", filed.config),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.wait()


def test_answer_that_can_not_be_written(workstation: Workstation) -> None:
    """An answer that is lost on a full disk is an error, and no success."""
    workstation.settings()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("runs", "-c", workstation.config),
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
    assert done.returncode == ExitCode.PARTIAL
    assert done.stderr == "error: the answer can't be written: No space left on device\n"
