"""Small files of a box, read whole into memory: those that say what a run is. Never anything of another size."""

import hashlib
from collections.abc import Sequence

from harvestd.convention.facts import MAX_FACT_BYTES
from harvestd.convention.layout import Source
from harvestd.remote.box import Chunk, Closed, Failed, Reader, ReadRequest

_READINGS = 3
"""How often a file is read at one look, at most, until it is what the box hashed."""


async def read_small(reader: Reader, sources: Sequence[Source]) -> dict[Source, bytes]:
    """Read small files whole into memory; those that vanished or changed meanwhile are left out.

    Of one that is too large to hold facts the beginning is given, one byte too long: whoever parses it says so. What is
    not what the box hashed is read again, a few times: a name that rests on a flipped bit would stay.
    """
    wanted = {(source.tree, source.path): source for source in sources}
    found: dict[Source, bytes] = {}
    for _ in range(_READINGS):
        requests = [ReadRequest(tree, path, length=MAX_FACT_BYTES + 1) for tree, path in wanted]
        if not requests:
            break
        content = bytearray()
        async with reader.reading(requests) as events:
            async for event in events:
                match event:
                    case Chunk(data):
                        content += data
                    case Closed(request, version, sha256):
                        if sha256 in {None, hashlib.sha256(content).hexdigest()}:
                            source = wanted.pop((request.tree, request.path))
                            if version == source.version and len(content) == min(version.size, MAX_FACT_BYTES + 1):
                                found[source] = bytes(content)
                        content.clear()
                    case Failed(request):
                        del wanted[request.tree, request.path]
                        content.clear()
                    case _:
                        content.clear()
    return found
