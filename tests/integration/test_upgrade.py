"""A data root of 550975c under this version: no file of it changes, nothing is lost, every documented name stays."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.errors import ExitCode
from support.command import Ended, harvestd_command, running_command
from support.house import Workstation
from support.older import write_as
from support.upgrade import answers, write_catalogue, write_tree
from support.waiting import until

OWN = ("catalogue.sqlite", "lock")
"""Files of `.harvestd` that each start writes."""
CHANGED = ("connected", "not_watched")
"""The state of a host when no daemon runs, then and now."""
LONG = 60.0
CONFIG = """\
version = 1
data_root = "{data}"
[naming]
default_experiment = "trial"
[report]
pictures = false
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Provide the configuration of the data root as it was, without a host, in `data` beside it."""
    write_tree(tmp_path / "data")
    write_catalogue(tmp_path / "data" / ".harvestd")
    path = tmp_path / "harvestd.toml"
    path.write_text(CONFIG.format(data=tmp_path / "data"))
    return path


def command(config: Path, *arguments: str) -> Ended:
    """Run a command on the data root."""
    return harvestd_command("-c", config, *arguments)


def everything(data: Path) -> dict[str, tuple[object, ...]]:
    """Return what can be seen of each entry below the data root."""
    found: dict[str, tuple[object, ...]] = {}
    for path in data.rglob("*"):
        if path.parent == data / ".harvestd" and path.name.startswith(OWN):
            continue
        info = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else None
        if path.is_file() and not path.is_symlink():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        times = None if path in {data / ".harvestd", data / ".harvestd" / "staging"} else info.st_mtime_ns
        found[str(path.relative_to(data))] = (info.st_mode, info.st_ino, times, content)
    return found


def lost(before: Any, after: Any, where: str = "") -> Iterator[str]:  # noqa: ANN401  (JSON may be anything)
    """Yield what an earlier document has and one of now has not; more than before may be there, in another order."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield f"{where}.{key} is missing"
            else:
                yield from lost(value, after[key], f"{where}.{key}")
    elif isinstance(before, list) and isinstance(after, list):
        for old in before:
            if all(any(lost(old, new)) for new in after):
                yield f"{where} has no {old!r}"
    elif before != after and (before, after) != CHANGED:
        yield f"{where} was {before!r}, is {after!r}"


def test_an_upgrade_moves_no_byte_and_loses_nothing(config: Path) -> None:
    """The first start migrates; then each command says of everything what the earlier version said."""
    data = config.with_name("data")
    before = everything(data)
    started = command(config, "once")
    assert started.code == ExitCode.OK, started.err
    differences = []
    for arguments, code, document in answers(data):
        now = command(config, *arguments)
        assert now.code == code, now.err
        differences += [f"{' '.join(arguments)}: {each}" for each in lost(document, now.document)]
    assert differences == []
    assert everything(data) == before


GENERATED = re.compile(rb"<!-- harvestd begins: .*?<!-- harvestd ends -->", re.DOTALL)


@pytest.mark.anyio
async def test_a_daemon_makes_the_reports_anew_and_changes_nothing_else(config: Path, tmp_path: Path) -> None:
    """Of each README the generated part alone is another one, `index.md` and `analysis/` are new; all else stays."""
    data = config.with_name("data")
    before = everything(data)
    readmes = {path: path.read_bytes() for path in data.glob("*/README.md")}
    assert len(readmes) == 3
    with running_command("-c", config, "run", output=tmp_path / "output"):
        await until(lambda: all(path.read_bytes() != content for path, content in readmes.items()), LONG)
        await until((data / "index.md").exists, LONG)
    for path, content in readmes.items():
        assert GENERATED.sub(b"", path.read_bytes()) == GENERATED.sub(b"", content)
        assert GENERATED.search(path.read_bytes())
    assert (data / "index.md").read_text().count("\n| [") == len(readmes)
    own = {str(path.relative_to(data)) for path in readmes}
    after = {
        path: seen
        for path, seen in everything(data).items()
        if path not in own and path != "index.md" and "analysis" not in path.split("/")[1:2] and not is_of_daemon(path)
    }
    directories = {path.parent.name for path in readmes}
    assert {path: seen for path, seen in after.items() if path not in directories} == {
        path: seen for path, seen in before.items() if path not in own | directories
    }


def is_of_daemon(path: str) -> bool:
    """Return whether a path is one of a running daemon's own files."""
    kept = (".harvestd/versions", ".harvestd/staging", ".harvestd/root.json")
    return path.startswith(".harvestd/") and not path.startswith(kept)


@pytest.mark.anyio
@pytest.mark.openssh
@pytest.mark.parametrize("revision", ["0001", "0006", "0008"])
async def test_nothing_is_fetched_again_after_an_upgrade(workstation: Workstation, revision: str) -> None:
    """A host that still shows what an earlier version fetched has nothing new; its run goes on where it was."""
    writer = RunWriter(workstation.add_box().root, RunSpec(total_steps=8))
    writer.start()
    writer.log_until(4)
    writer.checkpoint(2)
    evals = evals_of_run(workstation.boxes["gpu-a"].root, EvalSpec(writer.run, questions=2))
    evals.write_config()
    evals.evaluate(2)
    await workstation.once()
    before = workstation.filed()
    write_as(workstation.state, revision)
    (again,) = (await workstation.once()).values()
    assert again.files == 0
    assert workstation.filed() == before
    writer.log_until(6)
    await workstation.once()
    assert workstation.follows(writer)()
    workstation.audit()
