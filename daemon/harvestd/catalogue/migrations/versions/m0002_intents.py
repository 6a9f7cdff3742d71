"""One intent for all files that are published together, instead of one for each file."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table anew; what was intended stays so, as one intent."""
    connection = op.get_bind()
    found = [json.loads(row) for row in connection.execute(sa.text("SELECT row FROM intents")).scalars()]
    op.drop_table("intents")
    intents = op.create_table(
        "intents", sa.Column("id", sa.Integer, primary_key=True), sa.Column("files", sa.String, nullable=False)
    )
    if found:
        columns = list(found[0])
        content = {"columns": columns, "rows": [[row[name] for name in columns] for row in found]}
        connection.execute(intents.insert().values(files=json.dumps(content)))
