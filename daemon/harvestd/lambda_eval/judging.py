"""Find what is missing of a job's results, from the last scans of hosts. Pure except for its arguments.

Only scanned files count as present. The same rules apply to a single pass and to the daemon.
"""

import ipaddress
from collections.abc import Collection, Iterable, Iterator

from harvestd.convention.eval_names import DATASETS
from harvestd.convention.kinds import Kind, eval_step, run_name
from harvestd.convention.scan.model import EvalDir, Group, RunDir
from harvestd.errors import ExitCode
from harvestd.harvest.context import Context
from harvestd.harvest.host.passes import find_hosts
from harvestd.harvest.state import LastScan
from harvestd.inventory.host import Host
from harvestd.lambda_eval.job_files import Job, SyncFailed
from harvestd.planning.destinations import Placing, RunContents, belonging, beside
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import ExperimentRecord
from harvestd.settings import Settings
from harvestd.telemetry.sanitize import escaped

_Targets = Collection[tuple[str, ...]]
"""The files of an experiment, each as the path components below its directory."""


def experiment_of(job: Job, knowledge: PlanningIndex) -> ExperimentRecord | None:
    """Return the experiment of a job's run; None where there is none, or where it is ambiguous."""
    name = run_name(job.run or "")
    known = [run for run in knowledge.runs_named(name.name) if run.experiment] if name else []
    exact = [run for run in known if run.place.rpartition("/")[2] == job.run]
    found = {run.experiment for run in exact or known}
    return knowledge.experiment(found.pop() or "") if len(found) == 1 else None


async def missing(job: Job, context: Context, last_scans: Iterable[LastScan]) -> list[str]:
    """Return what of a job is not here, by these outlooks; empty: everything is here. `job.run` is set."""
    experiment = experiment_of(job, context.catalogue.knowledge)
    if experiment is None:
        return [f"{job.run} has no experiment here yet"]
    if experiment.gone:
        return [f"the directory of {experiment.directory} was taken away"]
    here = {file.target.parts[1:] for file in await context.catalogue.files.files_of(experiment.id)}
    evals: list[EvalDir] = []
    found: list[str] = []
    for last_scan in last_scans:
        shown = _shown(job, context, last_scan)
        evals += shown.evals
        found += _open(last_scan, shown)
        found += _absent(shown, here, last_scan.host.name)
    found += _unevaluated(job, evals)
    return list(dict.fromkeys(found))


def _shown(job: Job, context: Context, last_scan: LastScan) -> RunContents:
    knowledge, selection = context.catalogue.knowledge, context.selection
    storage = context.storage_of(last_scan.host)
    placing = Placing(last_scan.host.name, storage, last_scan.seen, knowledge, selection, ())

    def link_of(eval_dir: EvalDir) -> str | None:
        link = knowledge.eval_link(storage, eval_dir.config.place) if eval_dir.config else None
        return link.training_run if link else None

    return belonging(last_scan.seen, job.run or "", placing, link_of)


def _open(last_scan: LastScan, shown: RunContents) -> Iterator[str]:
    """Yield what the plan still fetches; a log that is being written is never complete, and need not be."""
    plan = last_scan.plan
    for wait in plan.waiting:
        if shown.holds(wait.place):
            yield f"{wait.place}: {wait.reason}"
    logs = [follow for follow in plan.follows if follow.whole or follow.target.replaces is None]
    places = [*(group.place for group in plan.groups), *(check.place for check in plan.checks)]
    places += [*(log.place for log in logs), *(each.record.place for each in plan.refiles)]
    for place in (*places, *sorted(last_scan.refused)):
        if shown.holds(place):
            yield f"{place}: not here yet"


def _is_filed(parts: tuple[str, ...], here: _Targets, host: str) -> bool:
    """Return whether a file of an eval is here, even beside another host's of the same name."""
    return parts in here or beside(parts, host) in here


def _absent(shown: RunContents, here: _Targets, host: str) -> Iterator[str]:
    """Yield the files that are missing in the experiment, whatever the reason.

    Base evals are copied once and not checked.
    """
    for run in shown.runs:
        if run.config is None:
            yield f"{run.place}: it has no config.yaml"
        for each in _wanted_of(run):
            if ("training_run", *each) not in here:
                yield f"{run.place}/{'/'.join(each)}: not here"
    for eval_dir in shown.evals:
        for group in eval_dir.groups if not eval_dir.is_base else ():
            if _lacks_marker(group):
                yield f"{group.place}: its run_meta.json is not there yet"
            for member in group.members:
                if not _is_filed(("eval_results", eval_dir.path.name, *member.rest), here, host):
                    yield f"{eval_dir.place}/{'/'.join(member.rest)}: not here"


def _wanted_of(run: RunDir) -> Iterator[tuple[str, ...]]:
    yield from (member.rest for group in run.groups for member in group.members)
    yield from (each.rest for each in run.growing)


def _lacks_marker(group: Group) -> bool:
    """Return whether a leaf of layouts A to C was not sealed by its writer; the batch layout never has a marker."""
    batch = group.members[0].rest[0] == "results"
    return group.marker is None and not batch and any(each.kind is Kind.METRICS for each in group.members)


def _unevaluated(job: Job, evals: Iterable[EvalDir]) -> Iterator[str]:
    """Yield the requested evals that no host shows."""
    leaves = [
        (eval_dir.path.name, *member.rest)
        for eval_dir in evals
        if not eval_dir.is_base
        for group in eval_dir.groups
        for member in group.members
        if member.rest[-1] == "metrics.csv"
    ]
    ours = [leaf for leaf in leaves if job.dataset is None or is_of(leaf, job.dataset)]
    if not ours:
        yield f"no box shows an eval of {job.run}" + (f" on {job.dataset}" if job.dataset else "")
    for step in job.steps if ours else ():
        if not any(part == f"step_{step}" or part.startswith(f"step_{step}_") for leaf in ours for part in leaf):
            yield f"no box shows an eval of step {step}"


def is_of(leaf: tuple[str, ...], dataset: str) -> bool:
    """Return whether a directory above a leaf names this dataset, by the convention for such names."""
    known = (*DATASETS, dataset)
    for part in leaf[:-1]:
        run, step = run_name(part), eval_step(part, known)
        if dataset in {part, run.dataset if run else None, step.dataset if step else None}:
            return True
    return False


SOURCE = "job"
"""The provider name of a host that only a job names."""


async def boxes_of(settings: Settings, job: Job) -> tuple[Host, ...]:
    """Return the hosts at a job's address: one, unless several answer there at different ports.

    Raise `SyncFailed` (5) where the job names no usable address.
    """
    written = [table.name for table in settings.hosts if table.address == job.address]
    found = await find_hosts(settings, written)
    known = tuple(host for host in found.hosts if host.address == job.address)
    return known or (_made_up(job),)


def _made_up(job: Job) -> Host:
    try:
        address = str(ipaddress.ip_address(job.address or ""))
    except ValueError:
        where = f"its lambda_ip is {escaped(job.address[:100])}" if job.address else "it has no lambda_ip"
        raise SyncFailed(f"the box of {job.id} is not known: {where}", exit_code=ExitCode.NO_HOST) from None
    # The cloud reuses addresses, so a host key is pinned for the job only; the address identifies the trees.
    return Host(
        identity=f"{SOURCE}:{job.id}",
        name=address.replace(":", "-").strip("-"),
        address=address,
        source=SOURCE,
        storage=f"address:{address}",
    )
