"""Hosts, volumes and experiments become entities with ids, and paths of files relative to their experiments."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_KINDS = (
    "config",
    "train_log",
    "tensorboard",
    "checkpoint",
    "eval_config",
    "metrics",
    "run_meta",
    "summary",
    "records",
    "included",
)
_STATES = ("connected", "ending", "lost", "quarantined", "failed", "visited", "gone")
_METHODS = ("", "probe", "sftp")
_REPLACED = (
    "hosts",
    "experiments",
    "runs",
    "files",
    "intents",
    "transfers",
    "links",
    "eval_configs",
    "requests",
    "verdicts",
    "releases",
    "left_out",
)
_SOURCE = (
    "place, host, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker"  # as before
)
_NAMES = _SOURCE.split(", ")


def upgrade() -> None:
    """Make the tables anew and copy all rows; those whose experiment is not on record are kept apart as JSON."""
    for table in _REPLACED:
        op.rename_table(table, f"before_{table}")
    _make_tables()
    connection = op.get_bind()
    _copy_hosts(connection)
    _copy_volumes(connection)
    _copy_experiments(connection)
    _copy_runs(connection)
    _copy_files(connection)
    _copy_intents(connection)
    _copy_links(connection)
    for statement in _COPIES:
        connection.exec_driver_sql(statement)
    _keep_orphans(connection)
    for table in _REPLACED:
        op.drop_table(f"before_{table}")
    _make_indexes()


def _one_of(column: str, values: Iterable[str]) -> sa.CheckConstraint:
    known = " OR ".join(f"{column} = '{value}'" for value in values)
    return sa.CheckConstraint(known, name=f"known_{column}")


def _source() -> "list[sa.Column[Any]]":
    return [
        sa.Column("volume_id", sa.Integer, sa.ForeignKey("volumes.id"), nullable=False),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("remote_size", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("ctime_ns", sa.BigInteger, nullable=False),
        sa.Column("inode", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("fetched_at", sa.Float, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("marker", sa.Boolean, nullable=False),
    ]


def _make_tables() -> None:
    op.create_table(
        "hosts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("identity", sa.String, nullable=False, unique=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("first_seen", sa.Float, nullable=False),
        sa.Column("last_success", sa.Float),
        sa.Column("error", sa.String, nullable=False),
        sa.Column("pending_bytes", sa.BigInteger, nullable=False),
        _one_of("state", _STATES),
        _one_of("method", _METHODS),
    )
    op.create_table(
        "volumes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("storage", sa.String, nullable=False, unique=True),
    )
    op.create_table(
        "experiments",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("directory", sa.String, nullable=False),
        sa.Column("claimed", sa.String, unique=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("moved_to", sa.String),
        sa.Column("gone", sa.Boolean, nullable=False),
        sa.Column("renaming", sa.String),
        sa.Column("row_version", sa.Integer, nullable=False),
        sa.CheckConstraint("claimed IS NULL OR NOT gone", name="released_name"),
    )
    op.create_table(
        "aliases",
        sa.Column("experiment_id", sa.String, sa.ForeignKey("experiments.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("volume_id", sa.Integer, sa.ForeignKey("volumes.id"), nullable=False),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("experiment_id", sa.String, sa.ForeignKey("experiments.id")),
        sa.Column("facts", sa.String, nullable=False),
        sa.Column("step", sa.Integer),
        sa.Column("seconds_left", sa.Float),
        sa.Column("row_version", sa.Integer, nullable=False),
        sa.UniqueConstraint("volume_id", "place"),
    )
    op.create_table(
        "files",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("experiment_id", sa.String, sa.ForeignKey("experiments.id")),
        sa.Column("path", sa.String, nullable=False),
        *_source(),
        _one_of("kind", _KINDS),
        sa.UniqueConstraint("experiment_id", "path"),
    )
    op.create_table("intents", sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", sa.Float, nullable=False))
    op.create_table(
        "intent_files",
        sa.Column("intent_id", sa.Integer, sa.ForeignKey("intents.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("moved_from", sa.String),
        sa.Column("experiment_id", sa.String, sa.ForeignKey("experiments.id")),
        *_source(),
        _one_of("kind", _KINDS),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "transfers",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("volume_id", sa.Integer, sa.ForeignKey("volumes.id"), nullable=False),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("synced", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "links",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("experiment_id", sa.String, sa.ForeignKey("experiments.id")),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("target", sa.String, nullable=False),
        sa.UniqueConstraint("experiment_id", "path"),
    )
    op.create_table(
        "eval_configs",
        sa.Column("volume_id", sa.Integer, sa.ForeignKey("volumes.id"), primary_key=True),
        sa.Column("place", sa.String, primary_key=True),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("training_run", sa.String),
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("asked_at", sa.Float, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("volume_id", sa.Integer, sa.ForeignKey("volumes.id")),
        sa.Column("host_id", sa.Integer, sa.ForeignKey("hosts.id")),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
        sa.Column("taken_at", sa.Float),
        sa.Column("settled_at", sa.Float),
        sa.Column("outcome", sa.String, nullable=False),
        _one_of("kind", ("fetch", "ignore", "name", "judge")),
        sa.CheckConstraint("(kind = 'judge') = (host_id IS NOT NULL)", name="host_of_verdict"),
        sa.CheckConstraint("(kind = 'judge') = (volume_id IS NULL)", name="volume_of_run"),
    )
    op.create_table(
        "verdicts",
        sa.Column("host_id", sa.Integer, sa.ForeignKey("hosts.id"), primary_key=True, autoincrement=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("judged_at", sa.Float, nullable=False),
        sa.Column("idle_since", sa.Float),
        sa.Column("cents_per_hour", sa.BigInteger),
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("host_id", sa.Integer, sa.ForeignKey("hosts.id"), nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("why", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
        sa.Column("by_hand", sa.Boolean, nullable=False),
        _one_of("outcome", ("planned", "refused", "asked", "unclear", "released")),
    )
    op.create_table(
        "left_out",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("host_id", sa.Integer, sa.ForeignKey("hosts.id")),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("experiment_id", sa.String, sa.ForeignKey("experiments.id")),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("entries", sa.Integer, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("gone_at", sa.Float),
    )


def _make_indexes() -> None:
    op.create_index("hosts_by_name", "hosts", ["name"], unique=True, sqlite_where=sa.text("listed"))
    op.create_index("experiments_by_directory", "experiments", ["directory"])
    op.create_index("experiments_here", "experiments", ["directory"], unique=True, sqlite_where=sa.text("NOT gone"))
    without = sa.text("experiment_id IS NULL")
    op.create_index("unfiled_files", "files", ["path"], unique=True, sqlite_where=without)
    op.create_index("files_by_source", "files", ["volume_id", "place"])
    op.create_index("unfiled_links", "links", ["path"], unique=True, sqlite_where=without)
    op.create_index("left_out_by_experiment", "left_out", ["experiment_id"])
    op.create_index("left_out_by_host", "left_out", ["host_id"])


def _copy_hosts(connection: sa.Connection) -> None:
    """Copy the hosts, and add those that are only referred to, unlisted."""
    states, methods = (", ".join(f"'{value}'" for value in values) for values in (_STATES, _METHODS))
    connection.exec_driver_sql(
        "INSERT INTO hosts (identity, name, listed, address, state, method, first_seen, last_success, error,"  # noqa: S608
        " pending_bytes) SELECT identity, name, 1, address,"
        f" CASE WHEN state IN ({states}) THEN state ELSE 'lost' END,"
        f" CASE WHEN method IN ({methods}) THEN method ELSE '' END,"
        " first_seen, last_success, error, pending_bytes FROM before_hosts"
        " WHERE true ORDER BY coalesce(last_success, 0) DESC, rowid ON CONFLICT DO NOTHING"
    )
    for table, identity, name, at in (
        ("before_verdicts", "identity", "name", "judged_at"),
        ("before_releases", "identity", "host", "at"),
        ("before_left_out", "identity", "host", "0"),
        ("before_requests", "storage", "place", "asked_at"),
    ):
        chosen = "kind = 'judge'" if table == "before_requests" else "identity IS NOT NULL"
        connection.exec_driver_sql(
            "INSERT INTO hosts (identity, name, listed, address, state, method, first_seen, error, pending_bytes)"  # noqa: S608
            f" SELECT {identity}, max({name}), 0, '', 'gone', '', min({at}), '', 0 FROM {table}"
            f" WHERE {chosen} GROUP BY {identity} ON CONFLICT DO NOTHING"
        )


def _copy_volumes(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "INSERT INTO volumes (storage) SELECT storage FROM before_runs UNION SELECT storage FROM before_files"
        " UNION SELECT storage FROM before_transfers UNION SELECT storage FROM before_eval_configs"
        " UNION SELECT storage FROM before_requests WHERE kind != 'judge'"
    )


def _copy_experiments(connection: sa.Connection) -> None:
    columns = "id, directory, name, created, moved_to, aliases, gone, renaming"
    found = connection.exec_driver_sql(f"SELECT {columns} FROM before_experiments ORDER BY rowid").all()  # noqa: S608
    claimed: set[str] = set()
    for identifier, directory, name, created, moved_to, aliases, gone, renaming in found:
        # Directories that a person named may differ in case only: then the first one claims the name.
        folded = _text(directory).casefold()
        claim = None if gone or folded in claimed else folded
        claimed.update([] if claim is None else [claim])
        row = (
            identifier,
            directory,
            None if claim is None else _stored(claim),
            name,
            created,
            moved_to,
            int(bool(gone)),
            renaming,
        )
        connection.exec_driver_sql("INSERT INTO experiments VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", row)
        for number, alias in enumerate(json.loads(aliases)):
            values = (identifier, number, _stored(alias))
            connection.exec_driver_sql("INSERT INTO aliases VALUES (?, ?, ?)", values)


_KNOWN = "(experiment IS NULL OR experiment IN (SELECT id FROM experiments))"


def _copy_runs(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "INSERT INTO runs SELECT b.id, volumes.id, place, host, name, experiment, facts, step, seconds_left, 0"  # noqa: S608
        f" FROM before_runs b JOIN volumes USING (storage) WHERE {_KNOWN} ORDER BY b.rowid"
    )


_OWN_PATH = (
    "typeof(f.target) = 'text' AND typeof(e.directory) = 'text'"
    " AND substr(f.target, 1, length(e.directory) + 1) = e.directory || '/'"
)
"""Whether the path of a file is text that begins with its experiment's directory."""


