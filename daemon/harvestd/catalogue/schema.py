"""The tables. Times are Unix seconds, sizes bytes, remote times nanoseconds; structured values are JSON text.

The path of a file or link is relative to its experiment's directory, so renaming the directory changes one row. Where
the experiment is NULL, the path is relative to the data root. `row_version` increases with each change of a record: a
write that is based on an older version is refused.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator

from harvestd.catalogue.entries import HOST_STATES, METHODS, ReleaseOutcome
from harvestd.convention.kinds import Kind
from harvestd.convention.paths import decoded, encoded
from harvestd.planning.requests import RequestKind

HEAD = "0010"
"""The migration that creates exactly these tables."""

metadata = MetaData()


def stored(value: str) -> str | bytes:
    """Return the stored form of `value` in a column of paths: text if it is valid Unicode, else its bytes."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return stored_bytes(value)
    return value


def stored_bytes(value: str) -> bytes:
    """Return the form of `value` that is stored if it is part of a path that is not valid Unicode.

    A name has lone surrogates for its bytes; other text may have any, since JSON and YAML can encode them.
    """
    return value.encode("utf-8", "surrogateescape" if _is_of_bytes(value) else "surrogatepass")


def _is_of_bytes(value: str) -> bool:
    try:
        encoded(value)
    except UnicodeEncodeError:
        return False
    return True


