"""Finds what would be lost with a host because it is not fetched: named with its size, so a person can accept it. Pure.

Losses do not depend on what is wanted: checkpoints of an ignored run are among them. What the operator's own patterns
exclude is not reported; a built-in rule waives nothing but litter.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from harvestd.convention.kinds import Kind, LossKind, checkpoint_step, eval_step
from harvestd.convention.paths import RejectedPath
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import EvalDir, Group, RunDir, ScanResult, Source, SymbolicLink
from harvestd.convention.structs import Steps
from harvestd.planning.destinations import experiment_destination
from harvestd.planning.index import PlanningIndex
from harvestd.planning.local_checkpoints import CheckpointsHere
from harvestd.planning.plan import Plan
from harvestd.safety.accounting import Coming, is_here, missing_of, storages_of
from harvestd.safety.inputs import Circumstances, Memo, NotHere
from harvestd.safety.verdict import Loss

MOST: Final = 64
"""The greatest number of losses of one kind that are listed singly; a host may show any number."""
_NAMED: Final = 3
"""The number of names in one line."""


def losses_of(
    survey: ScanResult, plan: Plan, storage: str, knowledge: PlanningIndex, datasets: Sequence[str], memo: Memo
) -> tuple[Loss, ...]:
    """Return what is neither local nor to be fetched: checkpoints, records, and entries that no operator waived."""
    losing = _Losing(survey, plan, storage, knowledge, datasets)
    checkpoints = [loss for run in survey.runs for loss in losing.checkpoints(run, memo)]
    records = [loss for eval_dir in survey.evals for loss in losing.records(eval_dir, memo)]
    return (
        *_bounded(checkpoints, "checkpoints of all runs"),
        *_bounded(records, "records of all evals"),
        *_bounded(list(_left_behind(survey)), "files in the trees that the convention does not know"),
    )


def accounting_for(
    survey: ScanResult, plan: Plan, storage: str, knowledge: PlanningIndex, datasets: Sequence[str], memo: Memo
) -> Steps[None]:
    """Put into the memo what `losses_of` and `not_here` need of each directory; yield before each.

    Records may change meanwhile: the memo does not use what was computed before that for a verdict.
    """
    losing = _Losing(survey, plan, storage, knowledge, datasets)
    for run in survey.runs:
        yield
        losing.checkpoints(run, memo)
        losing.missing(run, memo)
    for eval_dir in survey.evals:
        yield
        contents = eval_dir.contents.groups()  # made once for both
        losing.records(eval_dir, memo)
        losing.missing(eval_dir, memo)
        del contents


def losses_beside(circumstances: Circumstances) -> tuple[Loss, ...]:
    """Return what would be lost outside the trees, as reported by the host."""
    found: list[Loss] = []
    outside = circumstances.outside
    if outside is not None and outside.files:
        what = _some(outside.newest, outside.files) if outside.newest else "files outside the roots"
        found.append(Loss(LossKind.OUTSIDE_FILES, what, outside.size, outside.files))
    for each in circumstances.checkouts or ():
        what = f"{each.place}: {each.changed} changed files, {each.unpushed} commits that are nowhere else"
        found.append(Loss(LossKind.UNCOMMITTED_WORK, what, None, each.changed))
    return tuple(found)


def _left_behind(survey: ScanResult) -> Iterator[Loss]:
    """Yield what a built-in rule leaves out, what no rule covers, and what is in directories that are not runs.

    Empty files are not losses: starts on several GPUs leave dozens of them.
    """
    directories: Iterable[RunDir | EvalDir] = (*survey.runs, *survey.evals)
    lines = (*survey.left_out, *(line for each in directories for line in each.left_out))
    for line in lines:
        if line.loss is not None and line.size != 0:
            yield Loss(line.loss, line.place, line.size, line.entries)
    for run in survey.runs:
        if run.config is not None:
            continue
        for each in (*run.growing, *(member for group in run.groups for member in group.members)):
            if each.source.version.size:
                yield Loss(LossKind.OUTSIDE_FILES, each.source.place, each.source.version.size)


class _Losing:
    def __init__(
        self, survey: ScanResult, plan: Plan, storage: str, knowledge: PlanningIndex, datasets: Sequence[str]
    ) -> None:
        self._storage = storage
        self._storages = storages_of(survey, storage, knowledge)
        self._basis = self._storages, tuple(datasets)
        self._knowledge = knowledge
        self._coming = Coming(plan)
        self._datasets = datasets
        lines = (line for entries in plan.left_out.values() for line in entries)
        self._hindered = frozenset(line.place for line in lines if line.hindered)
        """Outstanding, and therefore no loss, although nothing fetches it."""

    def checkpoints(self, run: RunDir, memo: Memo) -> list[Loss]:
        """Return the checkpoints of a run that would be lost."""
        return memo.of("lost checkpoints", run, self._basis, lambda: list(self._checkpoints(run)))

    def records(self, eval_dir: EvalDir, memo: Memo) -> list[Loss]:
        """Return the records of an eval directory that would be lost."""
        return memo.of("lost records", eval_dir, self._basis, lambda: list(self._records(eval_dir)))

    def missing(self, directory: RunDir | EvalDir, memo: Memo) -> Sequence[NotHere]:
        """Return the wanted files of a directory that are neither local nor in the plan."""
        return missing_of(directory, self._coming, self._storages, self._knowledge, memo)

    def _checkpoints(self, run: RunDir) -> Iterator[Loss]:
        referred = self._referred(run)
        lost: dict[LossKind, list[Group]] = {}
        for group in run.checkpoints:
            if self._is_lost(run, group):
                evaluated = checkpoint_step(group.path.name) in referred
                kind = LossKind.EVALUATED_CHECKPOINTS if evaluated else LossKind.CHECKPOINTS
                lost.setdefault(kind, []).append(group)
        for kind, groups in sorted(lost.items()):
            names = _some([group.path.name for group in groups], len(groups))
            size, entries = sum(group.size for group in groups), sum(len(group.members) for group in groups)
            yield Loss(kind, f"{run.place}: {names}", size, entries)

    def _records(self, eval_dir: EvalDir) -> Iterator[Loss]:
        groups = (group for group in eval_dir.groups if group.members[0].kind is Kind.RECORDS)
        wanted = [member.source for group in groups for member in group.members]
        on_request = [member.source for each in eval_dir.on_request for member in each.group.members]
        # Metrics that wait bring none of the records beside them that a rule leaves out.
        lost = [each for each in wanted if not self._is_outstanding(each)]
        lost += [each for each in on_request if not self._coming.has_itself(each.place) and not self._is_hindered(each)]
        lost = [each for each in lost if not self._is_here(each)]
        if lost:
            yield Loss(LossKind.RECORDS, eval_dir.place, sum(each.version.size for each in lost), len(lost))

    def _is_hindered(self, source: Source) -> bool:
        return source.place in self._hindered

    def _is_outstanding(self, source: Source) -> bool:
        return self._is_hindered(source) or self._coming.has(source.place)

    def _is_here(self, source: Source) -> bool:
        return is_here(source, self._storages, self._knowledge)

    def _is_lost(self, run: RunDir, group: Group) -> bool:
        if not group.size or any(self._is_outstanding(member.source) for member in group.members):
            return False
        if all(self._is_here(member.source) for member in group.members):
            return False
        here = self._checkpoints_here(run)
        return here is None or not here.is_here(group.path.name)

    def _checkpoints_here(self, run: RunDir) -> CheckpointsHere | None:
        """Return the local checkpoints of a run, from whichever storage; None if it has no local directory."""
        record = self._knowledge.run_at(self._storage, run.place)
        if record is None or record.experiment is None or self._knowledge.is_gone(record.experiment):
            return None
        try:
            destination = experiment_destination(self._knowledge.experiment(record.experiment), "training_run")
        except RejectedPath:
            return None
        return CheckpointsHere(run, record, destination.directory, self._knowledge)

    def _referred(self, run: RunDir) -> Collection[str]:
        """Return the steps for which this run has local evals."""
        record = self._knowledge.run_at(self._storage, run.place)
        if record is None or record.experiment is None:
            return ()
        found: set[str] = set()
        for file in self._knowledge.files_of(record.experiment):
            if file.kind is Kind.METRICS and file.target.parts[1:2] == ("eval_results",):
                steps = (eval_step(part, self._datasets) for part in file.target.parts[2:-1])
                found.update(step.step for step in steps if step)
        return found


def link_losses(links: Sequence[SymbolicLink], targets: Mapping[str, LinkTarget]) -> Sequence[Loss]:
    """Return what is lost with links that lead out of the trees; `targets`: by the link's path, from the host."""
    found: list[Loss] = []
    for link in links:
        told = targets.get(link.place)
        if told is None or told.written != link.target:
            found.append(Loss(LossKind.LINKS, f"{link.place} -> {link.target or '(unreadable)'}", None))
        elif not told.there:
            found.append(Loss(LossKind.LINKS, f"{link.place} -> {told.real}, which is not there now", None))
        elif not told.watched:
            why = f" ({told.unclear})" if told.unclear else ""
            found.append(Loss(LossKind.LINKS, f"{link.place} -> {told.real}{why}", told.size))
    return _bounded(found, "links that lead out of the trees")


def _bounded(losses: Sequence[Loss], rest: str) -> Sequence[Loss]:
    if len(losses) <= MOST:
        return losses
    grouped: defaultdict[LossKind, list[Loss]] = defaultdict(list)
    for loss in losses:
        grouped[loss.kind].append(loss)
    return [Loss(kind, rest, _total(found), sum(each.entries for each in found)) for kind, found in grouped.items()]


def _total(losses: Iterable[Loss]) -> int | None:
    """Return the bytes of all losses; None if any is unknown."""
    sizes = [loss.size for loss in losses]
    return None if None in sizes else sum(size or 0 for size in sizes)


def _some(names: Sequence[str], count: int) -> str:
    """Return a text with a few of the names and the number of the others."""
    named = names[:_NAMED]
    more = count - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")
