"""Names that no file may have, told by a scripted box: refused and counted, and their siblings come home."""

from pathlib import Path

import pytest
import structlog.testing

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.faults import fired
from support.house import Workstation
from support.lying import Liar, Row, add_port, entry, listening, settled
from support.surroundings import untouched
from support.waiting import EventLog, events

pytestmark = pytest.mark.anyio

RUN = RunSpec()
HOME = "training_runs"
MODEL = f"{RUN.name}/training_state/step_final/model"


def run_on(root: Path) -> RunWriter:
    """Write a whole run, long ago."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(3)
    writer.finish()
    settled(root)
    return writer


async def visited(workstation: Workstation, liar: Liar) -> EventLog:
    """Make a pass over a scripted box and check that its honest run came home; gives what was said."""
    async with listening(liar.script) as port:
        add_port(workstation, "liar", port, liar.root)
        with structlog.testing.capture_logs() as event_log:
            await workstation.once()
    training = workstation.training(RUN.name)
    assert (training / "config.yaml").is_file()
    assert (training / "training_state/step_final/model/adapter_model.safetensors").is_file()
    return event_log


def rejected(event_log: EventLog) -> int:
    """Return how many names the daemon said it refused."""
    (told,) = [
        str(one["error"]) for one in events(event_log, "file.rejected") if "names that can't be used" in str(one)
    ]
    return int(told.split()[0])


NAMES = {
    43: ["..", ".", "", "../x", "../../passwd", "/etc/passwd", "a//b", "a/../b", "../../../../passwd", "~/../x/"],
    44: ["nul\0", "\0", "config.yaml\0.txt"],
    47: ["x" * 256, "é" * 128, "x" * 65_536],
}


@pytest.mark.parametrize("case", NAMES)
async def test_names_are_refused_alone(workstation: Workstation, tmp_path: Path, case: int) -> None:
    """A name that leads elsewhere, holds a NUL or is too long is counted; nothing is written or asked for by it."""
    liar = Liar(run_on(tmp_path / "box").directory.parents[1])
    files: list[Row] = [entry(name, "f", 5, 1, 1, 900 + n) for n, name in enumerate(NAMES[case])]
    folders: list[Row] = [entry(name, "d", 0, 1, 1, 990 + n) for n, name in enumerate(NAMES[case])]
    liar.rows = [(HOME, MODEL, row) for row in files] + [(HOME, "", row) for row in folders]
    with untouched(workstation):
        event_log = await visited(workstation, liar)
    assert rejected(event_log) == len(files) + len(folders)
    fired(case)
    assert not any(".." in path or path.startswith("/") for path in liar.heard)
    workstation.audit()


async def test_directories_that_lead_elsewhere(workstation: Workstation, tmp_path: Path) -> None:
    """What is told to lie in a directory of a bad name has no place here, however good its own name is."""
    liar = Liar(run_on(tmp_path / "box").directory.parents[1])
    bad = ["..", "../..", f"{MODEL}/../../../../..", "/etc", f"{RUN.name}//logs", f"../training_runs/{RUN.name}"]
    liar.rows = [(HOME, directory, entry("passwd", "f", 5, 1, 1, 900)) for directory in bad]
    with untouched(workstation):
        event_log = await visited(workstation, liar)
    # Each directory's own name, and that of what is said to lie there.
    assert rejected(event_log) == 2 * len(bad)
    fired(43)
    workstation.audit()


async def test_endless_depth(workstation: Workstation, tmp_path: Path) -> None:
    """Ten thousand levels are refused at once, and at a depth that is allowed nothing is lost but what lies below."""
    liar = Liar(run_on(tmp_path / "box").directory.parents[1])
    deep = "/".join([MODEL, *["d"] * 10_000])
    liar.rows = [(HOME, deep, entry("f", "f", 5, 1, 1, 900)), (HOME, "/".join(["e"] * 70), entry("f"))]
    with untouched(workstation):
        event_log = await visited(workstation, liar)
    assert rejected(event_log) == 4
    fired(47)
    workstation.audit()


async def test_too_many_bad_names_are_no_accident(workstation: Workstation, tmp_path: Path) -> None:
    """A thousand names that no file may have end in quarantine, and what was here stays."""
    liar = Liar(run_on(tmp_path / "box").directory.parents[1])
    with untouched(workstation):
        await visited(workstation, liar)
        before = workstation.filed()
        liar.rows = [(HOME, MODEL, entry(f"../{n}", "f", 5, 1, 1, 900)) for n in range(1001)]
        async with listening(liar.script) as port:
            add_port(workstation, "liar", port, liar.root)
            (outcome,) = (await workstation.outcomes()).values()
    assert "names that no file may have" in str(outcome.error)
    fired(43)
    assert workstation.filed() == before
    workstation.audit()