def _copy_files(connection: sa.Connection) -> None:
    into = f"INSERT INTO files (experiment_id, path, volume_id, {_SOURCE})"
    # One experiment after the other, by an index: nothing is sorted.
    connection.exec_driver_sql(
        f"{into} SELECT e.id, substr(f.target, length(e.directory) + 2), v.id, {_SOURCE} FROM experiments e"  # noqa: S608
        " CROSS JOIN before_files f ON f.experiment = e.id JOIN volumes v ON v.storage = f.storage"
        f" WHERE {_OWN_PATH}"
    )
    connection.exec_driver_sql(
        f"{into} SELECT NULL, f.target, v.id, {_SOURCE} FROM before_files f JOIN volumes v ON v.storage = f.storage"  # noqa: S608
        " WHERE f.experiment IS NULL"
    )
    here = _experiments_here(connection)
    others = connection.exec_driver_sql(
        f"SELECT e.id, e.directory, f.target, v.id, {_SOURCE} FROM before_files f"  # noqa: S608
        " JOIN experiments e ON e.id = f.experiment JOIN volumes v ON v.storage = f.storage"
        f" WHERE NOT ({_OWN_PATH})"
    ).all()
    marks = ", ".join("?" * (3 + len(_NAMES)))
    for experiment, directory, target, *source in others:
        first, _, below = _text(target).partition("/")
        # A file that is elsewhere belongs to the experiment in whose directory it is, or else to none.
        owner = experiment if first == _text(directory) else here.get(first)
        path = target if owner is None else _stored(below)
        connection.exec_driver_sql(f"{into} VALUES ({marks})", (owner, path, *source))


