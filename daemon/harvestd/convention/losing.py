"""What would end with a box although nobody wants it at home: named with its size, so that a person can say so. Pure.

What is lost does not hang on what is wanted: a run that a person ignores still has checkpoints that no eval was made
of. What the operator's own patterns exclude was given up by name, and is not told again.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from harvestd.convention.accounting import Coming, is_here, storages_of
from harvestd.convention.artifacts import Kind
from harvestd.convention.checkpoints_here import CheckpointsHere
from harvestd.convention.circumstances import Circumstances
from harvestd.convention.knowledge import Knowledge
from harvestd.convention.layout import EvalDir, Group, RunDir, Source, Survey
from harvestd.convention.leftovers import is_undecided
from harvestd.convention.paths import RejectedPath
from harvestd.convention.patterns import checkpoint_step, eval_step
from harvestd.convention.placing import experiment_home
from harvestd.convention.plan import Plan
from harvestd.convention.verdict import Loss, LossKind

MOST: Final = 64
"""Losses of one kind that are named one by one; a box may make up any number."""
_NAMED: Final = 3
"""Names in one line."""


def losses_of(
    survey: Survey, plan: Plan, storage: str, knowledge: Knowledge, datasets: Sequence[str]
) -> tuple[Loss, ...]:
    """Give what is neither here nor coming: checkpoints that no eval refers to, records, and what nobody knows."""
    losing = _Losing(survey, plan, storage, knowledge, datasets)
    checkpoints = [loss for run in survey.runs for loss in losing.checkpoints(run)]
    records = [loss for eval_dir in survey.evals for loss in losing.records(eval_dir)]
    return (
        *_bounded(checkpoints, "checkpoints of all runs"),
        *_bounded(records, "records of all evals"),
        *_bounded(list(_strays(survey)), "files in the trees that the convention does not know"),
    )


def losses_beside(circumstances: Circumstances) -> tuple[Loss, ...]:
    """Give what the box itself says would be lost outside of its trees."""
    found: list[Loss] = []
    outside = circumstances.outside
    if outside is not None and outside.files:
        what = _some(outside.newest, outside.files) if outside.newest else "files outside the roots"
        found.append(Loss(LossKind.OUTSIDE_FILES, what, outside.size, outside.files))
    for each in circumstances.checkouts or ():
        what = f"{each.place}: {each.changed} changed files, {each.unpushed} commits that are nowhere else"
        found.append(Loss(LossKind.UNCOMMITTED_WORK, what, None, each.changed))
    return tuple(found)


def _strays(survey: Survey) -> Iterator[Loss]:
    """Give what lies in the trees and was never decided about: a result in a directory with a wrong name is one, too.

    Of a husk its log alone: starts on several GPUs leave them by the dozen, with nothing in them.
    """
    directories: Iterable[RunDir | EvalDir] = (*survey.runs, *survey.evals)
    lines = (*survey.left_out, *(line for each in directories for line in each.left_out))
    for line in lines:
        if is_undecided(line) and line.size != 0:
            yield Loss(LossKind.OUTSIDE_FILES, line.place, line.size, line.entries)
    for run in survey.runs:
        logs = (each.source for each in run.growing if run.config is None and each.kind is Kind.TRAIN_LOG)
        for log in logs:
            if log.version.size:
                yield Loss(LossKind.OUTSIDE_FILES, log.place, log.version.size)


class _Losing:
    def __init__(self, survey: Survey, plan: Plan, storage: str, knowledge: Knowledge, datasets: Sequence[str]) -> None:
        self._storage = storage
        self._storages = storages_of(survey, storage, knowledge)
        self._knowledge = knowledge
        self._coming = Coming(plan)
        self._datasets = datasets

    def checkpoints(self, run: RunDir) -> Iterable[Loss]:
        referred = self._referred(run)
        lost = [
            group
            for group in run.checkpoints
            if checkpoint_step(group.path.name) not in referred and self._is_lost(run, group)
        ]
        if lost:
            names = _some([group.path.name for group in lost], len(lost))
            size, entries = sum(group.size for group in lost), sum(len(group.members) for group in lost)
            yield Loss(LossKind.CHECKPOINTS, f"{run.place}: {names}", size, entries)

    def records(self, eval_dir: EvalDir) -> Iterable[Loss]:
        wanted = (group for group in eval_dir.groups if group.members[0].kind is Kind.RECORDS)
        groups = (*wanted, *(each.group for each in eval_dir.on_request))
        sources = [member.source for group in groups for member in group.members]
        lost = [each for each in sources if not self._coming.has(each.place) and not self._is_here(each)]
        if lost:
            yield Loss(LossKind.RECORDS, eval_dir.place, sum(each.version.size for each in lost), len(lost))

    def _is_here(self, source: Source) -> bool:
        return is_here(source, self._storages, self._knowledge)

    def _is_lost(self, run: RunDir, group: Group) -> bool:
        if not group.size or any(self._coming.has(member.source.place) for member in group.members):
            return False
        if all(self._is_here(member.source) for member in group.members):
            return False
        here = self._checkpoints_here(run)
        return here is None or not here.is_here(group.path.name)

    def _checkpoints_here(self, run: RunDir) -> CheckpointsHere | None:
        """Give what knows which checkpoints stand at the run's home, whichever storage they came by."""
        record = self._knowledge.run_at(self._storage, run.place)
        if record is None or record.experiment is None or self._knowledge.is_gone(record.experiment):
            return None
        try:
            home = experiment_home(self._knowledge.experiment(record.experiment), "training_run")
        except RejectedPath:
            return None
        return CheckpointsHere(run, record, home.directory, self._knowledge)

    def _referred(self, run: RunDir) -> Collection[str]:
        """Give the steps of which an eval is here, among those of this very run."""
        record = self._knowledge.run_at(self._storage, run.place)
        if record is None or record.experiment is None:
            return ()
        found: set[str] = set()
        for file in self._knowledge.files_of(record.experiment):
            if file.kind is Kind.METRICS and file.target.parts[1:2] == ("eval_results",):
                steps = (eval_step(part, self._datasets) for part in file.target.parts[2:-1])
                found.update(step.step for step in steps if step)
        return found


def _bounded(losses: Sequence[Loss], rest: str) -> Sequence[Loss]:
    if len(losses) <= MOST:
        return losses
    grouped: defaultdict[LossKind, list[Loss]] = defaultdict(list)
    for loss in losses:
        grouped[loss.kind].append(loss)
    return [
        Loss(kind, rest, sum(each.size or 0 for each in found), sum(each.entries for each in found))
        for kind, found in grouped.items()
    ]


def _some(names: Sequence[str], count: int) -> str:
    """Name a few of so many."""
    named = names[:_NAMED]
    more = count - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")
