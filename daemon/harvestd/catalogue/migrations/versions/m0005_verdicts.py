"""The newest verdict on each host."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table; nothing was judged before."""
    op.create_table(
        "verdicts",
        sa.Column("identity", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("judged_at", sa.Float, nullable=False),
        sa.Column("idle_since", sa.Float),
        sa.Column("cents_per_hour", sa.BigInteger),
    )
