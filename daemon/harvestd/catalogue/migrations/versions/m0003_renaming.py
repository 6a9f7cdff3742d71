"""Experiments whose directory gets another name: what it was called before, and what is under way."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("experiments", sa.Column("moved_to", sa.String))
    op.add_column("experiments", sa.Column("aliases", sa.String, nullable=False, server_default="[]"))
    op.add_column("experiments", sa.Column("gone", sa.Boolean, nullable=False, server_default="0"))
    op.add_column("experiments", sa.Column("renaming", sa.String))
