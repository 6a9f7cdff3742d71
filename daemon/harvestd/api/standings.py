"""The standing of each run, from the daemon's state, for the state document and the metrics."""

from harvestd.api.source import Source
from harvestd.planning.records import RunRecord
from harvestd.planning.run_status import Standing, standing


def standing_of_run(run: RunRecord, source: Source, now: float) -> Standing:
    """Return the standing of a run at `now` (Unix time), from its record and the host that showed it first."""
    hosts, tally = source.context.fleet.hosts, source.tally.hosts.get(run.host)
    seen_at = None if tally is None else tally.last_success
    return standing(
        finished=run.finished,
        trouble=run.trouble,
        step_at=run.step_at,
        host_seen_at=None if seen_at is None else seen_at.timestamp(),
        host_is_gone=hosts is not None and run.host not in hosts,
        now=now,
    )
