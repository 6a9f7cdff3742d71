"""Making the plan of one host from one survey. Pure: the same arguments give the same plan."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harvestd.convention.artifacts import Kind
from harvestd.convention.knowledge import Knowledge
from harvestd.convention.layout import EvalDir, Group, LeftOut, RunDir, Source, Survey, Wanted
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.placing import UNFILED, Home, Placing, Undecided, experiment_home
from harvestd.convention.plan import Check, FetchFile, FetchGroup, Follow, Link, Plan, Refile, Target, Waiting
from harvestd.convention.records import FileRecord
from harvestd.convention.seals import unsealed
from harvestd.convention.selection import Selection
from harvestd.convention.sightings import Sightings
from harvestd.convention.snapshot import Version

CHECK_FROM = 1024 * 1024
"""Bytes: a file at least this large whose size did not change is hashed on the box before it is fetched again."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a plan depends on beside the survey."""

    host: str
    storage: str
    knowledge: Knowledge
    selection: Selection
    sightings: Sightings
    settle: float
    """Seconds of quiet that seal what has no marker."""
    now: float
    """Monotonic seconds on our clock."""
    refused: Mapping[tuple[str, LocalPath], tuple[Version, str]] = field(default_factory=dict)
    """(place, target) → the version that could not be put there, and why."""


def make_plan(survey: Survey, situation: Situation) -> Plan:
    """Plan one host."""
    planner = _Planner(situation)
    placing = Placing(situation.host, situation.storage, survey, situation.knowledge, situation.selection)
    for run in survey.runs:
        planner.plan_run(run)
    for eval_dir in survey.evals:
        planner.plan_eval(eval_dir, placing)
    planner.leave_out(None, survey.left_out)
    return planner.collected()


