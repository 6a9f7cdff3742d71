"""Determines whether a run without a final checkpoint has died. Pure: facts are arguments, no clock is read."""

from collections.abc import Iterator

from harvestd.convention.scan.model import RunDir, Source
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.convention.structs import Immutable


class Life(Immutable):
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


def has_died(run: RunDir, host: str, life: Life, sightings: StabilityTracker, now: float) -> bool | None:
    """Return whether a run has died; None if that depends on its processes, which are unknown.

    `host`: the identity of the host that showed it first, or else its name, since a host may get another name. A run
    has died if nothing of it has changed for `life.idle_for`, and its host is gone or ending, or no GPU process is
    left.
    """
    if any(sightings.age(source, now) < life.idle_for for source in _sources(run)):
        return False
    if host in life.ending or (life.hosts is not None and host not in life.hosts):
        return True
    return None if life.gpu_processes is None else life.gpu_processes == 0


def may_die_in(run: RunDir, life: Life, sightings: StabilityTracker, now: float) -> float:
    """Return the seconds after which a run that has not died may have, if nothing changes; 0 if it may have now."""
    left = (life.idle_for - sightings.age(source, now) for source in _sources(run))
    return max(0.0, next((each for each in left if each > 0), 0.0))


def _sources(run: RunDir) -> Iterator[Source]:
    """Yield a run's files, first those that change while it is running."""
    for wanted in run.growing:
        yield wanted.source
    for group in (*reversed(run.checkpoints), *run.groups):
        for member in group.members:
            yield member.source