def _experiments_here(connection: sa.Connection) -> dict[str, str]:
    """Return the ids of the experiments that are here by their directories."""
    found = connection.exec_driver_sql("SELECT directory, id FROM experiments WHERE NOT gone")
    return {_text(directory): identifier for directory, identifier in found}


def _copy_intents(connection: sa.Connection) -> None:
    """Copy the intents; a file of an experiment that is not on record was ignored by earlier versions too."""
    known = set(connection.exec_driver_sql("SELECT id FROM experiments").scalars())
    for number, text in connection.exec_driver_sql("SELECT id, files FROM before_intents ORDER BY id").all():
        connection.exec_driver_sql("INSERT INTO intents VALUES (?, 0)", (number,))
        for at, (file, moved_from) in enumerate(_intended(json.loads(text))):
            if file["experiment"] is not None and file["experiment"] not in known:
                continue
            connection.exec_driver_sql(
                "INSERT INTO volumes (storage) VALUES (?) ON CONFLICT DO NOTHING", (file["storage"],)
            )
            volume = "SELECT id FROM volumes WHERE storage = ?"
            values = (
                number,
                at,
                _stored(file["target"]),
                None if moved_from is None else _stored(moved_from),
                file["experiment"],
                connection.exec_driver_sql(volume, (file["storage"],)).scalar_one(),
                *(_stored(file[name]) if isinstance(file[name], str) else file[name] for name in _NAMES),
            )
            marks = ", ".join("?" * len(values))
            connection.exec_driver_sql(f"INSERT INTO intent_files VALUES ({marks})", values)  # noqa: S608


