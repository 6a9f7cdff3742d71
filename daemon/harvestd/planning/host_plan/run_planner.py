"""Plans one run directory: its files, its growing files, its checkpoints, and the removal of superseded ones."""

from collections.abc import Hashable

from msgspec.structs import replace

from harvestd.convention.kinds import Kind
from harvestd.convention.paths import RejectedPath
from harvestd.convention.rules import CheckpointPolicy
from harvestd.convention.scan.completeness import Unsealed, unsealed
from harvestd.convention.scan.model import Group, RunDir, Source, Wanted
from harvestd.planning import retention
from harvestd.planning.destinations import Destination, experiment_destination
from harvestd.planning.host_plan.draft import Draft
from harvestd.planning.identity import is_part, leader, views_of
from harvestd.planning.index import is_torn
from harvestd.planning.left_behind import whole
from harvestd.planning.local_checkpoints import CheckpointsHere
from harvestd.planning.plan import Waiting
from harvestd.planning.records import RunRecord
from harvestd.planning.requests import NO_REQUESTS, RECORDS, Request, RunRequests
from harvestd.planning.run_status import has_died, may_die_in

TAKEN_AWAY = "its experiment's directory was taken away here"


class RunPlanner:
    """Adds run directories to a draft."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._now = draft.now
        self._knowledge = draft.now.knowledge

    def subjects(self, run: RunDir) -> tuple[Hashable, ...]:
        """Return the subjects (see `PlanningIndex.changed_at`) on which the plan of a run depends."""
        record = self._record_of(run)
        if record is None or record.experiment is None:
            return ((self._now.storage, run.place),)
        experiment = self._knowledge.experiment(record.experiment)
        return record.key, experiment.id, experiment.directory

    def plan(self, run: RunDir) -> None:
        """Plan a run."""
        record = self._record_of(run)
        if record is None or record.experiment is None:
            self._plan_unnamed(run)
            return
        draft, experiment = self._draft, self._knowledge.experiment(record.experiment)
        first = leader(record, self._knowledge, draft.connected_storages)
        if first is not None:
            draft.leave_out(experiment.id, [whole(run, f"the same run as on {first.host}, which brings it")])
            return
        if experiment.gone:
            draft.hinder(run, experiment.id, TAKEN_AWAY)
            return
        requests = self._requests_for(run, experiment.id)
        if requests.ignored:
            draft.ignore(run, experiment.id, requests.ignored)
            return
        try:
            destination = experiment_destination(experiment, "training_run")
        except RejectedPath as e:
            draft.hinder(run, experiment.id, f"its local path is not valid: {e}")
            return
        fellows = self._knowledge.runs_of(experiment.id)
        destination = replace(destination, is_joint=len(fellows) > len(views_of(record, self._knowledge)))
        for group in run.groups:
            draft.plan_group(group, [(destination, ())])
        here = CheckpointsHere(run, record, destination.directory, self._knowledge)
        died = self._has_died(run, record, here)
        if is_part(record, self._knowledge):
            self._plan_parts(run, record, destination, here, requests, died=died)
        else:
            self._plan_checkpoints(run, record, destination, here, requests, died=died)
        over = record.finished or died or self._leaves_a_tail(run, record)
        for wanted in run.growing:
            draft.plan_follow(wanted, destination, finished=over)

    def is_settling(self, run: RunDir) -> bool:
        """Return whether this run gets a name as soon as its config.yaml is complete."""
        record = self._record_of(run)
        named = record is not None and record.experiment is not None
        return not named and run.config is not None and self._why_unsealed(run.config) is not None

    def _record_of(self, run: RunDir) -> RunRecord | None:
        return self._knowledge.run_at(self._now.storage, run.place)

    def _requests_for(self, run: RunDir, experiment: str) -> RunRequests:
        """Return the requests in force for a run, from this storage's record of it or another's."""
        own = self._knowledge.requests_for(self._now.storage, run.place)
        return own if own != NO_REQUESTS else next(iter(self._knowledge.requests_in(experiment)), NO_REQUESTS)

    def _why_unsealed(self, config: Source) -> Unsealed | None:
        single = Group.single(Wanted(config, Kind.CONFIG, len(config.path.parts) - 1, ""))
        return unsealed(single, self._now.sightings, self._now.settle, self._now.now)

    def _plan_unnamed(self, run: RunDir) -> None:
        if run.config is None:
            self._draft.leave_out(None, [whole(run, "a husk: no config.yaml, so no run")])
            return
        why = self._why_unsealed(run.config)
        reason, seconds = (why.reason, why.seconds) if why else ("can't be read", None)
        reason = self._now.undecided.get(run.place) or f"config.yaml: {reason}"
        wanted = retention.wanted(run, self._now.checkpoint, None, died=False)
        groups = (*run.groups, *(group for group in run.checkpoints if group.path.name in wanted))
        size = sum(group.size for group in groups) + sum(each.source.version.size for each in run.growing)
        self._draft.wait(Waiting(run.place, size, reason, seconds))

    def _died(self, run: RunDir, record: RunRecord) -> bool | None:
        """Return whether a run has died; None if that depends on its processes, which are unknown."""
        now = self._now
        self._draft.uses_liveness = True
        died = has_died(run, record.shown_by, now.liveness, now.sightings, now.now)
        if died is False:
            self._draft.due_in(may_die_in(run, now.liveness, now.sightings, now.now))
        return died

    def _has_died(self, run: RunDir, record: RunRecord, here: CheckpointsHere) -> bool:
        """Return whether a run has died, if that affects the plan; otherwise False."""
        last = retention.newest(run, record.final.step if record.final else None)
        if last is None or self._now.selection.checkpoint in {CheckpointPolicy.NONE, CheckpointPolicy.ALL}:
            return False
        died = self._died(run, record)
        if died is None:
            kept_because = here.reason_kept(last)
            died = kept_because is not None and retention.is_provisional(
                kept_because
            )  # it had, and nothing has moved since
            stays = kept_because is not None and not retention.is_passing(kept_because)
            if not (died or stays):
                self._draft.require_liveness()
        return died

    def _leaves_a_tail(self, run: RunDir, record: RunRecord) -> bool:
        """Return whether a run died in the middle of a line: then the incomplete tail is wanted too."""
        if not is_torn(run, self._now.storage, self._knowledge):
            return False
        died = self._died(run, record)
        if died is None:
            self._draft.require_liveness()
        return bool(died)

    def _plan_checkpoints(
        self,
        run: RunDir,
        record: RunRecord,
        destination: Destination,
        here: CheckpointsHere,
        requests: RunRequests,
        *,
        died: bool,
    ) -> None:
        """Plan wanted checkpoints, removals of superseded ones, and the link step_latest if its target is local."""
        draft, policy = self._draft, self._now.checkpoint
        final_step, failing = record.final.step if record.final else None, self._now.failing
        wanted = dict(retention.wanted(run, policy, final_step, died=died, failing=failing))
        requested = self._requested_checkpoints(run, here, requests)
        for group in run.checkpoints:
            name = group.path.name
            request, reason = requested.get(name), wanted.get(name)
            if request is not None and (reason is None or retention.is_passing(reason)):
                wanted[name] = request.reason
                draft.plan_requested(group, [request], [(destination, ())])
            elif reason is not None:
                coming = draft.plan_group(retention.because(group, here.reason(name, reason)), [(destination, ())])
                draft.count(group, [request] if request else (), coming)
        wanted = {name: request.reason for name, request in requested.items()} | wanted
        draft.change_reasons(here.remarks(wanted))
        draft.remove(here.removals(wanted))
        link = here.link()
        if link is not None and self._knowledge.link_at(link.path) != link.target:
            draft.link(link)
        recorded = None if link is None else f"{run.place}/training_state/step_latest"
        draft.leave_out(destination.experiment, [each for each in run.left_out if each.place != recorded])
        draft.leave_out(
            destination.experiment, here.left_out(wanted, retention.unwanted_because(self._now.selection.checkpoint))
        )

    def _plan_parts(
        self,
        run: RunDir,
        record: RunRecord,
        destination: Destination,
        here: CheckpointsHere,
        requests: RunRequests,
        *,
        died: bool,
    ) -> None:
        """Plan the parts of checkpoints on a disk without the run's log.

        A checkpoint whose marker is local is wanted as a whole. The disk with the log is responsible for removals,
        links, and settling requests by hand.
        """
        draft, final_step = self._draft, record.final.step if record.final else None
        wanted = dict(retention.wanted(run, self._now.checkpoint, final_step, died=died, failing=self._now.failing))
        for group in run.checkpoints:
            name = group.path.name
            requested = requests.things.get(name)
            reason = here.begun(name) or (requested.reason if requested else wanted.get(name))
            if reason is not None:
                wanted[name] = reason
                coming = draft.plan_group(retention.because(here.sealed_locally(group), reason), [(destination, ())])
                draft.count(group, [requested] if requested else (), coming)
        beside = destination.beside(self._now.host)
        if beside is not None:
            draft.remove(here.removals_beside(beside.directory, wanted))
        draft.leave_out(destination.experiment, run.left_out)
        draft.leave_out(
            destination.experiment, here.left_out(wanted, retention.unwanted_because(self._now.selection.checkpoint))
        )

    def _requested_checkpoints(self, run: RunDir, here: CheckpointsHere, requests: RunRequests) -> dict[str, Request]:
        """Return the requested checkpoints; record the status of those that the host does not show."""
        counts = self._draft.counts
        requested = {thing: request for thing, request in requests.things.items() if thing != RECORDS}
        if requests.records is not None:
            counts.show(requests.records)
        shown = {group.path.name for group in run.checkpoints}
        for name, request in requested.items():
            if name not in shown:
                refused = () if here.is_here(name) else [f"{name} is not on {self._now.host} any more"]
                counts.show(request, refused=refused)
        return requested