class _Planner:
    def __init__(self, situation: Situation) -> None:
        self._now = situation
        self._groups: list[FetchGroup] = []
        self._follows: list[Follow] = []
        self._checks: list[Check] = []
        self._refiles: list[Refile] = []
        self._links: list[Link] = []
        self._waiting: list[Waiting] = []
        self._left_out: dict[str | None, list[LeftOut]] = {}
        self._claimed: dict[LocalPath, str] = {}

    def collected(self) -> Plan:
        return Plan(
            groups=tuple(sorted(self._groups, key=lambda group: (group.value, group.place))),
            follows=tuple(sorted(self._follows, key=lambda follow: (follow.value, follow.place))),
            checks=tuple(self._checks),
            refiles=tuple(self._refiles),
            links=tuple(self._links),
            waiting=tuple(self._waiting),
            left_out={experiment: tuple(entries) for experiment, entries in self._left_out.items()},
        )

    def leave_out(self, experiment: str | None, entries: Iterable[LeftOut]) -> None:
        self._left_out.setdefault(experiment, []).extend(entries)

    def plan_run(self, run: RunDir) -> None:
        if run.config is None:
            self._leave_out_husk(run)
            return
        record = self._now.knowledge.run_at(self._now.storage, run.place)
        if record is None or record.experiment is None:
            size = sum(group.size for group in run.groups)
            self._waiting.append(Waiting(run.place, size, *self._why_unnamed(run.config)))
            return
        experiment = self._now.knowledge.experiment(record.experiment)
        home = experiment_home(experiment, "training_run")
        for group in run.groups:
            self._plan_group(group, {member: [(home, member.rest)] for member in group.members})
        for wanted in run.growing:
            self._plan_follow(wanted, home, finished=record.finished)
        left_out = run.left_out
        if run.latest and self._checkpoint_is_here(run, home, run.latest):
            path = home.directory.child("training_state", "step_latest")
            if self._now.knowledge.link_at(path) != run.latest:
                self._links.append(Link(path, run.latest))
            left_out = tuple(each for each in left_out if not each.place.endswith("/training_state/step_latest"))
        self.leave_out(experiment.id, left_out)

    def _leave_out_husk(self, run: RunDir) -> None:
        members = [member for group in run.groups for member in group.members] + list(run.growing)
        size = sum(member.source.version.size for member in members) + sum(each.size or 0 for each in run.left_out)
        entries = len(members) + sum(each.entries for each in run.left_out)
        self.leave_out(None, [LeftOut(run.place, size, entries, "a husk: no config.yaml, so no run")])

    def _why_unnamed(self, config: Source) -> tuple[str, float | None]:
        why = unsealed(Group.single(Wanted(config, Kind.CONFIG, ("config.yaml",), "")),
                       self._now.sightings, self._now.settle, self._now.now)  # fmt: skip
        return (f"config.yaml: {why.reason}", why.seconds) if why else ("config.yaml can't be read", None)

    def _checkpoint_is_here(self, run: RunDir, home: Home, name: str) -> bool:
        marker = home.directory.child("training_state", name, "training_info.json")
        holder = self._now.knowledge.holder(marker)
        return holder is not None and holder.place.startswith(run.place + "/")

    def plan_eval(self, eval_dir: EvalDir, placing: Placing) -> None:
        linked = self._linked_run(eval_dir)
        try:
            homes = placing.homes(eval_dir, linked)
        except RejectedPath as e:
            self.leave_out(None, [LeftOut(eval_dir.place, None, 1, f"its place at home can't be made: {e}")])
            return
        if isinstance(homes, Undecided):
            size = sum(group.size for group in eval_dir.groups)
            self._waiting.append(Waiting(eval_dir.place, size, homes.reason, None))
            return
        for group in eval_dir.groups:
            self._plan_group(group, self._eval_targets(eval_dir, group, homes, placing))
        self.leave_out(homes[0].experiment, eval_dir.left_out)

    def _linked_run(self, eval_dir: EvalDir) -> str | None:
        if eval_dir.config is None:
            return None
        link = self._now.knowledge.eval_link(self._now.storage, eval_dir.config.place)
        return link.training_run if link else None

    @staticmethod
    def _eval_targets(
        eval_dir: EvalDir, group: Group, homes: list[Home], placing: Placing
    ) -> dict[Wanted, list[tuple[Home, tuple[str, ...]]]]:
        filed_base = eval_dir.is_base and homes[0].experiment is not None
        targets: dict[Wanted, list[tuple[Home, tuple[str, ...]]]] = {member: [] for member in group.members}
        for home in homes:
            base = placing.below_base(eval_dir, group, home) if filed_base else ()
            for member in group.members:
                targets[member].append((home, (*base, member.rest[-1]) if filed_base else member.rest))
        return targets

    def _plan_group(self, group: Group, places: Mapping[Wanted, list[tuple[Home, tuple[str, ...]]]]) -> None:
        files = [self._plan_file(member, places[member], group) for member in group.members]
        needed = tuple(file for file in files if file is not None)
        if not needed:
            return
        why = unsealed(group, self._now.sightings, self._now.settle, self._now.now)
        if why is not None:
            self._waiting.append(Waiting(group.place, group.size, why.reason, why.seconds))
        else:
            self._groups.append(FetchGroup(group.place, needed))

    def _plan_file(self, member: Wanted, places: list[tuple[Home, tuple[str, ...]]], group: Group) -> FetchFile | None:
        targets = [target for home, rest in places if (target := self._target(member, home, rest)) is not None]
        if not targets:
            return None
        marker = group.marker == member.source
        return FetchFile(member.source, member.kind, tuple(targets), member.reason, marker)

    def _target(self, member: Wanted, home: Home, rest: tuple[str, ...]) -> Target | None:
        """Give the place that needs this file now; None where it is here, moved, checked or left out."""
        source = member.source
        try:
            path = home.directory.child(*rest)
        except RejectedPath as e:
            self._leave_out_file(home, source, f"its place at home can't be made: {e}")
            return None
        refused = self._now.refused.get((source.place, path))
        if refused is not None and refused[0] == source.version:
            self._leave_out_file(home, source, refused[1])
            return None
        record = self._now.knowledge.file(self._now.storage, source.place, path)
        if record is not None:
            return self._changed(source, record, home)
        holder = self._now.knowledge.holder(path)
        claimed = f"{holder.host}:{holder.place}" if holder else self._claimed.get(path)
        if claimed is not None:
            self._leave_out_file(home, source, f"its place at home is taken by {claimed}")
            return None
        self._claimed[path] = f"{self._now.host}:{source.place}"
        target = Target(path, home.experiment)
        waiting = self._waiting_copy(source)
        if waiting is not None and home.experiment is not None:
            self._refiles.append(Refile(waiting, target))
            return None
        return target

    def _waiting_copy(self, source: Source) -> FileRecord | None:
        copies = self._now.knowledge.copies(self._now.storage, source.place)
        moved = {refile.record.key for refile in self._refiles}
        return next((each for each in copies if each.target.parts[0] == UNFILED and each.key not in moved), None)

    def _changed(self, source: Source, record: FileRecord, home: Home) -> Target | None:
        if record.version == source.version:
            return None
        if home.directory.name == "base_eval":
            self._leave_out_file(home, source, "evaluated again after it was brought home; the first one stands")
            return None
        same_size = record.version.size == source.version.size
        same_time = record.version.mtime_ns == source.version.mtime_ns
        if same_size and record.differs != source.version and (same_time or source.version.size >= CHECK_FROM):
            self._checks.append(Check(source, record))
            return None
        return Target(record.target, record.experiment, record)

    def _leave_out_file(self, home: Home, source: Source, reason: str) -> None:
        self.leave_out(home.experiment, [LeftOut(source.place, source.version.size, 1, reason)])

    def _plan_follow(self, wanted: Wanted, home: Home, *, finished: bool) -> None:
        source = wanted.source
        path = home.directory.child(*wanted.rest)
        record = self._now.knowledge.file(self._now.storage, source.place, path)
        quiet = self._now.sightings.age(source, self._now.now)
        whole = finished and quiet >= self._now.sightings.settle(source.tree, self._now.settle)
        refused = self._now.refused.get((source.place, path))
        if refused is not None:
            self._leave_out_file(home, source, refused[1])
            return
        if record is None:
            holder = self._now.knowledge.holder(path)
            if holder is not None:
                self._leave_out_file(home, source, f"its place at home is taken by {holder.host}:{holder.place}")
                return
        elif record.version == source.version and not (whole and record.size < source.version.size):
            return
        self._follows.append(Follow(source, wanted.kind, Target(path, home.experiment, record), wanted.reason, whole))