def _intended(content: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str | None]]:
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]
    return zip(rows, content.get("moved_from") or [None] * len(rows), strict=True)


def _copy_links(connection: sa.Connection) -> None:
    here = _experiments_here(connection)
    for path, target in connection.exec_driver_sql("SELECT path, target FROM before_links ORDER BY rowid").all():
        first, _, below = _text(path).partition("/")
        values = (here.get(first), _stored(below) if first in here else path, target)
        connection.exec_driver_sql("INSERT INTO links (experiment_id, path, target) VALUES (?, ?, ?)", values)


_COPIES = (
    "INSERT INTO transfers SELECT name, volumes.id, place, synced FROM before_transfers JOIN volumes USING (storage)",
    (
        "INSERT INTO eval_configs SELECT volumes.id, place, version, training_run"
        " FROM before_eval_configs JOIN volumes USING (storage)"
    ),
    (
        "INSERT INTO requests SELECT b.id, asked_at, kind, volumes.id, hosts.id, place, detail, taken_at, settled_at,"
        " outcome FROM before_requests b LEFT JOIN volumes ON kind != 'judge' AND volumes.storage = b.storage"
        " LEFT JOIN hosts ON kind = 'judge' AND hosts.identity = b.storage"
    ),
    (
        "INSERT INTO verdicts SELECT hosts.id, b.name, verdict, judged_at, idle_since, cents_per_hour"
        " FROM before_verdicts b JOIN hosts USING (identity)"
    ),
    (
        "INSERT INTO releases SELECT b.id, at, hosts.id, host, why, outcome, detail, by_hand"
        " FROM before_releases b JOIN hosts USING (identity)"
    ),
    (
        "INSERT INTO left_out SELECT b.id, hosts.id, host,"
        " CASE WHEN experiment IN (SELECT id FROM experiments) THEN experiment END,"
        " place, size, entries, reason, gone_at FROM before_left_out b LEFT JOIN hosts USING (identity)"
    ),
)


def _keep_orphans(connection: sa.Connection) -> None:
    """Note the runs and files whose experiment is not on record: the next start assigns or drops them."""
    runs = connection.exec_driver_sql(
        "SELECT id, storage, place, host, name, experiment AS experiment_id, facts, step, seconds_left,"  # noqa: S608
        f" 0 AS row_version FROM before_runs WHERE NOT {_KNOWN} ORDER BY rowid"
    ).mappings()
    files = connection.exec_driver_sql(
        f"SELECT target, experiment AS experiment_id, storage, {_SOURCE}"  # noqa: S608
        f" FROM before_files WHERE NOT {_KNOWN} ORDER BY target"
    ).mappings()
    content = {
        name: [{key: _text(value) if isinstance(value, bytes) else value for key, value in row.items()} for row in rows]
        for name, rows in (("runs", runs), ("files", files))
    }
    if any(content.values()):
        connection.exec_driver_sql("INSERT INTO meta VALUES ('orphans', ?)", (json.dumps(content),))


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _stored(value: str) -> str | bytes:
    """Return the form of a path in the database: text if it is valid Unicode, else its bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        pass
    else:
        return value
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
