"""A data root that an earlier version filled, and what its commands printed then: see tests/data/upgrade/README.md."""

import base64
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from harvestd.catalogue.state_dir import FILE_NAME

_STORED = Path(__file__).parents[1] / "data" / "upgrade"
_PLACE = "{DATA}"
"""It stands for the absolute path of the data root."""


class Answer(NamedTuple):
    """What one command printed."""

    arguments: Sequence[str]
    code: int
    document: Any


def write_catalogue(state: Path) -> None:
    """Write the catalogue as it was."""
    state.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(state / FILE_NAME)) as database, database:
        database.executescript((_STORED / "catalogue.sql").read_text(encoding="utf-8"))


def write_tree(data: Path) -> None:
    """Write all files of the data root as they were, except the catalogue."""
    stored = json.loads((_STORED / "tree.json").read_text(encoding="utf-8"))
    contents = [
        each["text"].encode() if "text" in each else base64.b64decode(each["base64"]) for each in stored["contents"]
    ]
    entries = stored["entries"]
    data.mkdir()
    for entry in entries:
        path = data / entry["path"]
        if "directory" in entry:
            path.mkdir()
        elif "link" in entry:
            path.symlink_to(entry["link"])
        else:
            path.write_bytes(contents[entry["content"]])
    for entry in reversed(entries):
        path, time = data / entry["path"], entry["mtime_ns"]
        if "link" not in entry:
            path.chmod(entry["mode"])
        os.utime(path, ns=(time, time), follow_symlinks=False)


def answers(data: Path) -> Iterator[Answer]:
    """Yield what the earlier version printed of the data root, as if it had been at `data`."""
    text = (_STORED / "answers.json").read_text(encoding="utf-8").replace(_PLACE, str(data))
    for each in json.loads(text):
        yield Answer(each["arguments"], each["code"], each["document"])
