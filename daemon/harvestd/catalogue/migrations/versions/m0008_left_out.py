"""What was left out belongs to a host's identity, and stays on record when it is gone from the host."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns; a name means the host that had it last."""
    op.add_column("left_out", sa.Column("identity", sa.String))
    op.add_column("left_out", sa.Column("gone_at", sa.Float))
    op.execute("UPDATE left_out SET identity = (SELECT hosts.identity FROM hosts WHERE hosts.name = left_out.host)")
    op.drop_index("left_out_by_host", "left_out")
    op.create_index("left_out_by_identity", "left_out", ["identity"])
