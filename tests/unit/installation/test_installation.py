"""`harvestd install` and `uninstall`: what they write, that they are safe to repeat, and what they leave alone."""

import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

import harvestd
from harvestd import installation
from harvestd.cli.commands import install as command
from harvestd.errors import Fatal
from harvestd.installation import (
    STATE,
    Site,
    Standing,
    account_in,
    first_configuration,
    installing,
    of_system,
    of_user,
    packaged,
    standing,
    uninstalling,
)
from harvestd.settings import load
from harvestd.settings.load import file_source
from harvestd.settings.schema import Settings

EXECUTABLE = Path("/opt/harvestd/bin/harvestd")
SYSTEMD = Path(harvestd.__file__).parents[2] / "systemd"
Calls = list[tuple[Sequence[str], str]]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return the machine's places below a directory of the test's, for the account that is made."""
    return replace(of_system("harvestd", tmp_path), home=STATE)


def install(site: Site, calls: Calls | None = None) -> list[str]:
    """Carry out all steps but programs, which are noted in `calls`; gives what was said."""
    heard: Calls = [] if calls is None else calls
    lines = []
    for step in installing(site, EXECUTABLE, lambda words, account: heard.append((words, account))):
        step.do()
        lines.append(step.line)
    return lines


def uninstall(site: Site) -> list[str]:
    """Carry out all steps; gives what was said."""
    lines = []
    for step in uninstalling(site):
        step.do()
        lines.append(step.line)
    return lines


def test_everything_is_written_once(site: Site) -> None:
    """Unit, drop-in, account and a first configuration; a second time all is as it was."""
    calls: Calls = []
    first = install(site, calls)
    assert [line.split(":")[0] for line in first] == ["written", "called", "written", "written", "written"]
    assert calls == [(("systemd-sysusers", str(site.accounts)), "")]
    assert site.unit.read_text().endswith(packaged("systemd", "harvestd.service"))
    assert site.config.read_text() == first_configuration(STATE)
    # The same place for whichever account reads the file.
    assert load(site.config, env={}).data_root == STATE / "data/downloaded_runs"
    assert "User=harvestd\n" in site.drop_in.read_text()
    before = {path: path.stat().st_mtime_ns for path in (site.unit, site.drop_in, site.config)}
    assert not [line for line in install(site) if line.startswith("written")]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_what_was_edited_is_left(site: Site) -> None:
    """A configuration, a unit that a person changed, one that was never ours: neither overwritten nor removed."""
    install(site)
    site.config.write_text("version = 1\n")
    site.unit.write_text(site.unit.read_text().replace("WatchdogSec=60", "WatchdogSec=90"))
    site.drop_in.write_text("[Service]\nUser=alice\n")
    lines = install(site)
    assert f"left as it is: {site.config}" in lines
    assert [line for line in lines if line.startswith("left, edited by hand")] == [
        f"left, edited by hand: {path} (move it away to have it written anew)" for path in (site.unit, site.drop_in)
    ]
    assert [line.split(":")[0] for line in uninstall(site)] == [
        "left, edited by hand",
        "left, edited by hand",
        "removed",
    ]
    assert "WatchdogSec=90" in site.unit.read_text()
    assert site.drop_in.read_text() == "[Service]\nUser=alice\n"
    assert site.config.read_text() == "version = 1\n"


def test_a_unit_of_another_version_is_replaced(site: Site) -> None:
    """One that we wrote and nobody edited is brought up to date."""
    install(site)
    old = replace(site, source="harvestd-user.service")
    install(old)
    assert standing(site.unit) is Standing.OURS
    assert f"written: {site.unit}" in install(site)
    assert site.unit.read_text().endswith(packaged("systemd", "harvestd.service"))


def test_uninstalling_takes_ours_alone(site: Site) -> None:
    """The configuration and a drop-in of the operator's stay; an empty directory of drop-ins goes."""
    install(site)
    own = site.drop_in.with_name("own.conf")
    own.write_text("[Service]\n")
    assert {line.split(":")[0] for line in uninstall(site)} == {"removed"}
    assert own.exists()
    assert site.config.exists()
    assert not site.unit.exists()
    own.unlink()
    install(site)
    uninstall(site)
    assert not site.drop_in.parent.exists()
    assert {line.split(":")[0] for line in uninstall(site)} == {"not there"}


