"""What a person asks for by hand."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table; nothing was asked before."""
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("asked_at", sa.Float, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("storage", sa.String, nullable=False),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
        sa.Column("taken_at", sa.Float),
        sa.Column("settled_at", sa.Float),
        sa.Column("outcome", sa.String, nullable=False),
    )
