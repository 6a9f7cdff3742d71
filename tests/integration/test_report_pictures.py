"""The pictures as a user gets them: the real scripts, run by the daemon's own code with real matplotlib."""

import pytest

from harvestd.demo.writers import write_convention_example
from support.command import harvestd_command
from support.house import Workstation

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

PICTURES = {
    "complete_gns_training_progress.png",
    "detailed_passk_progress.png",
    "entropy_probe.png",
    "training_progress.png",
}


async def test_a_pass_draws(workstation: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pass an experiment shows its pictures; neither a second one nor the command by hand draws others.

    matplotlib's list of fonts is kept below the state directory, though the home of the account can't be written.
    """
    monkeypatch.setenv("HOME", "/nowhere")
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    pytest.importorskip("matplotlib")
    write_convention_example(workstation.add_box().root)
    await workstation.once(report={"pictures": True})
    (home,) = (path for path in workstation.data.iterdir() if path.is_dir() and path.name != ".harvestd")
    drawn = {path.name: path.stat().st_ino for path in home.glob("analysis/*.png")}
    assert drawn.keys() == PICTURES
    assert list((workstation.data / ".harvestd" / "matplotlib").glob("fontlist*")), "fonts are looked for only once"
    readme = (home / "README.md").read_text()
    assert all(f"](analysis/{name})" in readme for name in PICTURES)
    await workstation.once(report={"pictures": True})
    done = harvestd_command("-c", workstation.config, "report", home.name)
    assert (done.code, done.err) == (0, "")
    assert {line.rpartition("/")[2] for line in done.out.splitlines()} == PICTURES | {"README.md"}
    assert {path.name: path.stat().st_ino for path in home.glob("analysis/*.png")} == drawn
    assert (home / "README.md").read_text() == readme
    assert workstation.findings() == []