def test_a_data_root_elsewhere_is_made_by_its_owner_and_opened(site: Site) -> None:
    """What the configuration names is where the unit may write; `~` is the home of who it runs as."""
    alice = replace(site, account="alice", home=Path("/home/alice"))
    site.config.parent.mkdir()
    site.config.write_text('data_root = "~/nowhere/runs"\nstate_dir = "/srv/state"\n')
    calls: Calls = []
    install(alice, calls)
    places = ["/home/alice/nowhere/runs", "/srv/state", "/home/alice/.lambda_eval_jobs"]
    assert calls == [(("mkdir", "-p", "--", place), "alice") for place in places]
    text = site.drop_in.read_text()
    assert "User=alice\n" in text
    assert "ProtectHome=read-only\n" in text
    opened = [line.partition("=")[2] for line in text.splitlines() if line.startswith("ReadWritePaths")]
    assert opened == [f"-{place}" for place in places]
    unit, _, service = text.partition("[Service]")
    assert [line.partition("=")[2] for line in unit.splitlines() if line.startswith("RequiresMountsFor")] == places
    assert "RequiresMountsFor" not in service
    assert account_in(site.unit.parents[2]) == "alice"
    assert site.accounts is not None
    assert not site.accounts.exists()


def test_places_that_are_open_anyway_are_not_named() -> None:
    """The account's own home is; a place inside another one is open with it; a relative one starts at the file."""
    where = Path("/etc/harvestd/harvestd.toml")
    assert installation.drop_in_places("", where, STATE) == ()
    home = Path("/home/alice")
    found = installation.drop_in_places('data_root = "/a"\nstate_dir = "/a/b"\n[jobs]\ndirectory = "jobs"', where, home)
    assert found == (Path("/a"), Path("/etc/harvestd/jobs"))
    with pytest.raises(Fatal, match=r"harvestd\.toml"):
        installation.drop_in_places("data_root =", where, home)


@pytest.mark.parametrize(
    "output",
    ["/a", "/a/../b", "~", "~/runs", "~root/runs", "runs", "./runs", "../runs", "/a b/", "~nobody_of_this_name/runs"],
)
def test_places_are_those_that_the_daemon_will_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """The drop-in opens what the configuration's own reader reads."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = tmp_path / "etc" / "harvestd.toml"
    config.parent.mkdir()
    text = f'data_root = "{output}"\n'
    config.write_text(text)
    found = installation.drop_in_places(text, config, tmp_path / "home")
    table = file_source(config).table
    try:
        read = Settings.model_validate(table).data_root
    except ValidationError:
        return
    assert read in found


@pytest.mark.parametrize(
    ("path", "word"),
    [("/a b", '"-/a b"'), ("/50%", "-/50%%"), ('/a"b', '"-/a\\"b"'), ("/a\\b", '"-/a\\\\b"'), ("/ä", "-/ä")],
)
def test_odd_paths_are_one_word_of_the_unit(site: Site, path: str, word: str) -> None:
    """Blanks, quotes, per cent signs and backslashes mean themselves."""
    assert f"ReadWritePaths={word}\n" in installation.drop_in_text(site, EXECUTABLE, (Path(path),))


def test_a_program_in_a_closed_home_is_refused(site: Site) -> None:
    """The daemon could not read it: root's, or another person's."""
    alice = replace(site, account="alice", home=Path("/home/alice"))
    assert site.is_closed(Path("/root/.local/bin/harvestd"))
    assert alice.is_closed(Path("/root/.local/bin/harvestd"))
    assert alice.is_closed(Path("/home/bob/bin/harvestd"))
    assert not alice.is_closed(Path("/home/alice/.local/bin/harvestd"))
    assert not site.is_closed(EXECUTABLE)


def test_nobody_is_no_account(tmp_path: Path) -> None:
    """A name that nobody has is refused before anything is written."""
    with pytest.raises(Fatal, match="no account"):
        of_system("harvestd-nobody", tmp_path)
    assert of_system(pwd.getpwuid(0).pw_name, tmp_path).home == Path("/root")


def test_a_user_needs_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`install --user --dry-run` changes nothing, `install --user` writes below ~/.config, and each line says what."""
    monkeypatch.setattr(command, "BOOTED", tmp_path / "no systemd")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("SUDO_USER", raising=False)
    program = tmp_path / "harvestd"
    program.touch()
    monkeypatch.setattr(sys, "argv", [str(program)])
    shown = CliRunner().invoke(command.install, ["--user", "--dry-run"], catch_exceptions=False)
    assert shown.output.startswith("nothing is done")
    assert [path.name for path in tmp_path.iterdir()] == ["harvestd"]
    done = CliRunner().invoke(command.install, ["--user"], catch_exceptions=False)
    site = of_user({"HOME": str(tmp_path)})
    assert done.output.splitlines()[:3] == [f"written: {path}" for path in (site.config, site.unit, site.drop_in)]
    assert shown.output.splitlines()[1:] == done.output.splitlines()
    assert "next: systemctl --user enable --now harvestd" in done.output
    assert f"ExecStart={program} run --config {site.config}\n" in site.drop_in.read_text()
    gone = CliRunner().invoke(command.uninstall, ["--user"], catch_exceptions=False)
    assert f"removed: {site.unit}" in gone.output
    assert site.config.exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_the_system_unit_is_closed() -> None:
    """The score that systemd gives is at most 2.0: without root's powers, homes, devices and most system calls."""
    rated = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"]
    done = subprocess.run(
        [*rated, str(SYSTEMD / "harvestd.service")], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