class PathText(TypeDecorator[str]):
    """A path, or text that may contain one: Linux names may have bytes that are not UTF-8, which become a BLOB."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> Any:  # noqa: ANN401, ARG002  (SQLAlchemy's own)
        """Return the stored form."""
        return None if value is None else stored(value)

    def process_result_value(self, value: Any, dialect: Any) -> str | None:  # noqa: ANN401, ARG002  (the same)
        """Return the `str` form of a text or BLOB."""
        return decoded(value) if isinstance(value, bytes) else value


def _one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    # For a list after IN, SQLite makes a table for each row that is written: 2 µs.
    known = " OR ".join(f"{column} = '{value}'" for value in values)
    return CheckConstraint(known, name=f"known_{column}")


def _source() -> list[Column[Any]]:
    """Return the columns of the remote file from which a local one came, and of the content that came."""
    return [
        Column("volume_id", Integer, ForeignKey("volumes.id"), nullable=False),
        Column("place", PathText, nullable=False),
        Column("host", String, nullable=False),
        Column("kind", String, nullable=False),
        Column("remote_size", BigInteger, nullable=False),
        Column("mtime_ns", BigInteger, nullable=False),
        Column("ctime_ns", BigInteger, nullable=False),
        Column("inode", BigInteger, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("sha256", String, nullable=False),
        Column("fetched_at", Float, nullable=False),
        Column("reason", PathText, nullable=False),
        Column("marker", Boolean, nullable=False),
    ]


REBUILD = "rebuild"
"""The key in `meta` of the note that the content of the data root is not in the catalogue yet."""
ALARMED_SINCE = "alarmed_since"
"""The key in `meta` of the moment (Unix time) from which on alarms are raised: what was so before is no news."""
ORPHANS = "orphans"
"""The key in `meta` of the rows of earlier versions whose experiment was not on record."""

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

hosts = Table(
    "hosts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("identity", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    # False: it was never connected to, or another host has its name now.
    Column("listed", Boolean, nullable=False),
    Column("address", String, nullable=False),
    Column("state", String, nullable=False),
    Column("method", String, nullable=False),
    Column("first_seen", Float, nullable=False),
    Column("last_success", Float),
    Column("error", PathText, nullable=False),
    Column("pending_bytes", BigInteger, nullable=False),
    _one_of("state", HOST_STATES),
    _one_of("method", METHODS),
    Index("hosts_by_name", "name", unique=True, sqlite_where=text("listed")),
)

# By identity, not by host: a key is pinned before anything of the host is on record.
pins = Table(
    "pins",
    metadata,
    Column("identity", String, primary_key=True),
    Column("key", String, nullable=False),
    Column("first_used", Float, nullable=False),
)

# The file systems of hosts; several hosts may show one.
volumes = Table(
    "volumes", metadata, Column("id", Integer, primary_key=True), Column("storage", String, nullable=False, unique=True)
)

experiments = Table(
    "experiments",
    metadata,
    Column("id", String, primary_key=True),
    Column("directory", PathText, nullable=False),
    # The casefolded directory name, which no other experiment gets. NULL: its directory was removed, or a person gave
    # it a name that differs from another one's in case only.
    Column("claimed", PathText, unique=True),
    Column("name", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("moved_to", PathText),
    Column("gone", Boolean, nullable=False),
    Column("renaming", String),
    Column("row_version", Integer, nullable=False),
    CheckConstraint("claimed IS NULL OR NOT gone", name="released_name"),
    Index("experiments_by_directory", "directory"),
    # A removed experiment releases its name: a person may give it to another one.
    Index("experiments_here", "directory", unique=True, sqlite_where=text("NOT gone")),
)

# Earlier names of experiments' directories, oldest first.
aliases = Table(
    "aliases",
    metadata,
    Column("experiment_id", String, ForeignKey("experiments.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("name", PathText, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("volume_id", Integer, ForeignKey("volumes.id"), nullable=False),
    Column("place", PathText, nullable=False),
    Column("host", String, nullable=False),
    Column("name", String, nullable=False),
    Column("experiment_id", String, ForeignKey("experiments.id")),
    Column("facts", String, nullable=False),
    Column("step", Integer),
    Column("seconds_left", Float),
    Column("row_version", Integer, nullable=False),
    UniqueConstraint("volume_id", "place"),
)

files = Table(
    "files",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("experiment_id", String, ForeignKey("experiments.id")),
    Column("path", PathText, nullable=False),
    *_source(),
    _one_of("kind", Kind),
    UniqueConstraint("experiment_id", "path"),
    Index("unfiled_files", "path", unique=True, sqlite_where=text("experiment_id IS NULL")),
    Index("files_by_source", "volume_id", "place"),
)

intents = Table("intents", metadata, Column("id", Integer, primary_key=True), Column("at", Float, nullable=False))

# The files of intents. Both paths are relative to the data root: an intent may move a file between experiments.
intent_files = Table(
    "intent_files",
    metadata,
    Column("intent_id", Integer, ForeignKey("intents.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("target", PathText, nullable=False),
    Column("moved_from", PathText),
    Column("experiment_id", String, ForeignKey("experiments.id")),
    *_source(),
    _one_of("kind", Kind),
    sqlite_with_rowid=False,
)

transfers = Table(
    "transfers",
    metadata,
    Column("name", String, primary_key=True),
    Column("volume_id", Integer, ForeignKey("volumes.id"), nullable=False),
    Column("place", PathText, nullable=False),
    Column("synced", BigInteger, nullable=False),
)

links = Table(
    "links",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("experiment_id", String, ForeignKey("experiments.id")),
    Column("path", PathText, nullable=False),
    Column("target", PathText, nullable=False),
    UniqueConstraint("experiment_id", "path"),
    Index("unfiled_links", "path", unique=True, sqlite_where=text("experiment_id IS NULL")),
)

eval_configs = Table(
    "eval_configs",
    metadata,
    Column("volume_id", Integer, ForeignKey("volumes.id"), primary_key=True),
    Column("place", PathText, primary_key=True),
    Column("version", String, nullable=False),
    Column("training_run", PathText),
)

# A request concerns a run, which has the volume and the place; or the verdict on a host, whose name is the place.
requests = Table(
    "requests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("asked_at", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("volume_id", Integer, ForeignKey("volumes.id")),
    Column("host_id", Integer, ForeignKey("hosts.id")),
    Column("place", PathText, nullable=False),
    Column("detail", String, nullable=False),
    Column("taken_at", Float),
    Column("settled_at", Float),
    Column("outcome", PathText, nullable=False),
    _one_of("kind", RequestKind),
    CheckConstraint("(kind = 'judge') = (host_id IS NOT NULL)", name="host_of_verdict"),
    CheckConstraint("(kind = 'judge') = (volume_id IS NULL)", name="volume_of_run"),
)

# `name` here, and `host` in the tables below: the name that the host had then.
verdicts = Table(
    "verdicts",
    metadata,
    Column("host_id", Integer, ForeignKey("hosts.id"), primary_key=True, autoincrement=False),
    Column("name", String, nullable=False),
    Column("verdict", String, nullable=False),
    Column("judged_at", Float, nullable=False),
    Column("idle_since", Float),
    Column("cents_per_hour", BigInteger),
)

releases = Table(
    "releases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("host_id", Integer, ForeignKey("hosts.id"), nullable=False),
    Column("host", String, nullable=False),
    Column("why", PathText, nullable=False),
    Column("outcome", String, nullable=False),
    Column("detail", PathText, nullable=False),
    Column("by_hand", Boolean, nullable=False),
    _one_of("outcome", ReleaseOutcome),
)

left_out = Table(
    "left_out",
    metadata,
    Column("id", Integer, primary_key=True),
    # NULL: a line of an earlier version or of a manifest, which has no identity.
    Column("host_id", Integer, ForeignKey("hosts.id")),
    Column("host", String, nullable=False),
    Column("experiment_id", String, ForeignKey("experiments.id")),
    Column("place", PathText, nullable=False),
    Column("size", BigInteger),
    Column("entries", Integer, nullable=False),
    Column("reason", PathText, nullable=False),
    Column("gone_at", Float),
    Index("left_out_by_experiment", "experiment_id"),
    Index("left_out_by_host", "host_id"),
)

# What a person should learn of. `subject` is what it is about: a host's identity, or a run's id with its step.
notifications = Table(
    "notifications",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", PathText, nullable=False, unique=True),
    Column("event", String, nullable=False),
    Column("subject", PathText, nullable=False),
    Column("payload", String, nullable=False),
    Column("created", Float, nullable=False),
    # When it was seen to be over; NULL: it may last.
    Column("ended", Float),
    Index("notifications_by_subject", "event", "subject"),
)

# One row for each receiver that is to get a notification.
deliveries = Table(
    "deliveries",
    metadata,
    Column("notification_id", Integer, ForeignKey("notifications.id"), primary_key=True),
    Column("receiver", String, primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("next_try", Float, nullable=False),
    Column("delivered", Float),
    # It was given up, or its receiver was removed from the configuration.
    Column("dropped", Boolean, nullable=False),
    Column("error", PathText, nullable=False),
    Index("deliveries_to_make", "receiver", sqlite_where=text("delivered IS NULL AND NOT dropped")),
    sqlite_with_rowid=False,
)
