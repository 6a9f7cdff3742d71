"""Plans one directory of evals: where it belongs, what of it is fetched, and the records that were requested."""

from collections.abc import Hashable, Iterable, Mapping, Sequence

from harvestd.convention.kinds import Kind
from harvestd.convention.paths import RejectedPath
from harvestd.convention.scan.model import EvalDir, Group, LeftOut
from harvestd.planning.destinations import Destination, Placing, Undecided, named_run
from harvestd.planning.host_plan.draft import Draft, Places
from harvestd.planning.host_plan.run_planner import TAKEN_AWAY
from harvestd.planning.host_plan.situation import still_left_out
from harvestd.planning.identity import views_to_fetch
from harvestd.planning.index import ANY_RUN, named
from harvestd.planning.left_behind import whole
from harvestd.planning.plan import Waiting
from harvestd.planning.records import RunRecord
from harvestd.planning.requests import Request


class EvalPlanner:
    """Adds directories of evals to a draft."""

    def __init__(self, draft: Draft, placing: Placing) -> None:
        self._draft = draft
        self._placing = placing
        self._now = draft.now
        self._knowledge = draft.now.knowledge

    def subjects(self, eval_dir: EvalDir) -> tuple[Hashable, ...]:
        """Return the subjects (see `PlanningIndex.changed_at`) on which the plan of an eval directory depends."""
        linked = self.linked_run(eval_dir)
        name = named_run(eval_dir, linked)
        found: list[Hashable] = [ANY_RUN] if eval_dir.is_base else []
        found += [named(name.name)] if name is not None else []
        found += [(self._now.storage, eval_dir.config.place)] if eval_dir.config is not None else []
        try:
            destinations = self._placing.destinations(eval_dir, linked)
        except RejectedPath:
            return tuple(found)
        for destination in () if isinstance(destinations, Undecided) else destinations:
            found += [destination.experiment, destination.directory.parts[0]]
        # A copy that was placed by an earlier link or name stays where it is, and counts as local there.
        groups = (*eval_dir.groups, *(each.group for each in eval_dir.on_request))
        places = (member.source.place for group in groups for member in group.members)
        return tuple(dict.fromkeys([*found, *self._knowledge.subjects_of_copies(self._now.storage, places)]))

    def plan(self, eval_dir: EvalDir) -> None:
        """Plan a directory of evals."""
        draft = self._draft
        undecided = self._now.undecided.get(eval_dir.place)
        if undecided is not None:
            self._wait(eval_dir, undecided)
            return
        try:
            destinations = self._placing.destinations(eval_dir, self.linked_run(eval_dir))
        except RejectedPath as e:
            draft.hinder(eval_dir, None, f"its local path is not valid: {e}")
            return
        other = self._shown_by_other(eval_dir, destinations)
        if other is not None:
            draft.leave_out(other.experiment, [whole(eval_dir, f"the same as on {other.host}, which brings it")])
            return
        if isinstance(destinations, Undecided):
            self._wait(eval_dir, destinations.reason)
            return
        here = [destination for destination in destinations if not self._knowledge.is_gone(destination.experiment)]
        if not here:
            draft.hinder(eval_dir, destinations[0].experiment, TAKEN_AWAY)
            return
        welcome = [destination for destination in here if not self._knowledge.ignored_in(destination.experiment)]
        if not welcome:
            ignored = self._knowledge.ignored_in(here[0].experiment)
            if ignored:
                draft.ignore(eval_dir, here[0].experiment, ignored)
            return
        self._knowledge.require({destination.section for destination in welcome})
        contents = eval_dir.contents.groups()
        requested = self._requested_records(welcome)
        leaves = {group.path.parts: group for group in contents.wanted}
        for group in contents.wanted:
            coming = draft.plan_group(group, self._places(eval_dir, _leaf_of(group, leaves), welcome))
            if group.members[0].kind is Kind.RECORDS:
                draft.count(group, [request for each in requested.values() for request in each], coming)
        draft.leave_out(welcome[0].experiment, self._plan_requested_records(eval_dir, requested))

    def linked_run(self, eval_dir: EvalDir) -> str | None:
        """Return the run in the eval_config.yaml of an eval; None if there is none."""
        if eval_dir.config is None:
            return None
        link = self._knowledge.eval_link(self._now.storage, eval_dir.config.place)
        return link.training_run if link else None

    def _wait(self, eval_dir: EvalDir, reason: str) -> None:
        self._draft.wait(Waiting(eval_dir.place, sum(group.size for group in eval_dir.groups), reason, None))

    def _requested_records(self, destinations: Iterable[Destination]) -> dict[Destination, list[Request]]:
        """Return those of the directories for which records were requested, with the requests."""
        in_force = {destination: self._knowledge.requests_in(destination.experiment) for destination in destinations}
        found = {
            destination: [each.records for each in in_force[destination] if each.records] for destination in in_force
        }
        return {destination: requests for destination, requests in found.items() if requests}

    def _plan_requested_records(
        self, eval_dir: EvalDir, requested: Mapping[Destination, Sequence[Request]]
    ) -> list[LeftOut]:
        """Plan the records for the directories with requests; return what remains left out."""
        requests = [request for each in requested.values() for request in each]
        if not requests:
            return list(eval_dir.left_out)
        for request in requests:
            self._draft.counts.show(request)
        contents = eval_dir.contents.groups()
        leaves = {group.path.parts: group for group in contents.wanted}
        for each in contents.on_request:
            places = self._places(eval_dir, _leaf_of(each.group, leaves), requested)
            self._draft.plan_requested(each.group, requests, places)
        return still_left_out(eval_dir.left_out, contents.on_request)

    def _shown_by_other(self, eval_dir: EvalDir, destinations: Sequence[Destination] | Undecided) -> RunRecord | None:
        """Return the run record of the other storage that provides this eval, if that one shows it; else None."""
        if isinstance(destinations, Undecided) or destinations[0].experiment is None or destinations[0].is_shared:
            return None
        now, connected_storages = self._now, self._draft.connected_storages
        runs = self._knowledge.runs_of(destinations[0].experiment)
        own = next((run for run in runs if run.storage == now.storage), None)
        # A host without a view of the run has another disk: an eval at the same path is a different one.
        for view in views_to_fetch(own, self._knowledge, connected_storages) if own is not None else ():
            if view.storage == now.storage:
                return None
            if eval_dir.place in connected_storages.get(view.storage, ()):
                return view
        return None

    def _places(self, eval_dir: EvalDir, leaf: Group, destinations: Iterable[Destination]) -> Places:
        below = self._placing.below_base
        return [
            (destination, below(eval_dir, leaf, destination) if destination.is_shared else ())
            for destination in destinations
        ]


def _leaf_of(group: Group, leaves: Mapping[tuple[str, ...], Group]) -> Group:
    """Return the leaf, of those given by path, that determines the group's directory: records stay beside metrics."""
    if group.members[0].kind is not Kind.RECORDS:
        return group
    return leaves.get(group.path.parts[:-1], group)
