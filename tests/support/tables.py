"""The tables of a catalogue, joined: as a person would ask for them."""

import sqlite3

_PATH = """
    CASE WHEN rows.experiment_id IS NULL THEN path
         WHEN typeof(path) = 'blob' OR typeof(directory) = 'blob' THEN CAST(directory || '/' || path AS BLOB)
         ELSE directory || '/' || path END
"""
_STORAGE = "(SELECT storage FROM main.volumes WHERE id = rows.volume_id)"
_IDENTITY = "(SELECT identity FROM main.hosts WHERE id = rows.host_id)"
_DIRECTORIES = "LEFT JOIN main.experiments ON main.experiments.id = rows.experiment_id"
_ALIASES = """
    SELECT json_group_array(name) FROM (SELECT name FROM main.aliases WHERE experiment_id = rows.id ORDER BY number)
"""

VIEWS = {
    "files": f"rows.*, {_PATH} AS target, {_STORAGE} AS storage, experiment_id AS experiment",
    "links": f"{_PATH} AS path, target",
    "experiments": f"*, ({_ALIASES}) AS aliases",
    "runs": f"*, {_STORAGE} AS storage, experiment_id AS experiment",
    "left_out": f"*, {_IDENTITY} AS identity, experiment_id AS experiment",
    "requests": f"*, coalesce({_STORAGE}, {_IDENTITY}) AS storage",
    "eval_configs": f"*, {_STORAGE} AS storage",
    "transfers": f"*, {_STORAGE} AS storage",
    "releases": f"*, {_IDENTITY} AS identity",
    "verdicts": f"*, {_IDENTITY} AS identity",
    "intents": "*, (SELECT group_concat(place) FROM intent_files WHERE intent_id = rows.id) AS files",
}
"""The columns of views with the names of the tables: local paths, storages and identities beside the ids."""


def joined(database: sqlite3.Connection) -> None:
    """Let this connection see the views instead of the tables; nothing is written to the file."""
    for table, columns in VIEWS.items():
        directories = _DIRECTORIES if table in {"files", "links"} else ""
        database.execute(f"CREATE TEMP VIEW {table} AS SELECT {columns} FROM main.{table} rows {directories}")  # noqa: S608
    database.execute("CREATE TEMP VIEW hosts AS SELECT * FROM main.hosts WHERE listed")
