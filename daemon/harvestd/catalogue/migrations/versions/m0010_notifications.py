"""Notifications, and their deliveries to receivers."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the tables; nothing was sent before."""
    op.create_table(
        "notifications",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String, nullable=False, unique=True),
        sa.Column("event", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("payload", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("ended", sa.Float),
    )
    op.create_table(
        "deliveries",
        sa.Column("notification_id", sa.Integer, sa.ForeignKey("notifications.id"), primary_key=True),
        sa.Column("receiver", sa.String, primary_key=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_try", sa.Float, nullable=False),
        sa.Column("delivered", sa.Float),
        sa.Column("dropped", sa.Boolean, nullable=False),
        sa.Column("error", sa.String, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("notifications_by_subject", "notifications", ["event", "subject"])
    open_ones = sa.text("delivered IS NULL AND NOT dropped")
    op.create_index("deliveries_to_make", "deliveries", ["receiver"], sqlite_where=open_ones)
