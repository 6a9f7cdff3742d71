"""Commands of another account than the daemon's: a sentence that says which command works, never a traceback."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from harvestd.errors import ExitCode
from harvestd.settings.access import WrongAccount, require_account, service_account
from support.command import Ended, command, environment

NOBODY = pwd.getpwnam("nobody")
ME = pwd.getpwuid(os.geteuid())


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Return a machine's /etc with a unit, a drop-in of the installation's and a configuration."""
    drop_ins = tmp_path / "etc/systemd/system/harvestd.service.d"
    drop_ins.mkdir(parents=True)
    (drop_ins.parent / "harvestd.service").write_text("[Service]\nType=notify\n")
    (drop_ins / "10-install.conf").write_text("[Service]\nUser=nobody\n")
    (tmp_path / "etc/harvestd").mkdir()
    (tmp_path / "etc/harvestd/harvestd.toml").write_text("version = 1\n")
    return tmp_path / "etc"


def test_the_last_drop_in_says_whose_the_service_is(tmp_path: Path, etc: Path) -> None:
    """As systemd reads them; an account that is gone, or none, is no account."""
    assert service_account(tmp_path) is None
    assert service_account(etc) == NOBODY
    override = etc / "systemd/system/harvestd.service.d/override.conf"
    for user, found in ((ME.pw_name, ME), (str(ME.pw_uid), ME), ("harvestd-no-such-account", None), ("", None)):
        override.write_text(f"[Service]\nUser={user}\n")
        assert service_account(etc) == found


def test_the_machines_configuration_is_for_the_services_account(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another account, root among them, is told the command; another configuration is everybody's own business."""
    config = etc / "harvestd/harvestd.toml"
    monkeypatch.setattr("sys.argv", ["/opt/harvestd/bin/harvestd", "safe", "gpu a"])
    with pytest.raises(WrongAccount) as caught:
        require_account(config, etc)
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert "runs as nobody" in str(caught.value)
    assert "-u nobody" in caught.value.hint
    assert caught.value.hint.endswith("/opt/harvestd/bin/harvestd safe 'gpu a'")
    require_account(config.with_name("mine.toml"), etc)
    linked = etc / "link.toml"
    linked.symlink_to(config)
    with pytest.raises(WrongAccount):
        require_account(linked, etc)


def test_as_the_services_account_the_home_is_its_own(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sudo -E` and `runuser -u` leave HOME as it was: `~` must mean what it means for the daemon."""
    (etc / "systemd/system/harvestd.service.d/override.conf").write_text(f"[Service]\nUser={ME.pw_name}\n")
    monkeypatch.setenv("HOME", "/home/of-another")
    require_account(etc / "harvestd/harvestd.toml", etc)
    assert os.environ["HOME"] == ME.pw_dir


def _without_roots_rights(*arguments: str | Path, **variables: str) -> Ended:
    """Run `harvestd` as this account, but where that is root, without root's right to open what is others'."""
    plain = [] if ME.pw_uid else [_setpriv(), "--bounding-set=-dac_override,-dac_read_search"]
    done = subprocess.run(
        [*plain, *command(*arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**variables),
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def _setpriv() -> str:
    found = shutil.which("setpriv")
    assert found is not None, "setpriv is part of util-linux"
    return found


def _closed(tmp_path: Path, what: str) -> Path:
    """Make a configuration whose data root, or state directory, is closed to this account, and give it."""
    config = tmp_path / "harvestd.toml"
    place = tmp_path / "theirs"
    (place / "data/.harvestd").mkdir(parents=True)
    state = f'state_dir = "{place}/state"\n' if what == "catalogue" else ""
    data = tmp_path / "data" if state else place / "data"
    config.write_text(f'version = 1\ndata_root = "{data}"\n{state}')
    place.chmod(0)
    if not ME.pw_uid and what != "own":
        os.chown(place, NOBODY.pw_uid, NOBODY.pw_gid)
    return config


@pytest.mark.parametrize(
    ("what", "arguments"),
    [
        *(("data root", line.split()) for line in (
            "status", "hosts --json", "experiments", "show x", "explain /x", "safe x", "wait x", "fetch x", "name x y",
            "verify", "events", "once", "plan", "doctor", "run", "forget-key x", "report x", "sync x",
        )),
        ("catalogue", ["status"]),
        ("own", ["status"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)  # fmt: skip
def test_what_is_closed_is_said_in_a_sentence(tmp_path: Path, what: str, arguments: list[str]) -> None:
    """With the place, and where it belongs to another account with the command that works; nothing is made."""
    config = _closed(tmp_path, what)
    done = _without_roots_rights(*arguments, "-c", config)
    (tmp_path / "theirs").chmod(0o700)
    assert (done.code, done.out) == (ExitCode.CONFIGURATION, ""), done.err
    first, hint = done.err.splitlines()
    assert first.startswith(f"error: {tmp_path}/theirs is closed to ")
    assert hint.startswith("hint: it belongs to ")
    assert not (tmp_path / "data").exists()


def test_completion_of_names_says_nothing(tmp_path: Path) -> None:
    """TAB suggests no names, and no traceback ends up in the shell; the configuration itself can be checked."""
    config = _closed(tmp_path, "data root")
    done = _without_roots_rights(
        _HARVESTD_COMPLETE="bash_complete",
        COMP_WORDS="harvestd show ",
        COMP_CWORD="2",
        HARVESTD_CONFIG=str(config),
    )
    checked = _without_roots_rights("check", "-c", config)
    (tmp_path / "theirs").chmod(0o700)
    assert (done.code, done.out.strip(), done.err) == (0, "", "")
    assert checked.code == ExitCode.OK
