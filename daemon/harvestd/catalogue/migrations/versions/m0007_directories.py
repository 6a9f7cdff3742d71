"""A directory's name belongs to one experiment that is here; one that a person took away gives it up."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
_COLUMNS = "id, directory, name, created, moved_to, aliases, gone, renaming"


def upgrade() -> None:
    """Make the table anew without its constraint: SQLite can't drop one."""
    op.rename_table("experiments", "experiments_before")
    op.create_table(
        "experiments",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("directory", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("moved_to", sa.String),
        sa.Column("aliases", sa.String, nullable=False, server_default="[]"),
        sa.Column("gone", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("renaming", sa.String),
    )
    op.execute(f"INSERT INTO experiments ({_COLUMNS}) SELECT {_COLUMNS} FROM experiments_before")  # noqa: S608
    op.drop_table("experiments_before")
    op.create_index(
        "experiments_by_directory", "experiments", ["directory"], unique=True, sqlite_where=sa.text("gone = 0")
    )
