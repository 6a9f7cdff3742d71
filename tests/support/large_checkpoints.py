"""A finished run with a large final checkpoint: written on a box, on its way in staging, whole at home."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.house import Workstation
from support.waiting import holds

MIB = 1024 * 1024
RUN = RunSpec()
LARGE = ("optimizer.pt", "scheduler.pt", "optimizer_param_names.json")
SIZE = 24 * MIB


def write_large_checkpoint(root: Path, size: int = SIZE, names: Sequence[str] = LARGE) -> RunWriter:
    """Write a finished run whose final checkpoint has files of `size` bytes, which no compressor makes smaller."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(2)
    directory = writer.begin_checkpoint("final")
    for name in names:
        (directory / name).write_bytes((os.urandom(MIB) * (size // MIB + 1))[:size])
    writer.seal_checkpoint("final")
    return writer


def checkpoint(writer: RunWriter) -> dict[Path, bytes]:
    """Return the final checkpoint's files, relative to the run."""
    directory = writer.directory / "training_state" / "step_final"
    return {path.relative_to(writer.directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def is_home(workstation: Workstation, writer: RunWriter) -> Callable[[], bool]:
    """Return the condition that the whole checkpoint is at home."""
    wanted = checkpoint(writer)
    marker = Path("training_state/step_final/training_info.json")

    def found() -> bool:
        here = workstation.training(RUN.name)
        return (here / marker).exists() and all(holds(here / path, content)() for path, content in wanted.items())

    return found


def is_absent(workstation: Workstation) -> bool:
    """Return whether nothing at all of the checkpoint can be seen."""
    return not (workstation.training(RUN.name) / "training_state").exists()


def staged(workstation: Workstation) -> int:
    """Return the bytes in staging."""
    return sum(path.stat().st_size for path in (workstation.data / ".harvestd" / "staging").glob("transfer-*"))


def journalled(workstation: Workstation) -> int:
    """Return the bytes that the catalogue knows to be in staging."""
    return sum(int(str(row[0])) for row in workstation.catalogue("SELECT synced FROM transfers"))


def staging_is_empty(workstation: Workstation) -> bool:
    """Return whether nothing is left in staging, nor in the journal of transfers."""
    return not list((workstation.data / ".harvestd" / "staging").iterdir()) and not workstation.catalogue(
        "SELECT * FROM transfers"
    )
