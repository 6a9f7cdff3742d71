"""The data root's own mark, `.harvestd/root.json`: which data root this is.

The catalogue remembers the id. Where the disk of the data root is not mounted, its mount point looks like an empty data
root; the missing id tells the two apart before a byte is written.
"""

import json
import uuid
from datetime import UTC, datetime
from typing import Final

from harvestd.convention.structs import Immutable
from harvestd.errors import Fatal
from harvestd.store.errors import Conflict, translating
from harvestd.store.ops.rename import rename_noreplace
from harvestd.store.staging import Staging
from harvestd.store.walking import reading, sync_directory

NAME: Final = "root.json"
_LIMIT: Final = 4096
"""Bytes; a mark is far shorter."""


class Sentinel(Immutable):
    """What the mark says."""

    id: str
    """A UUID, made once and kept for the data root's life."""
    created: datetime

    def to_json(self) -> bytes:
        """Return the file's content."""
        return json.dumps({"id": self.id, "created": self.created.isoformat()}).encode() + b"\n"


def read_sentinel(own: int) -> Sentinel | None:
    """Read the mark in the open directory `.harvestd`; None where there is none, `Fatal` where it can't be read."""
    try:
        with translating("can't read the data root's mark"), reading(own, NAME) as file:
            content = file.read(_LIMIT)
    except FileNotFoundError:
        return None
    except Conflict as error:
        raise Fatal(f".harvestd/{NAME} in the data root: {error}", hint="restore it from a backup") from error
    try:
        found = json.loads(content)
        return Sentinel(str(uuid.UUID(found["id"])), datetime.fromisoformat(found["created"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Fatal(
            f".harvestd/{NAME} in the data root is not what harvestd wrote",
            hint="restore it from a backup, or delete it and the catalogue: what is here is then adopted",
        ) from error


def make_sentinel(own: int, staging: Staging) -> Sentinel:
    """Write a new mark, synced; where another process was faster, give its mark. Raises `HaltedForSafety`."""
    made = Sentinel(str(uuid.uuid4()), datetime.now(UTC))
    with staging.create() as staged, translating("can't write the data root's mark"):
        staged.write(made.to_json())
        staged.sync()
        try:
            rename_noreplace(staging.directory, staged.name, own, NAME)
        except FileExistsError:
            return read_sentinel(own) or made
        sync_directory(own)
    return made
