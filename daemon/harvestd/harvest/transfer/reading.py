"""Reads small files of a host into memory: those that describe a run. Never returns a file of another size."""

import hashlib
import itertools
from collections.abc import Sequence

from harvestd.convention.metadata.parse import BEGINNING
from harvestd.convention.scan.model import Source
from harvestd.harvest.host.failures import FailureTracker
from harvestd.remote.api import Chunk, Closed, Failed, Reader, ReadRequest
from harvestd.remote.ssh.errors import Stuck

_READINGS = 3
"""The most readings of a file in one scan, until it matches the host's hash."""


async def read_small(reader: Reader, sources: Sequence[Source], troubles: FailureTracker) -> dict[Source, bytes]:
    """Return the contents of small files, without those that vanished or changed meanwhile.

    Of a file that is too large to hold facts only the beginning is read, one byte more than the limit, so that parsing
    rejects it. A file that differs from the host's hash is read again, a few times: a name derived from a flipped bit
    would be permanent. A file whose reading hangs is noted in `troubles` and skipped for a while; the files after it
    are read at the next scan. Raise `Retry` when the link is lost.
    """
    wanted = [each for each in sources if troubles.may_try(each.place)]
    found: dict[Source, bytes] = {}
    for _ in range(_READINGS):
        if wanted:
            wanted = await _read(reader, wanted, found, troubles)
    return found


async def _read(
    reader: Reader, sources: Sequence[Source], found: dict[Source, bytes], troubles: FailureTracker
) -> list[Source]:
    """Read these files into `found`; return those that must be read again."""
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
