"""Determines the status of a run, and since when it holds. Pure: facts are arguments, no clock is read.

Times are Unix seconds on our clock.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from harvestd.convention.scan.model import RunDir, Source
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.convention.structs import Immutable

FRESH: Final = 900.0
"""Seconds for which a run counts as running after its last observed progress, without observation of its host."""


class RunStatus(StrEnum):
    """The status of a run."""

    RUNNING = "running"
    STALLED = "stalled"
    """Its log has stopped growing although its processes run, or may run."""
    DIVERGED = "diverged"
    """It is running, but its loss is no longer finite."""
    DIED = "died"
    """It has not finished and never will: its host is gone, or no process works on it."""
    UNKNOWN = "unknown"
    """Not finished when last seen; its host is not observed."""
    FINISHED = "finished"


ORDER: Final = (
    RunStatus.RUNNING,
    RunStatus.DIVERGED,
    RunStatus.STALLED,
    RunStatus.UNKNOWN,
    RunStatus.FINISHED,
    RunStatus.DIED,
)
"""Precedence: of several records of one run, on several storages, the first status in this order counts."""


class RunProblem(Immutable):
    """A problem of a run as of the last scan."""

    status: RunStatus
    """STALLED, DIVERGED or DIED."""
    since: float


class CurrentStatus(Immutable):
    """The present status of a run."""

    status: RunStatus
    since: float | None = None
    """None if unknown."""

    @property
    def goes_on(self) -> bool:
        """Whether the run makes progress, so that an estimate of the remaining time is meaningful."""
        return self.status in {RunStatus.RUNNING, RunStatus.DIVERGED}

    @property
    def is_over(self) -> bool:
        """Whether the run has finished or died."""
        return self.status in {RunStatus.FINISHED, RunStatus.DIED}


def current_status(
    *,
    finished: bool,
    problem: RunProblem | None,
    step_at: float | None,
    host_seen_at: float | None,
    host_is_gone: bool,
    now: float,
) -> CurrentStatus:
    """Return the status of a run at `now` from the records of it and of its host.

    `step_at`: when its newest step was read. `host_seen_at`: when its host was last scanned successfully.
    """
    if finished:
        return CurrentStatus(RunStatus.FINISHED)
    if problem is not None and problem.status is RunStatus.DIED:
        return CurrentStatus(problem.status, problem.since)
    # On a shared file system another host may write it, so a step takes precedence over its host.
    goes_on = step_at is not None and now - step_at < FRESH
    if host_is_gone and not goes_on:
        return CurrentStatus(RunStatus.DIED, step_at or host_seen_at)
    if problem is not None:
        return CurrentStatus(problem.status, problem.since)
    if goes_on or (host_seen_at is not None and now - host_seen_at < FRESH):
        return CurrentStatus(RunStatus.RUNNING)
    return CurrentStatus(RunStatus.UNKNOWN, max(filter(None, (step_at, host_seen_at)), default=None))


def is_over(*, finished: bool, problem: RunProblem | None) -> bool:
    """Return whether nothing more of a run is written, as far as known: it has finished or died."""
    return finished or (problem is not None and problem.status is RunStatus.DIED)


class Liveness(Immutable):
    """Facts beside the trees about processes and hosts that could still write."""

    idle_for: float = float("inf")
    """Seconds without a change after which a run may count as dead."""
    gpu_processes: int | None = None
    """The number on all hosts that show this storage; None: not queried recently, or unknown for one of them."""
    hosts: frozenset[str] | None = None
    """The names and the identities of all existing hosts; None: unknown."""
    ending: frozenset[str] = frozenset()
    """Hosts of these that are being terminated."""


def quiet_for(run: RunDir, sightings: StabilityTracker, now: float) -> float:
    """Return the seconds for which nothing of a run has changed; infinite if it has no file."""
    return min((sightings.age(source, now) for source in _sources(run)), default=float("inf"))


def has_died(run: RunDir, host: str, liveness: Liveness, sightings: StabilityTracker, now: float) -> bool | None:
    """Return whether a run has died; None if that depends on its processes, which are unknown.

    `host`: the identity of the host that showed it first, or else its name, since a host may get another name. A run
    has died if nothing of it has changed for `liveness.idle_for`, and its host is gone or ending, or no GPU process is
    left.
    """
    if any(sightings.age(source, now) < liveness.idle_for for source in _sources(run)):
        return False
    if host in liveness.ending or (liveness.hosts is not None and host not in liveness.hosts):
        return True
    return None if liveness.gpu_processes is None else liveness.gpu_processes == 0


def may_die_in(run: RunDir, liveness: Liveness, sightings: StabilityTracker, now: float) -> float:
    """Return the seconds after which a run that has not died may have, if nothing changes; 0 if it may have now."""
    left = (liveness.idle_for - sightings.age(source, now) for source in _sources(run))
    return max(0.0, next((each for each in left if each > 0), 0.0))


def _sources(run: RunDir) -> Iterator[Source]:
    """Yield a run's files, first those that change while it is running."""
    for wanted in run.growing:
        yield wanted.source
    for group in (*reversed(run.checkpoints), *run.groups):
        for member in group.members:
            yield member.source
