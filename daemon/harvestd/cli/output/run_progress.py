"""The standing of each run, from its record and its host's state in the catalogue; for tables and for JSON."""

import time
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy import Row as TableRow

from harvestd.catalogue import queries
from harvestd.catalogue.entries import GONE
from harvestd.cli.output import units
from harvestd.cli.output.tables import Styled
from harvestd.planning.records import RunRecord
from harvestd.planning.run_status import RunStatus, Standing, standing

_STYLES: Final = {
    RunStatus.STALLED: "yellow",
    RunStatus.DIVERGED: "yellow",
    RunStatus.DIED: "red",
    RunStatus.FINISHED: "green",
}
_SHOWN_FOR: Final = 86_400.0
"""Seconds for which the live screen shows a run that died."""


class Standings:
    """The standing of every run at one moment."""

    def __init__(self, connection: Connection) -> None:
        self._hosts: Mapping[str, TableRow[Any]] = {row.name: row for row in queries.hosts(connection)}
        self._now = time.time()

    def of(self, run: RunRecord) -> Standing:
        """Return the standing of a run."""
        host = self._hosts.get(run.host)
        return standing(
            finished=run.finished,
            trouble=run.trouble,
            step_at=run.step_at,
            host_seen_at=host.last_success if host else None,
            host_is_gone=host is not None and host.state == GONE,
            now=self._now,
        )


def cell_of(found: Standing) -> Styled:
    """Return a standing for a table, with its age where that is known: `died 3h ago`."""
    words = [str(found.status)]
    if found.since is not None and found.status is RunStatus.UNKNOWN:
        words.append(f"since {units.age(found.since)}")
    elif found.since is not None:
        words.append(units.age(found.since))
    return Styled(" ".join(words), _STYLES.get(found.status, ""))


def is_news(status: RunStatus, since: float | None, now: float) -> bool:
    """Return whether the live screen shows a run: one in progress or stalled, or one that died recently."""
    if status is RunStatus.DIED:
        return since is not None and now - since < _SHOWN_FOR
    return status not in {RunStatus.FINISHED, RunStatus.UNKNOWN}
