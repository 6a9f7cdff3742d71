"""Boxes on which training and evals go on while a test does something to the daemon: every change is by chance, seeded.

The changes are those of real boxes: logs grow, leaves are evaluated and evaluated again, logs begin anew, and runs end
with a checkpoint whose parts are too large for one piece. A finished run is never touched again.
"""

from itertools import count
from pathlib import Path
from random import Random
from typing import Final

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run

MIB: Final = 1024 * 1024
_STEPS_TO_FINISH: Final = 40
_LARGE: Final = 10 * MIB
"""Bytes of a checkpoint's largest part."""


class BusyBox:
    """One box's runs, one after the other."""

    def __init__(self, root: Path, number: int, chance: Random) -> None:
        self._root = root
        self._number = number
        self._chance = chance
        self._runs = count()
        self._questions = count(5)
        self._writer = self._begun()
        self.finish()
        self._writer = self._begun()

    def _begun(self) -> RunWriter:
        second = next(self._runs)
        run = RunSpec(timestamp=f"2025-08-{10 + self._number}_{second // 60:02}-{second % 60:02}-00", total_steps=20)
        writer = RunWriter(self._root, run)
        writer.start()
        writer.log_until(2)
        return writer

    def change(self) -> None:
        """Do the next thing."""
        writer = self._writer
        match self._chance.randrange(8):
            case 0 | 1:
                self._evaluate()
            case 2 if writer.last_step > 3:
                # The software starts its log anew, as after an error in its first steps.
                writer.train_log.write_bytes(b"")
                writer.log_step(writer.last_step + 1)
            case _ if writer.last_step >= _STEPS_TO_FINISH:
                self.finish()
                self._writer = self._begun()
            case _:
                writer.log_until(writer.last_step + self._chance.randrange(1, 4))

    def _evaluate(self) -> None:
        evals = evals_of_run(self._root, EvalSpec(self._writer.run, questions=next(self._questions)))
        evals.write_config()
        evals.evaluate(self._chance.choice((2, 4)))

    def finish(self) -> None:
        """Let the run that goes on end, with a checkpoint that no compressor makes smaller."""
        directory = self._writer.begin_checkpoint("final")
        (directory / "optimizer.pt").write_bytes(self._chance.randbytes(_LARGE))
        self._writer.seal_checkpoint("final")
