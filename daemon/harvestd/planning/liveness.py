"""Whether a run that has no final checkpoint will never write one. Pure: facts are handed in, no clock is read."""

from collections.abc import Iterator

from harvestd.convention.scan.model import RunDir, Source
from harvestd.convention.scan.stability import Sightings
from harvestd.convention.structs import Immutable


class Life(Immutable):
    """What is known of who could still write, beside what the trees show."""

    idle_for: float = float("inf")
    """Seconds for which nothing of a run may have moved before it is taken for dead."""
    gpu_processes: int | None = None
    """How many run on the hosts that show this storage; None: nobody was asked just now, or one can't say."""
    hosts: frozenset[str] | None = None
    """The names and the identities of all hosts that there are; None: not known."""
    ending: frozenset[str] = frozenset()
    """Those of them that are being switched off."""


def quiet_for(run: RunDir, sightings: Sightings, now: float) -> float:
    """Return the seconds for which nothing of a run has moved; without end where it has no file."""
    return min((sightings.age(source, now) for source in _sources(run)), default=float("inf"))


def has_died(run: RunDir, host: str, life: Life, sightings: Sightings, now: float) -> bool | None:
    """Return whether a run has died; None where only its processes could tell, and did not.

    `host`: the identity of the host that showed it first, or else its name: a host may get another one.
    It has when nothing of it has moved for long, and either its host is gone or ending, or no GPU process is left.
    """
    if any(sightings.age(source, now) < life.idle_for for source in _sources(run)):
        return False
    if host in life.ending or (life.hosts is not None and host not in life.hosts):
        return True
    return None if life.gpu_processes is None else life.gpu_processes == 0


def _sources(run: RunDir) -> Iterator[Source]:
    """Yield what is known of a run's files, those first that move while it lives."""
    for wanted in run.growing:
        yield wanted.source
    for group in (*reversed(run.checkpoints), *run.groups):
        for member in group.members:
            yield member.source
