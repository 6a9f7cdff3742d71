"""Experiments, runs and local links: functions for the transaction of their caller.

So are the ids of volumes and hosts, which are added when a row refers to them first.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, delete, func, select

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import insert, replace_version
from harvestd.catalogue.entries import GONE
from harvestd.convention.paths import LocalPath
from harvestd.planning.records import ExperimentRecord, RunRecord

_VOLUME = "SELECT id FROM volumes WHERE storage = ?"
_ADD_VOLUME = "INSERT INTO volumes (storage) VALUES (?) ON CONFLICT DO NOTHING"


def volume_ids(connection: Connection, storages: Iterable[str]) -> dict[str, int]:
    """Return the ids of volumes by what is called their storage elsewhere; add those that are missing."""
    # Plain SQL: this is part of each change of a file.
    found: dict[str, int] = {}
    for storage in set(storages):
        known = connection.exec_driver_sql(_VOLUME, (storage,)).scalar()
        if known is None:
            connection.exec_driver_sql(_ADD_VOLUME, (storage,))
            known = connection.exec_driver_sql(_VOLUME, (storage,)).scalar_one()
        found[storage] = int(known)
    return found


def volume_id(connection: Connection, storage: str) -> int:
    """Return the id of one volume; add it if it is missing."""
    return volume_ids(connection, [storage])[storage]


def host_id(connection: Connection, identity: str, name: str) -> int:
    """Return the id of the host with this identity; add it, unlisted, if it was never connected to."""
    row = {
        "identity": identity,
        "name": name,
        "listed": False,
        "address": "",
        "state": GONE,
        "method": "",
        "first_seen": time.time(),
        "error": "",
        "pending_bytes": 0,
    }
    connection.execute(insert(schema.hosts).values(row).on_conflict_do_nothing(index_elements=["identity"]))
    found = connection.execute(select(schema.hosts.c.id).where(schema.hosts.c.identity == identity))
    return int(found.scalar_one())


def experiments(connection: Connection) -> list[ExperimentRecord]:
    """Return all experiments."""
    named: defaultdict[str, list[str]] = defaultdict(list)
    aliases = schema.aliases
    for row in connection.execute(select(aliases).order_by(aliases.c.experiment_id, aliases.c.number)):
        named[row.experiment_id].append(row.name)
    found = connection.execute(select(schema.experiments))
    return [rows.experiment_of(row, named.get(row.id, ())) for row in found]


def links(connection: Connection) -> dict[LocalPath, str]:
    """Return the local links with their targets."""
    return {rows.local_path_of(row): row.target for row in connection.execute(rows.links())}


def add_experiment(connection: Connection, experiment: ExperimentRecord) -> None:
    """Insert a new experiment; raise an error if another one has its directory's name, in any case of letters."""
    _insert(connection, experiment, experiment.directory.casefold())


def restore_experiments(connection: Connection, experiments: Sequence[ExperimentRecord]) -> None:
    """Insert experiments whose directories exist; of names that differ in case only, the first one is claimed."""
    for each in experiments:
        _insert(connection, each, _unclaimed(connection, each))


def _insert(connection: Connection, experiment: ExperimentRecord, claimed: str | None) -> None:
    row = {**rows.experiment_row(experiment), "created": time.time(), "claimed": claimed}
    connection.execute(insert(schema.experiments).values(row))
    _add_aliases(connection, experiment)


def add_runs(connection: Connection, runs: Sequence[RunRecord]) -> None:
    """Insert runs; raise an error for one whose key another run has, or whose experiment is not on record."""
    volumes = volume_ids(connection, {run.storage for run in runs})
    if runs:
        connection.execute(insert(schema.runs), [rows.run_row(run, volumes[run.storage]) for run in runs])


def add_links(connection: Connection, links: Mapping[LocalPath, str]) -> None:
    """Insert local links with their targets."""
    for path, target in links.items():
        connection.execute(insert(schema.links).values({**_link_key(connection, path), "target": target}))


def replace_experiment(connection: Connection, experiment: ExperimentRecord) -> None:
    """Replace the row of an experiment; raise `InconsistentRows` if it was changed since the record was read."""
    claimed = None if experiment.gone else _unclaimed(connection, experiment)
    replace_version(connection, schema.experiments, {**rows.experiment_row(experiment), "claimed": claimed})
    connection.execute(delete(schema.aliases).where(schema.aliases.c.experiment_id == experiment.id))
    _add_aliases(connection, experiment)


def _add_aliases(connection: Connection, experiment: ExperimentRecord) -> None:
    values = [
        {"experiment_id": experiment.id, "number": number, "name": name}
        for number, name in enumerate(experiment.aliases)
    ]
    if values:
        connection.execute(insert(schema.aliases), values)


def _unclaimed(connection: Connection, experiment: ExperimentRecord) -> str | None:
    """Return the casefolded name of an experiment's directory, which exists; None if another experiment claims it."""
    name, table = experiment.directory.casefold(), schema.experiments.c
    taken = select(func.count()).where(table.claimed == name, table.id != experiment.id)
    return None if connection.execute(taken).scalar_one() else name


def replace_run(connection: Connection, run: RunRecord) -> None:
    """Replace the row of a run; raise `InconsistentRows` if it was changed since the record was read."""
    replace_version(connection, schema.runs, rows.run_row(run, volume_id(connection, run.storage)))


def _link_key(connection: Connection, path: LocalPath) -> dict[str, str | None]:
    """Return the columns that identify the row of the link at a local path."""
    table = schema.experiments.c
    here = select(table.id).where(table.directory == path[0], table.gone.is_(False))
    experiment = connection.execute(here).scalar()
    return {"experiment_id": experiment, "path": "/".join(path if experiment is None else path[1:])}


def forget_links(connection: Connection, paths: Sequence[LocalPath]) -> None:
    """Delete the rows of local links, as far as there are any."""
    table = schema.links.c
    for path in paths:
        key = _link_key(connection, path)
        same = (table.experiment_id.is_not_distinct_from(key["experiment_id"]), table.path == key["path"])
        connection.execute(delete(schema.links).where(*same))
