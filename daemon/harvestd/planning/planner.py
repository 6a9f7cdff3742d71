"""Makes the plan of one host from one survey. Pure: the same arguments give the same plan."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import field
from msgspec.structs import replace

from harvestd.convention.kinds import Kind, Value
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.completeness import FORMED, INDEX, Unsealed, is_final, unsealed
from harvestd.convention.scan.model import EvalDir, Group, LeftOut, RunDir, ScanResult, Source, Wanted
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.scan.stability import NO_TIME, StabilityTracker
from harvestd.convention.structs import Immutable
from harvestd.planning import retention
from harvestd.planning.destinations import Home, Placing, Undecided, experiment_home
from harvestd.planning.diff import Targets
from harvestd.planning.identity.duplicates import bringing, is_part, leader, views_of
from harvestd.planning.index import PlanningIndex
from harvestd.planning.liveness import Life, has_died
from harvestd.planning.local_checkpoints import CheckpointsHere
from harvestd.planning.plan import FetchFile, FetchGroup, Follow, Link, Plan, Removal, UpdateReason, Waiting
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.planning.request_status import Asking, by_hand, still_left_out
from harvestd.planning.requests import NO_WISHES, RECORDS, Request, Wishes
from harvestd.planning.run_filter import belonging, possible
from harvestd.planning.skipped_directories import hindered, rest, whole
from harvestd.planning.tails import is_torn

_TAKEN_AWAY = "its experiment's directory was taken away here"

_Places = Sequence[tuple[Home, tuple[str, ...]]]
"""The local directories of a group, each with the components between it and the group's files."""


