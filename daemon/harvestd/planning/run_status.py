"""Whether a run goes on, and since when it does not. Pure: facts are handed in, no clock is read.

Times are Unix seconds on our clock.
"""

from enum import StrEnum
from typing import Final

from harvestd.convention.structs import Immutable

FRESH: Final = 900.0
"""Seconds for which a run that was seen to go on is believed to, when its host is not watched any more."""


class RunStatus(StrEnum):
    """How a run is doing."""

    RUNNING = "running"
    STALLED = "stalled"
    """Its log fell silent while its processes live, or it is not known whether they do."""
    DIVERGED = "diverged"
    """It goes on, but its loss is no number any more."""
    DIED = "died"
    """It has not finished and never will: its host is gone, or nothing works there any more."""
    UNKNOWN = "unknown"
    """Not finished when it was seen last; its host is not watched."""
    FINISHED = "finished"


ORDER: Final = (
    RunStatus.RUNNING,
    RunStatus.DIVERGED,
    RunStatus.STALLED,
    RunStatus.UNKNOWN,
    RunStatus.FINISHED,
    RunStatus.DIED,
)
"""From the liveliest: of several records of one run, on several storages, the first of these counts."""


class RunTrouble(Immutable):
    """What kept a run from going on as it should when it was looked at last."""

    status: RunStatus
    """STALLED, DIVERGED or DIED."""
    since: float


class Standing(Immutable):
    """The present status of a run."""

    status: RunStatus
    since: float | None = None
    """None where that is not known."""

    @property
    def goes_on(self) -> bool:
        """Return whether an estimate of the time left means anything."""
        return self.status in {RunStatus.RUNNING, RunStatus.DIVERGED}


def standing(
    *,
    finished: bool,
    trouble: RunTrouble | None,
    step_at: float | None,
    host_seen_at: float | None,
    host_is_gone: bool,
    now: float,
) -> Standing:
    """Return the status of a run at `now` from what is on record of it and of its host.

    `step_at`: when its newest step was heard. `host_seen_at`: when its host was last looked at with success.
    """
    if finished:
        return Standing(RunStatus.FINISHED)
    if trouble is not None and trouble.status is RunStatus.DIED:
        return Standing(trouble.status, trouble.since)
    # On a shared file system another host may write it, so a step counts for more than its host.
    goes_on = step_at is not None and now - step_at < FRESH
    if host_is_gone and not goes_on:
        return Standing(RunStatus.DIED, step_at or host_seen_at)
    if trouble is not None:
        return Standing(trouble.status, trouble.since)
    if goes_on or (host_seen_at is not None and now - host_seen_at < FRESH):
        return Standing(RunStatus.RUNNING)
    return Standing(RunStatus.UNKNOWN, max(filter(None, (step_at, host_seen_at)), default=None))


def is_over(*, finished: bool, trouble: RunTrouble | None) -> bool:
    """Return whether nothing of a run is written any more, as far as is known: it has finished, or died."""
    return finished or (trouble is not None and trouble.status is RunStatus.DIED)
