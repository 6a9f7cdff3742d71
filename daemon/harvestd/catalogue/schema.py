"""The tables. Times are Unix seconds, sizes bytes, remote times nanoseconds; structured values are JSON text."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator

from harvestd.convention.paths import decoded, encoded

HEAD = "0008"
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


REBUILD = "rebuild"
"""The key in `meta` of the note that the content of the data root is not in the catalogue yet."""

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

hosts = Table(
    "hosts",
    metadata,
    Column("name", String, primary_key=True),
    Column("identity", String, nullable=False),
    Column("address", String, nullable=False),
    Column("state", String, nullable=False),
    Column("method", String, nullable=False),
    Column("first_seen", Float, nullable=False),
    Column("last_success", Float),
    Column("error", PathText, nullable=False),
    Column("pending_bytes", BigInteger, nullable=False),
)

pins = Table(
    "pins",
    metadata,
    Column("identity", String, primary_key=True),
    Column("key", String, nullable=False),
    Column("first_used", Float, nullable=False),
)

experiments = Table(
    "experiments",
    metadata,
    Column("id", String, primary_key=True),
    Column("directory", PathText, nullable=False),
    Column("name", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("moved_to", PathText),
    Column("aliases", String, nullable=False, server_default="[]"),
    Column("gone", Boolean, nullable=False, server_default="0"),
    Column("renaming", String),
    # A removed experiment releases its name: a person may give it to another one.
    Index("experiments_by_directory", "directory", unique=True, sqlite_where=text("gone = 0")),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("storage", String, nullable=False),
    Column("place", PathText, nullable=False),
    Column("host", String, nullable=False),
    Column("name", String, nullable=False),
    Column("experiment", String),
    Column("facts", String, nullable=False),
    Column("step", Integer),
    Column("seconds_left", Float),
    UniqueConstraint("storage", "place"),
)

files = Table(
    "files",
    metadata,
    Column("target", PathText, primary_key=True),
    Column("storage", String, nullable=False),
    Column("place", PathText, nullable=False),
    Column("host", String, nullable=False),
    Column("experiment", String),
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
    Index("files_by_source", "storage", "place"),
    Index("files_by_experiment", "experiment"),
)

intents = Table(
    "intents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("files", String, nullable=False),
)

transfers = Table(
    "transfers",
    metadata,
    Column("name", String, primary_key=True),
    Column("storage", String, nullable=False),
    Column("place", PathText, nullable=False),
    Column("synced", BigInteger, nullable=False),
)

links = Table(
    "links",
    metadata,
    Column("path", PathText, primary_key=True),
    Column("target", PathText, nullable=False),
)

eval_configs = Table(
    "eval_configs",
    metadata,
    Column("storage", String, primary_key=True),
    Column("place", PathText, primary_key=True),
    Column("version", String, nullable=False),
    Column("training_run", PathText),
)

requests = Table(
    "requests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("asked_at", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("storage", String, nullable=False),
    Column("place", PathText, nullable=False),
    Column("detail", String, nullable=False),
    Column("taken_at", Float),
    Column("settled_at", Float),
    Column("outcome", PathText, nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("identity", String, primary_key=True),
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
    Column("host", String, nullable=False),
    Column("identity", String, nullable=False),
    Column("why", PathText, nullable=False),
    Column("outcome", String, nullable=False),
    Column("detail", PathText, nullable=False),
    Column("by_hand", Boolean, nullable=False),
)

left_out = Table(
    "left_out",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("host", String, nullable=False),
    Column("experiment", String),
    Column("place", PathText, nullable=False),
    Column("size", BigInteger),
    Column("entries", Integer, nullable=False),
    Column("reason", PathText, nullable=False),
    Column("identity", String),
    Column("gone_at", Float),
    Index("left_out_by_experiment", "experiment"),
    Index("left_out_by_identity", "identity"),
)
