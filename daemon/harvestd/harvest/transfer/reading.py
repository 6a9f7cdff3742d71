"""Small files of a box, read whole into memory: those that say what a run is. Never anything of another size."""

import hashlib
import itertools
from collections.abc import Sequence

from harvestd.convention.metadata.parse import BEGINNING
from harvestd.convention.scan.model import Source
from harvestd.harvest.host.failures import Troubles
from harvestd.remote.api import Chunk, Closed, Failed, Reader, ReadRequest
from harvestd.remote.ssh.errors import Stuck

_READINGS = 3
"""How often a file is read at one look, at most, until it is what the box hashed."""


async def read_small(reader: Reader, sources: Sequence[Source], troubles: Troubles) -> dict[Source, bytes]:
    """Return the contents of small files; those that vanished or changed meanwhile are left out.

    Of a file that is too large to hold facts the beginning is returned, one byte too long: parsing it says so. What is
    not what the host hashed is read again, a few times: a name that rests on a flipped bit would stay. A file whose
    reading hangs is noted in `troubles` and left alone for a while; those that were to come after it are read at the
    next scan. Raises `Retry` when the link is lost.
    """
    wanted = [each for each in sources if troubles.may_try(each.place)]
    found: dict[Source, bytes] = {}
    for _ in range(_READINGS):
        if wanted:
            wanted = await _read(reader, wanted, found, troubles)
    return found


async def _read(
    reader: Reader, sources: Sequence[Source], found: dict[Source, bytes], troubles: Troubles
) -> list[Source]:
    """Read these files into `found`; return those that are to be read again."""
    requests = [ReadRequest(each.tree, each.path, length=BEGINNING) for each in sources]
    again: list[Source] = []
    waiting = iter(sources)
    content = bytearray()
    try:
        async with reader.reading(requests) as events:
            async for event in events:
                match event:
                    case Chunk(data):
                        content += data
                        continue
                    case Closed(_, version, sha256):
                        source = next(waiting)
                        if sha256 not in {None, hashlib.sha256(content).hexdigest()}:
                            again.append(source)
                        elif version == source.version and len(content) == min(version.size, BEGINNING):
                            found[source] = bytes(content)
                            troubles.cleared(source.place)
                    case Failed():
                        next(waiting)
                    case _:
                        pass
                content.clear()
    except Stuck as e:
        for source in itertools.islice(waiting, 1):
            troubles.stuck(source.place, str(e))
        return []
    return again
