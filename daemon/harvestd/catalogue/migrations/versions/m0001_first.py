"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "meta", sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.String, nullable=False)
    )
    op.create_table(
        "hosts",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("identity", sa.String, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("first_seen", sa.Float, nullable=False),
        sa.Column("last_success", sa.Float),
        sa.Column("error", sa.String, nullable=False),
        sa.Column("pending_bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "pins",
        sa.Column("identity", sa.String, primary_key=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("first_used", sa.Float, nullable=False),
    )
    op.create_table(
        "experiments",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("directory", sa.String, nullable=False, unique=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("storage", sa.String, nullable=False),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("experiment", sa.String),
        sa.Column("facts", sa.String, nullable=False),
        sa.Column("step", sa.Integer),
        sa.Column("seconds_left", sa.Float),
        sa.UniqueConstraint("storage", "place"),
    )
    op.create_table(
        "files",
        sa.Column("target", sa.String, primary_key=True),
        sa.Column("storage", sa.String, nullable=False),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("experiment", sa.String),
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
    )
    op.create_index("files_by_source", "files", ["storage", "place"])
    op.create_index("files_by_experiment", "files", ["experiment"])
    op.create_table(
        "intents",
        sa.Column("target", sa.String, primary_key=True),
        sa.Column("row", sa.String, nullable=False),
    )
    op.create_table(
        "transfers",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("storage", sa.String, nullable=False),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("synced", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "links",
        sa.Column("path", sa.String, primary_key=True),
        sa.Column("target", sa.String, nullable=False),
    )
    op.create_table(
        "eval_configs",
        sa.Column("storage", sa.String, primary_key=True),
        sa.Column("place", sa.String, primary_key=True),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("training_run", sa.String),
    )
    op.create_table(
        "left_out",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("experiment", sa.String),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("entries", sa.Integer, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
    )
    op.create_index("left_out_by_host", "left_out", ["host"])
    op.create_index("left_out_by_experiment", "left_out", ["experiment"])
