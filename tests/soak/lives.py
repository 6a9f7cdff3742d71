"""What boxes do all day: they train, evaluate, truncate and rotate logs, rewrite files, go away and come back."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from random import Random

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from support.house import GpuBox

STEPS = 60
"""Of one run, about a step a second."""
KEPT = 3
"""Runs that stay on a box; older ones are deleted there."""
_LONGEST_ABSENCE = 15
"""Seconds."""


class Life:
    """One box's life; `step` is a second of it. The same seed and number give the same life."""

    def __init__(self, box: GpuBox, number: int, seed: int) -> None:
        self.box = box
        self.done: Counter[str] = Counter()
        """How often each thing happened."""
        self._number = number
        self._chance = Random(f"{seed} {number}")  # noqa: S311  (a life to repeat, not a secret)
        self._away = 0
        self._runs: list[RunWriter] = []
        self._start()

    @property
    def run(self) -> RunWriter:
        """The run that is being trained."""
        return self._runs[-1]

    def step(self) -> None:
        """Live for a second."""
        self._come_and_go()
        self.run.log_step(self.run.last_step + 1)
        if self.run.last_step >= STEPS + self._number:
            self.run.finish()
            self._start()
        for one_in, what in self._whims():
            if self._chance.random() * one_in < 1:
                self.done[what.__name__.strip("_")] += 1
                what()

    def settle(self) -> None:
        """Finish the run, and be there."""
        self._away = 0
        if not self.box.server.running:
            self.box.server.start()
        self.run.finish()

    def _whims(self) -> tuple[tuple[int, Callable[[], None]], ...]:
        return (
            (8, self._evaluate),
            (20, self._truncate),
            (25, self._rotate),
            (25, self._rewrite),
            (30, self._checkpoint),
            (30, self._leave),
        )

    def _start(self) -> None:
        count = self.done["runs"]
        self.done["runs"] += 1
        clock = f"{count // 3600 % 24:02}-{count // 60 % 60:02}-{count % 60:02}"
        run = RunWriter(self.box.root, RunSpec(timestamp=f"2025-08-{10 + self._number:02}_{clock}", total_steps=STEPS))
        run.start()
        run.log_step(1)
        evals_of_run(self.box.root, EvalSpec(run.run, questions=5)).write_config()
        self._runs.append(run)
        while len(self._runs) > KEPT:
            shutil.rmtree(self._runs.pop(0).directory)

    def _come_and_go(self) -> None:
        if self._away:
            self._away -= 1
            if not self._away:
                self.box.server.start()

    def _leave(self) -> None:
        """Shut down in order, or die."""
        if self.box.server.running:
            end = self._chance.choice((self.box.server.stop, self.box.server.kill))
            end()
            self._away = self._chance.randint(1, _LONGEST_ABSENCE)

    def _evaluate(self) -> None:
        evals_of_run(self.box.root, EvalSpec(self.run.run, questions=5)).evaluate(self.run.last_step)

    def _checkpoint(self) -> None:
        self.run.checkpoint(self.run.last_step)

    def _truncate(self) -> None:
        """Cut the log anywhere."""
        os.truncate(self.run.train_log, self._chance.randint(0, self.run.train_log.stat().st_size))

    def _rotate(self) -> None:
        """Move the log away; the next step starts another."""
        self.run.train_log.replace(self.run.train_log.with_suffix(".jsonl.1"))
        self.run.log_step(self.run.last_step + 1)

    def _rewrite(self) -> None:
        config = self.run.directory / "config.yaml"
        config.write_bytes(config.read_bytes() + b"# looked at\n")
