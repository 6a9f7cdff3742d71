"""In-memory index of the catalogue for planning. A value store: no I/O, no clock.

The catalogue fills it at start and updates it with the database; planners of all hosts read it. Changes happen only
between two awaits, so that no planner sees a partial one. All runs and experiments are in memory; for files see
`FileIndex`.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import RunDir, Source
from harvestd.planning.file_index import FileIndex
from harvestd.planning.records import EvalLink, ExperimentRecord, RunRecord, Section, sections_in
from harvestd.planning.requests import NO_REQUESTS, Request, RequestKind, RunRequests, combine_requests

ANY_RUN = ("run",)
"""The subject (see `PlanningIndex.changed_at`) of all runs."""
ANY_REQUEST = ("request",)
"""The subject of all requests that concern a plan."""


class PlanningIndex(FileIndex):
    """The recorded runs, experiments and files."""

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[tuple[str, str], RunRecord] = {}
        self._runs_by_name: defaultdict[str, dict[tuple[str, str], RunRecord]] = defaultdict(dict)
        self._runs_by_experiment: defaultdict[str | None, dict[tuple[str, str], RunRecord]] = defaultdict(dict)
        self._experiments: dict[str, ExperimentRecord] = {}
        self._directories: dict[str, str] = {}
        """By casefolded directory name: the experiment that has or had it."""
        self._reserved: set[str] = set()
        """Casefolded directory names that are about to be assigned to an experiment, or must not be assigned."""
        self._links: dict[LocalPath, str] = {}
        self._eval_links: dict[tuple[str, str], EvalLink] = {}
        self._requests: defaultdict[tuple[str, str], dict[int, Request]] = defaultdict(dict)
        """By the key of the run that they concern."""
        self._open: dict[int, Request] = {}
        """The requests that are not settled, by their ids."""
        self._run_requests: dict[tuple[str, str], RunRequests] = {}

    def add_run(self, run: RunRecord) -> None:
        """Add or replace a run."""
        before = self._runs.get(run.key)
        self._change(run.key)
        if before is None or not _differ_in_progress(before, run):
            self._change(run.experiment, named(run.name), ANY_RUN)
        if before is not None and (before.experiment, before.name) != (run.experiment, run.name):
            self._change(before.experiment, named(before.name))
        if before is not None and before.experiment != run.experiment:
            del self._runs_by_experiment[before.experiment][run.key]
        if before is not None and before.name != run.name:
            del self._runs_by_name[before.name][run.key]
        self._runs[run.key] = run
        self._runs_by_name[run.name][run.key] = run
        self._runs_by_experiment[run.experiment][run.key] = run

    def move_run(self, before: RunRecord, after: RunRecord) -> None:
        """Replace a run by its record at another remote path, with its requests."""
        self._change(before.key, before.experiment, named(before.name), ANY_RUN)
        del self._runs[before.key]
        del self._runs_by_name[before.name][before.key]
        del self._runs_by_experiment[before.experiment][before.key]
        self.add_run(after)
        for request in self._requests.pop(before.key, {}).values():
            self.add_request(replace(request, place=after.place))
        self._run_requests.pop(before.key, None)

    def add_experiment(self, experiment: ExperimentRecord) -> None:
        """Add or replace an experiment; its directory is taken from now on."""
        self._change(experiment.id)
        self._experiments[experiment.id] = experiment
        self._directory_of[experiment.id] = experiment.directory
        for directory in (experiment.directory, *experiment.aliases):
            self._directories[directory.casefold()] = experiment.id

    def sections_of_storages(self, storages: Collection[str]) -> set[Section]:
        """Return the sections that are needed as long as these storages are: with files, runs or equals of them."""
        found = self._sections_from(storages)
        for run in self._runs.values():
            if run.storage in storages and run.experiment in self._directory_of:
                found.update(sections_in(self._directory_of[run.experiment]))
        return found

    def add_link(self, path: LocalPath, target: str) -> None:
        """Add or replace a local link."""
        self._change(path.parts[0])
        self._links[path] = target

    def forget_link(self, path: LocalPath) -> None:
        """Remove the local link at `path`."""
        self._change(path.parts[0])
        self._links.pop(path, None)

    def link_at(self, path: LocalPath) -> str | None:
        """Return the target of the local link at `path`; None if there is none."""
        return self._links.get(path)

    def links_in(self, directory: str) -> dict[LocalPath, str]:
        """Return the local links below an experiment's directory, with their targets."""
        return {path: target for path, target in self._links.items() if path.parts[0] == directory}

    def add_eval_link(self, link: EvalLink) -> None:
        """Add or replace the content of an eval_config.yaml."""
        self._change((link.storage, link.place))
        self._eval_links[link.storage, link.place] = link

    def eval_link(self, storage: str, place: str) -> EvalLink | None:
        """Return the content of the eval_config.yaml at `place` as last read; None if it was not."""
        return self._eval_links.get((storage, place))

    def add_request(self, request: Request) -> None:
        """Add or replace a person's request."""
        if request.is_open:
            self._open[request.id] = request
        else:
            self._open.pop(request.id, None)
        if request.kind is RequestKind.JUDGE:
            self._add_verdict_request(request)
            return
        run = self._runs.get(request.run)
        self._change(ANY_REQUEST, request.run, *([] if run is None else [run.experiment]))
        self._requests[request.run][request.id] = request
        self._run_requests[request.run] = combine_requests(self._requests[request.run].values())

    def _add_verdict_request(self, request: Request) -> None:
        """Keep a request for a verdict until it is settled: these are frequent and change no plan."""
        if request.is_open:
            self._requests[request.run][request.id] = request
        else:
            self._requests[request.run].pop(request.id, None)

    def open_requests(self) -> list[Request]:
        """Return the unsettled requests, oldest first."""
        return [self._open[each] for each in sorted(self._open)]

    def requests_for(self, storage: str, place: str) -> RunRequests:
        """Return the requests in force for the run with this key."""
        return self._run_requests.get((storage, place), NO_REQUESTS)

    def requests_in(self, experiment: str | None) -> list[RunRequests]:
        """Return the requests in force for those of an experiment's runs that ever had any."""
        if experiment is None:
            return []
        return [self._run_requests[run.key] for run in self.runs_of(experiment) if run.key in self._run_requests]

    def ignored_experiments(self) -> frozenset[str]:
        """Return the experiments that a person asked to ignore."""
        ignored = (self._runs.get(key) for key, requests in self._run_requests.items() if requests.ignored)
        return frozenset(run.experiment for run in ignored if run is not None and run.experiment is not None)

    def ignored_in(self, experiment: str | None) -> Request | None:
        """Return the request to ignore an experiment's run, on any of its storages; None if there is none."""
        return next((requests.ignored for requests in self.requests_in(experiment) if requests.ignored), None)

    def run_at(self, storage: str, place: str) -> RunRecord | None:
        """Return the run with this key; None if there is none."""
        return self._runs.get((storage, place))

    def runs_named(self, name: str) -> list[RunRecord]:
        """Return all runs with this directory name, on any storage."""
        return list(self._runs_by_name[name].values()) if name in self._runs_by_name else []

    def runs_of(self, experiment: str | None) -> list[RunRecord]:
        """Return the records of an experiment's run, one for each storage with it, in the order of first sight."""
        return list(self._runs_by_experiment[experiment].values()) if experiment in self._runs_by_experiment else []

    def runs(self) -> list[RunRecord]:
        """Return all runs."""
        return list(self._runs.values())

    def experiment(self, identifier: str) -> ExperimentRecord:
        """Return the experiment with this id; raise KeyError if there is none."""
        return self._experiments[identifier]

    def has_experiment(self, identifier: str) -> bool:
        """Return whether there is an experiment with this id."""
        return identifier in self._experiments

    def is_gone(self, identifier: str | None) -> bool:
        """Return whether a person removed the experiment's directory; False for `_unfiled` (None)."""
        return identifier is not None and self._experiments[identifier].gone

    def experiments(self) -> list[ExperimentRecord]:
        """Return all experiments."""
        return list(self._experiments.values())

    def is_directory_taken(self, directory: str, by_other_than: str = "") -> bool:
        """Return whether an experiment has or had this directory, or one that differs only in case."""
        name = directory.casefold()
        return name in self._reserved or self._directories.get(name, by_other_than) != by_other_than

    @contextmanager
    def reserved(self, directory: str) -> Iterator[None]:
        """Reserve a directory name during the body, while its assignment is recorded."""
        name = directory.casefold()
        self._reserved.add(name)
        try:
            yield
        finally:
            self._reserved.discard(name)

    def reserve(self, directory: str) -> None:
        """Reserve a directory name permanently: the directory there belongs to no recorded experiment."""
        self._reserved.add(directory.casefold())


def named(name: str) -> Hashable:
    """Return the subject (see `PlanningIndex.changed_at`) of all runs with this directory name."""
    return "run", name


def _differ_in_progress(before: RunRecord, after: RunRecord) -> bool:
    """Return whether two records of a run differ at most in what its log says, which affects no other plan."""
    return before == replace(
        after,
        step=before.step,
        seconds_left=before.seconds_left,
        step_at=before.step_at,
        problem=before.problem,
        row_version=before.row_version,
    )


def is_torn(run: RunDir, storage: str, knowledge: PlanningIndex) -> bool:
    """Return whether a growing file of a run continues on the host after the last stored complete line."""
    return any(unread_bytes(wanted.source, (storage,), knowledge) for wanted in run.growing)


def unread_bytes(source: Source, storages: Collection[str], knowledge: PlanningIndex) -> int:
    """Return the bytes of a file that are not local although this version was read; 0 if it was not read."""
    copies = (copy for storage in storages for copy in knowledge.copies(storage, source.place))
    return min((source.version.size - each.size for each in copies if each.version == source.version), default=0)
