"""A person changes what was filed: noticed by `verify`, never overwritten, put right only where that is asked for."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harvestd.demo.writers import write_convention_example
from harvestd.errors import ExitCode
from support.command import Ended, harvestd_command, on_terminal
from support.faults import fired
from support.house import Workstation

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def filed(workstation: Workstation) -> Path:
    """Bring the convention's example home; gives the experiment's directory."""
    write_convention_example(workstation.add_box().root)
    await workstation.once()
    (experiment,) = [path for path in workstation.data.iterdir() if path.name != ".harvestd"]
    return experiment


def verify(workstation: Workstation, *arguments: str) -> Ended:
    """Run `harvestd verify`."""
    return harvestd_command("-c", workstation.config, "verify", *arguments)


def found(done: Ended) -> dict[str, str]:
    """Give what was found, by the last part of its path."""
    return {finding["path"].rpartition("/")[2]: finding["kind"] for finding in done.document["findings"]}


async def test_all_is_well(workstation: Workstation) -> None:
    """Nothing was changed: 0, and how much was read; a person's own notes are told and are no damage."""
    experiment = await filed(workstation)
    (experiment / "notes.txt").write_text("promising")
    done = verify(workstation, "--json")
    assert done.code == ExitCode.OK
    assert found(done) == {"notes.txt": "foreign"}
    sizes = [len(content) for path, content in workstation.filed().items() if isinstance(content, bytes)]
    assert done.document["bytes"] == sum(sizes) - len("promising")
    assert "all as it was filed" in verify(workstation).out
    workstation.audit()


def flip(path: Path) -> None:
    """Change one bit of a file, and not its size or its time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def shorten(path: Path) -> None:
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def link(path: Path) -> None:
    """Put a link in a file's place."""
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("change", "kind"), [(flip, "changed"), (shorten, "changed"), (Path.unlink, "missing"), (link, "in the way")]
)
async def test_change_is_noticed_and_left_alone(
    workstation: Workstation, change: Callable[[Path], None], kind: str
) -> None:
    """Another pass leaves alone what a person changed or deleted; `verify` ends with 4 and names it."""
    experiment = await filed(workstation)
    config = experiment / "training_run" / "config.yaml"
    change(config)
    fired(28)
    changed = config.read_bytes() if config.exists() else None
    await workstation.once()
    assert (config.read_bytes() if config.exists() else None) == changed
    done = verify(workstation, "--json")
    assert done.code == ExitCode.UNKNOWN_NAME
    assert found(done) == {"config.yaml": kind}
    assert "config.yaml" in verify(workstation, experiment.name).out


async def test_repair_fetches_anew_and_deletes_nothing(workstation: Workstation) -> None:
    """--repair puts what was changed among the versions and forgets what is gone; the next pass brings both home."""
    experiment = await filed(workstation)
    before = workstation.filed()
    run = experiment / "training_run"
    flip(run / "config.yaml")
    edited = (run / "config.yaml").read_bytes()
    (run / "training_state" / "step_final" / "training_info.json").unlink()
    (run / "training_state" / "step_latest").unlink()
    (workstation.data / ".harvestd" / "staging" / "transfer-stray").write_bytes(b"x")
    fired(28)
    done = verify(workstation, "--repair", "--json")
    assert (done.code, done.document["damaged"], done.document["repaired"]) == (ExitCode.OK, 4, 4)
    kept = workstation.data / ".harvestd" / "versions" / experiment.name / "training_run" / "config.yaml"
    assert [version.read_bytes() for version in kept.iterdir()] == [edited]
    await workstation.once()
    assert workstation.filed() == before
    assert verify(workstation).code == ExitCode.OK
    workstation.audit()


async def test_damaged_manifest_is_written_anew(workstation: Workstation) -> None:
    """A manifest that a person broke is damage, and --repair writes it from the catalogue."""
    experiment = await filed(workstation)
    manifest = experiment / "manifest.json"
    whole = json.loads(manifest.read_text())
    manifest.write_text("{")
    assert found(verify(workstation, "--json")) == {"manifest.json": "manifest"}
    assert verify(workstation, "--repair").code == ExitCode.OK
    assert json.loads(manifest.read_text())["files"] == whole["files"]
    workstation.audit()


async def test_no_repair_beside_a_daemon(workstation: Workstation) -> None:
    """Looking is allowed beside a running daemon; repairing is not, and ends with 7."""
    await filed(workstation)
    async with workstation.running():
        assert verify(workstation).code == ExitCode.OK
        assert verify(workstation, "--repair").code == ExitCode.LOCKED


async def test_hostile_names_are_shown_escaped(workstation: Workstation) -> None:
    """A file's name that plays with the terminal is told in a form that does not."""
    experiment = await filed(workstation)
    (experiment / "notes\x1b[2J\n").write_text("x")
    shown = on_terminal(["-c", workstation.config, "verify"])
    assert "\x1b[2J" not in shown
    assert "notes" in shown