class Situation(Immutable):
    """The inputs of a plan besides the survey."""

    host: str
    storage: str
    knowledge: PlanningIndex
    selection: Selection
    sightings: StabilityTracker
    settle: float
    """Seconds of quiet after which a group without a marker is complete; `NO_TIME`: the host may end at any moment."""
    now: float
    """Monotonic seconds on our clock."""
    showing: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By the storage of each other connected host: the absolute paths of the evals that it shows."""
    undecided: Mapping[str, str] = field(default_factory=dict)
    """By the absolute path of a run or eval whose identity is not decided yet: the reason."""
    refused: Mapping[tuple[str, LocalPath], tuple[Version, str]] = field(default_factory=dict)
    """By (remote path, target): the version that could not be published, and why."""
    life: Life = field(default_factory=Life)
    """Facts for deciding whether a run has died."""
    failing: Collection[str] = ()
    """The remote paths of groups that failed repeatedly."""

    @property
    def is_ending(self) -> bool:
        """Whether the host may end at any moment, so that files not fetched now may be lost."""
        return self.settle == NO_TIME

    @property
    def checkpoint(self) -> CheckpointPolicy:
        """The policy for wanted checkpoints; on an ending host the newest substitutes for the final one."""
        policy = self.selection.checkpoint
        return CheckpointPolicy.FINAL_AND_LATEST if self.is_ending and policy is CheckpointPolicy.FINAL else policy

    def order(self, group: FetchGroup) -> tuple[float | str, ...]:
        """Return the sort key of a group: its value; on an ending host, then smaller groups of the same value first."""
        if not self.is_ending:
            return group.value, group.place
        return group.value, retention.is_passing(group.files[0].reason), group.size, group.place


def make_plan(survey: ScanResult, situation: Situation) -> Plan:
    """Return the plan of one host."""
    only = situation.selection.only
    survey = possible(survey, only) if only else survey
    planner = _Planner(situation)
    unnamed = {run.name.name for run in survey.runs if planner.is_settling(run)}
    placing = Placing(situation.host, situation.storage, survey, situation.knowledge, situation.selection, unnamed)
    for run in survey.runs:
        planner.plan_run(run)
    evals = belonging(survey, only, placing, planner.linked_run).evals if only else survey.evals
    for eval_dir in evals:
        planner.plan_eval(eval_dir, placing)
    return planner.collected(survey.left_out)


class _Planner:
    def __init__(self, situation: Situation) -> None:
        self._now = situation
        self._targets = Targets(
            situation.host, situation.storage, situation.knowledge, situation.refused, situation.showing
        )
        self._asking = Asking(situation.knowledge.open_requests())
        self._ignored: list[str] = []
        self._groups: list[FetchGroup] = []
        self._follows: list[Follow] = []
        self._links: list[Link] = []
        self._removals: list[Removal] = []
        self._remarks: list[UpdateReason] = []
        self._asks_for_life = False
        self._waiting: list[Waiting] = []

    def collected(self, strangers: Iterable[LeftOut]) -> Plan:
        self._targets.leave_out(None, strangers)
        return Plan(
            groups=tuple(sorted(self._groups, key=self._now.order)),
            follows=tuple(sorted(self._follows, key=lambda follow: (follow.value, follow.place))),
            checks=tuple(self._targets.checks),
            refiles=tuple(self._targets.refiles),
            links=tuple(self._links),
            removals=tuple(self._removals),
            remarks=tuple(self._remarks),
            waiting=tuple(self._waiting),
            left_out={experiment: tuple(found) for experiment, found in self._targets.left_out.items() if found},
            ignored=tuple(self._ignored),
            asked=self._asking.collected(),
            asks_for_life=self._asks_for_life,
        )

    def plan_run(self, run: RunDir) -> None:
        record = self._record_of(run)
        if record is None or record.experiment is None:
            self._plan_unnamed(run)
            return
        experiment = self._now.knowledge.experiment(record.experiment)
        first = leader(record, self._now.knowledge, self._now.showing)
        if first is not None:
            self._targets.leave_out(experiment.id, [whole(run, f"the same run as on {first.host}, which brings it")])
            return
        if experiment.gone:
            self._targets.leave_out(experiment.id, [hindered(run, _TAKEN_AWAY)])
            return
        wishes = self._wishes_for(run, experiment.id)
        if wishes.ignored:
            self._targets.leave_out(experiment.id, [self._ignore(run, wishes.ignored)])
            return
        try:
            home = experiment_home(experiment, "training_run")
        except RejectedPath as e:
            self._targets.leave_out(experiment.id, [hindered(run, f"its place at home can't be made: {e}")])
            return
        fellows = self._now.knowledge.runs_of(experiment.id)
        home = replace(home, is_joint=len(fellows) > len(views_of(record, self._now.knowledge)))
        for group in run.groups:
            self._plan_group(group, [(home, ())])
        here = CheckpointsHere(run, record, home.directory, self._now.knowledge)
        died = self._has_died(run, record, here)
        if is_part(record, self._now.knowledge):
            self._plan_parts(run, record, home, here, wishes, died=died)
        else:
            self._plan_checkpoints(run, record, home, here, wishes, died=died)
        over = record.finished or died or self._leaves_a_tail(run, record)
        for wanted in run.growing:
            self._plan_follow(wanted, home, finished=over)

    def _wishes_for(self, run: RunDir, experiment: str) -> Wishes:
        """Return the requests in force for a run, from this storage's record of it or another's."""
        own = self._now.knowledge.wishes_for(self._now.storage, run.place)
        return own if own != NO_WISHES else next(iter(self._now.knowledge.wishes_in(experiment)), NO_WISHES)

    def _plan_asked(self, group: Group, requests: Sequence[Request], places: _Places) -> None:
        """Plan a group that only a request wants; the reason is that of the first of the requests (at least one)."""
        coming = self._plan_group(by_hand(group, requests[0]), places, not_before=Value.BY_HAND)
        self._count(group, requests, coming)

    def _count(self, group: Group, requests: Iterable[Request], coming: int) -> None:
        for request in requests:
            self._asking.count(request, group, coming, self._refusals(group))

    def _refusals(self, group: Group) -> list[str]:
        refusals = self._targets.refusals
        return [refusals[each.source.place] for each in group.members if each.source.place in refusals]

    def _ignore(self, directory: RunDir | EvalDir, request: Request) -> LeftOut:
        """Return the line for an ignored directory; files that are already local are not counted."""
        self._ignored.append(directory.place)
        return rest(directory, request.reason, self._now.storage, self._now.knowledge)

    def _record_of(self, run: RunDir) -> RunRecord | None:
        return self._now.knowledge.run_at(self._now.storage, run.place)

    def is_settling(self, run: RunDir) -> bool:
        """Return whether this run gets a name as soon as its config.yaml is complete."""
        record = self._record_of(run)
        named = record is not None and record.experiment is not None
        return not named and run.config is not None and self._why_unsealed(run.config) is not None

    def _why_unsealed(self, config: Source) -> Unsealed | None:
        single = Group.single(Wanted(config, Kind.CONFIG, len(config.path.parts) - 1, ""))
        return unsealed(single, self._now.sightings, self._now.settle, self._now.now)

    def _plan_unnamed(self, run: RunDir) -> None:
        if run.config is None:
            self._targets.leave_out(None, [whole(run, "a husk: no config.yaml, so no run")])
            return
        why = self._why_unsealed(run.config)
        reason, seconds = (why.reason, why.seconds) if why else ("can't be read", None)
        reason = self._now.undecided.get(run.place) or f"config.yaml: {reason}"
        wanted = retention.wanted(run, self._now.checkpoint, None, died=False)
        groups = (*run.groups, *(group for group in run.checkpoints if group.path.name in wanted))
        size = sum(group.size for group in groups) + sum(each.source.version.size for each in run.growing)
        self._waiting.append(Waiting(run.place, size, reason, seconds))

    def _has_died(self, run: RunDir, record: RunRecord, here: CheckpointsHere) -> bool:
        """Return whether a run has died, if that affects the plan; otherwise False."""
        last = retention.newest(run, record.final.step if record.final else None)
        if last is None or self._now.selection.checkpoint in {CheckpointPolicy.NONE, CheckpointPolicy.ALL}:
            return False
        died = has_died(run, record.shown_by, self._now.life, self._now.sightings, self._now.now)
        if died is None:
            standing = here.standing(last)
            died = standing is not None and retention.is_provisional(standing)  # it had, and nothing has moved since
            stays = standing is not None and not retention.is_passing(standing)
            self._asks_for_life = self._asks_for_life or not (died or stays)
        return died

    def _leaves_a_tail(self, run: RunDir, record: RunRecord) -> bool:
        """Return whether a run died in the middle of a line: then the incomplete tail is wanted too."""
        if not is_torn(run, self._now.storage, self._now.knowledge):
            return False
        died = has_died(run, record.shown_by, self._now.life, self._now.sightings, self._now.now)
        self._asks_for_life = self._asks_for_life or died is None
        return bool(died)

    def _plan_checkpoints(
        self, run: RunDir, record: RunRecord, home: Home, here: CheckpointsHere, wishes: Wishes, *, died: bool
    ) -> None:
        """Plan wanted checkpoints, removals of superseded ones, and the link step_latest if its target is local."""
        policy = self._now.checkpoint
        final_step, failing = record.final.step if record.final else None, self._now.failing
        wanted = dict(retention.wanted(run, policy, final_step, died=died, failing=failing))
        asked = self._asked_checkpoints(run, here, wishes)
        for group in run.checkpoints:
            name = group.path.name
            request, reason = asked.get(name), wanted.get(name)
            if request is not None and (reason is None or retention.is_passing(reason)):
                wanted[name] = request.reason
                self._plan_asked(group, [request], [(home, ())])
            elif reason is not None:
                coming = self._plan_group(retention.because(group, here.reason(name, reason)), [(home, ())])
                self._count(group, [request] if request else (), coming)
        wanted = {name: request.reason for name, request in asked.items()} | wanted
        self._remarks += here.remarks(wanted)
        self._remove(here.removals(wanted))
        link = here.link()
        if link is not None and self._now.knowledge.link_at(link.path) != link.target:
            self._links.append(link)
        recorded = None if link is None else f"{run.place}/training_state/step_latest"
        self._targets.leave_out(home.experiment, [each for each in run.left_out if each.place != recorded])
        self._targets.leave_out(
            home.experiment, here.left_out(wanted, retention.unwanted_because(self._now.selection.checkpoint))
        )

    def _remove(self, removals: Iterable[Removal]) -> None:
        for removal in removals:
            if not any((file.place, file.target) in self._now.refused for file in removal.files):
                self._removals.append(removal)

    def _plan_parts(
        self, run: RunDir, record: RunRecord, home: Home, here: CheckpointsHere, wishes: Wishes, *, died: bool
    ) -> None:
        """Plan the parts of checkpoints on a disk without the run's log.

        A checkpoint whose marker is local is wanted as a whole. The disk with the log is responsible for removals,
        links, and settling requests by hand.
        """
        final_step = record.final.step if record.final else None
        wanted = dict(retention.wanted(run, self._now.checkpoint, final_step, died=died, failing=self._now.failing))
        for group in run.checkpoints:
            name = group.path.name
            asked = wishes.things.get(name)
            reason = here.begun(name) or (asked.reason if asked else wanted.get(name))
            if reason is not None:
                wanted[name] = reason
                coming = self._plan_group(retention.because(here.sealed_at_home(group), reason), [(home, ())])
                self._count(group, [asked] if asked else (), coming)
        beside = home.beside(self._now.host)
        if beside is not None:
            self._remove(here.removals_beside(beside.directory, wanted))
        self._targets.leave_out(home.experiment, run.left_out)
        self._targets.leave_out(
            home.experiment, here.left_out(wanted, retention.unwanted_because(self._now.selection.checkpoint))
        )

    def _asked_checkpoints(self, run: RunDir, here: CheckpointsHere, wishes: Wishes) -> dict[str, Request]:
        """Return the requested checkpoints; record the status of those that the host does not show."""
        asked = {thing: request for thing, request in wishes.things.items() if thing != RECORDS}
        if wishes.records is not None:
            self._asking.show(wishes.records)
        shown = {group.path.name for group in run.checkpoints}
        for name, request in asked.items():
            if name not in shown:
                refused = () if here.is_here(name) else [f"{name} is not on {self._now.host} any more"]
                self._asking.show(request, refused=refused)
        return asked

    def plan_eval(self, eval_dir: EvalDir, placing: Placing) -> None:
        undecided = self._now.undecided.get(eval_dir.place)
        if undecided is not None:
            size = sum(group.size for group in eval_dir.groups)
            self._waiting.append(Waiting(eval_dir.place, size, undecided, None))
            return
        try:
            homes = placing.homes(eval_dir, self.linked_run(eval_dir))
        except RejectedPath as e:
            self._targets.leave_out(None, [hindered(eval_dir, f"its place at home can't be made: {e}")])
            return
        other = self._shown_by_other(eval_dir, homes)
        if other is not None:
            self._targets.leave_out(
                other.experiment, [whole(eval_dir, f"the same as on {other.host}, which brings it")]
            )
            return
        if isinstance(homes, Undecided):
            size = sum(group.size for group in eval_dir.groups)
            self._waiting.append(Waiting(eval_dir.place, size, homes.reason, None))
            return
        here = [home for home in homes if not self._now.knowledge.is_gone(home.experiment)]
        if not here:
            self._targets.leave_out(homes[0].experiment, [hindered(eval_dir, _TAKEN_AWAY)])
            return
        welcome = [home for home in here if not self._now.knowledge.ignored_in(home.experiment)]
        if not welcome:
            ignored = self._now.knowledge.ignored_in(here[0].experiment)
            lines = [self._ignore(eval_dir, ignored)] if ignored else []
            self._targets.leave_out(here[0].experiment, lines)
            return
        asked = self._records_asked(welcome)
        leaves = {group.path.parts: group for group in eval_dir.groups}
        for group in eval_dir.groups:
            coming = self._plan_group(group, _places(eval_dir, _leaf_of(group, leaves), welcome, placing))
            if group.members[0].kind is Kind.RECORDS:
                self._count(group, [request for each in asked.values() for request in each], coming)
        self._targets.leave_out(welcome[0].experiment, self._plan_asked_records(eval_dir, asked, placing))

    def _records_asked(self, homes: Iterable[Home]) -> dict[Home, list[Request]]:
        """Return those of the directories for which records were requested, with the requests."""
        wishes = {home: self._now.knowledge.wishes_in(home.experiment) for home in homes}
        found = {home: [each.records for each in wishes[home] if each.records] for home in wishes}
        return {home: requests for home, requests in found.items() if requests}

    def _plan_asked_records(
        self, eval_dir: EvalDir, asked: Mapping[Home, Sequence[Request]], placing: Placing
    ) -> list[LeftOut]:
        """Plan the records for the directories with requests; return what remains left out."""
        requests = [request for each in asked.values() for request in each]
        if not requests:
            return list(eval_dir.left_out)
        for request in requests:
            self._asking.show(request)
        leaves = {group.path.parts: group for group in eval_dir.groups}
        for each in eval_dir.on_request:
            places = _places(eval_dir, _leaf_of(each.group, leaves), asked, placing)
            self._plan_asked(each.group, requests, places)
        return still_left_out(eval_dir.left_out, eval_dir.on_request)

    def _shown_by_other(self, eval_dir: EvalDir, homes: Sequence[Home] | Undecided) -> RunRecord | None:
        """Return the run record of the other storage that provides this eval, if that one shows it; else None."""
        if isinstance(homes, Undecided) or homes[0].experiment is None or homes[0].is_shared:
            return None
        now = self._now
        runs = now.knowledge.runs_of(homes[0].experiment)
        own = next((run for run in runs if run.storage == now.storage), None)
        # A host without a view of the run has another disk: an eval at the same path is a different one.
        for view in bringing(own, now.knowledge, now.showing) if own is not None else ():
            if view.storage == now.storage:
                return None
            if eval_dir.place in now.showing.get(view.storage, ()):
                return view
        return None

    def linked_run(self, eval_dir: EvalDir) -> str | None:
        if eval_dir.config is None:
            return None
        link = self._now.knowledge.eval_link(self._now.storage, eval_dir.config.place)
        return link.training_run if link else None

    def _plan_group(self, group: Group, places: _Places, *, not_before: Value = Value.CONFIG) -> int:
        """Plan a group; return the number of its files that are not local yet and can be fetched."""
        settled = self._settled(group, places)
        if settled is None:
            self._waiting.append(
                Waiting(group.place, group.size, "its place is taken: it is compared with what is here", None)
            )
            return len(group.members)
        files: list[FetchFile] = []
        now = self._now
        final: bool | None = None
        for member, homes in zip(group.members, settled, strict=True):
            found = [self._targets.sealed(member, home, between + member.rest) for home, between in homes]
            targets = tuple([target for target in found if target is not None])
            if targets:
                marker, beside = group.marker is member.source, self._beside(group, member)
                formed = not marker and member.rest[-1].endswith(FORMED)
                if formed and final is None:
                    final = is_final(group, now.sightings, now.settle, now.now)
                as_is = formed and bool(final)
                files.append(FetchFile(member.source, member.kind, targets, member.reason, marker, beside, as_is))
        if not files:
            return 0
        needed = FetchGroup(group.place, tuple(files), not_before)
        why = unsealed(group, self._now.sightings, self._now.settle, self._now.now)
        if why is None:
            self._groups.append(needed)
        else:
            self._waiting.append(Waiting(group.place, needed.size, why.reason, why.seconds))
        return len(files)

    def _settled(self, group: Group, places: _Places) -> Sequence[_Places] | None:
        """Return the directories for each member of a group; None while its files are compared."""
        is_joint = any(home.is_joint for home, _ in places)
        units = [Group.single(member) for member in group.members] if is_joint else [group]
        settled: list[_Places] = []
        for unit in units:
            found = [(self._targets.home_for(unit, home, between), between) for home, between in places]
            settled.append([(home, between) for home, between in found if home is not None])
        if any(len(found) < len(places) for found in settled):
            return None
        return settled if is_joint else settled * len(group.members)

    def _beside(self, group: Group, member: Wanted) -> frozenset[str] | None:
        """Return the names for checking an index; None if the operator's patterns may exclude some of them."""
        if not group.needs_marker or not member.rest[-1].endswith(INDEX) or self._now.selection.exclude:
            return None
        above = member.rest[:-1]
        return frozenset(each.rest[-1] for each in group.members if each.rest[:-1] == above)

    def _plan_follow(self, wanted: Wanted, home: Home, *, finished: bool) -> None:
        target = self._targets.growing(wanted, home)
        if target is None:
            return
        source, here = wanted.source, target.replaces
        quiet = self._now.sightings.age(source, self._now.now)
        done = finished or self._now.is_ending
        whole = done and quiet >= self._now.sightings.settle(source.tree, self._now.settle)
        lag = self._now.sightings.lag(source, self._now.now) if here is not None else 0.0
        if here is not None and lag > 0 and _is_older(source.version, here):
            self._waiting.append(Waiting(source.place, 0, "this box may show an older state of it", lag))
            return
        torn = here is not None and here.size < source.version.size
        if here is None or here.version != source.version or (whole and torn):
            self._follows.append(Follow(source, wanted.kind, target, wanted.reason, whole))


def _is_older(shown: Version, here: FileRecord) -> bool:
    """Return whether a growing file is shown in an older state than the local copy; one that was restarted is not.

    If change times are unknown, as on FUSE, modification times decide: appending sets both.
    """
    changed = shown.ctime_ns or shown.mtime_ns
    last = here.version.ctime_ns or here.version.mtime_ns
    return shown.size < here.size and changed > 0 and (changed <= last or not last)


def _places(eval_dir: EvalDir, leaf: Group, homes: Iterable[Home], placing: Placing) -> _Places:
    return [(home, placing.below_base(eval_dir, leaf, home) if home.is_shared else ()) for home in homes]


def _leaf_of(group: Group, leaves: Mapping[tuple[str, ...], Group]) -> Group:
    """Return the leaf, of those given by path, that determines the group's directory: records stay beside metrics."""
    if group.members[0].kind is not Kind.RECORDS:
        return group
    return leaves.get(group.path.parts[:-1], group)
