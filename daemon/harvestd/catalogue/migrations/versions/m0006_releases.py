"""What was decided about releasing boxes."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table; nothing was released before."""
    op.create_table(
        "releases",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("identity", sa.String, nullable=False),
        sa.Column("why", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
        sa.Column("by_hand", sa.Boolean, nullable=False),
    )
