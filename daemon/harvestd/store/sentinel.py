"""The sentinel `.harvestd/root.json`, which identifies a data root.

The catalogue records its id. If the disk of the data root is not mounted, its mount point looks like an empty data
root; the missing id distinguishes the two before a byte is written.
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
"""Bytes; a sentinel is far shorter."""


class Sentinel(Immutable):
    """The content of the file."""

    id: str
    """A UUID, created once and constant for the data root."""
    created: datetime

    def to_json(self) -> bytes:
        """Return the file's content."""
        return json.dumps({"id": self.id, "created": self.created.isoformat()}).encode() + b"\n"


def read_sentinel(own: int) -> Sentinel | None:
    """Return the sentinel in the open directory `.harvestd`; None if there is none. Raise `Fatal` if unreadable."""
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
    """Write a new sentinel, synced; if another process was faster, return its one. Raise `HaltedForSafety`."""
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
