"""The progress of each run: the newest step in its log, and the time left at its pace."""

import time
from datetime import UTC, datetime

from msgspec.structs import replace

from harvestd.convention.kinds import Kind
from harvestd.convention.log_rows import lines_of
from harvestd.convention.metadata.progress import newest_step, seconds_left
from harvestd.convention.patterns import run_name
from harvestd.convention.scan.snapshot import Version
from harvestd.harvest.context import Context
from harvestd.harvest.host.health import StallDetector
from harvestd.inventory.host import Host
from harvestd.planning.records import FileRecord, RunRecord


class RunProgress:
    """Records the progress of one host's runs in the catalogue."""

    def __init__(self, host: Host, context: Context, stalling: StallDetector) -> None:
        self._stalling = stalling
        self._storage = context.storage_of(host)
        self._catalogue = context.catalogue

    async def heard(self, record: FileRecord, content: bytes, version: Version) -> None:
        """Process lines that were just appended to a log; other files are ignored."""
        if record.kind is not Kind.TRAIN_LOG or not content:
            return
        lines = list(lines_of(content))
        step = newest_step(lines)
        run = self._run_of(record.place)
        if run is None:
            return
        trouble = self._stalling.heard(run, lines, behind=version.size - record.size)
        heard_at = time.time()

        def with_lines(now: RunRecord) -> RunRecord:
            after = replace(now, trouble=trouble)
            if step is None or (now.step is not None and now.step >= step):
                return after
            return replace(after, step=step, step_at=heard_at, seconds_left=_left(now, step, version))

        await self._catalogue.change_run(run.key, with_lines)

    def _run_of(self, place: str) -> RunRecord | None:
        return self._catalogue.knowledge.run_at(self._storage, place.removesuffix("/logs/train_log.jsonl"))


def _left(run: RunRecord, step: int, log: Version) -> float | None:
    name, total = run_name(run.name), run.config.total_steps
    if name is None or name.started is None or total is None:
        return None
    try:
        written = datetime.fromtimestamp(log.mtime_ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a host may send any number
    # Hosts run on UTC; if one does not, the pace is off by its time zone, and only this figure with it.
    return seconds_left(step, total, name.started.replace(tzinfo=UTC), written)
