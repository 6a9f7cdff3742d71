"""When is an artifact complete? First what the last look shows, then what the bytes themselves say.

A marker seals its group when it is no older than any sibling; that it parses, and that the group did not change
meanwhile, is known only once it was read (`check_content`). Without a marker, or under an old one (a re-evaluation
rewrites files below it), only being quiet for the settling time is left. Safetensors format: an 8-byte
little-endian header length, a JSON header whose `data_offsets` end where the file ends.
"""

import json
import re
import struct
from collections.abc import Collection

from harvestd.convention.metadata.parse import MAX_MARKER_BYTES, InvalidFacts, check_marker
from harvestd.convention.scan.model import Group
from harvestd.convention.scan.stability import COARSE_TICK, NO_TIME, Sightings
from harvestd.convention.structs import Immutable

_SAFETENSORS_PREFIX = 8
MAX_HEADER = 100 * 1024 * 1024
"""Bytes; the format's own limit for its header."""
_GZIP_MAGIC = b"\x1f\x8b"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.(?P<ending>safetensors|bin)", re.ASCII)
_SMALLEST_GZIP = 18
"""Bytes: a header of 10 and a trailer of 8."""
INDEX = ".index.json"
"""How the name of a file ends that says in which others the tensors of a model are."""
_TEXT = (".csv", ".json", ".jsonl", ".yaml", ".yml", ".txt")
"""How the names of files end in which zero bytes in a row are never content."""
_FILLER = bytes(16)
"""No text has so many in a row; UTF-32 has five at the most."""
_MARKERS = frozenset({"run_meta.json", "training_info.json", "summary.json"})
HEAD_BYTES = 1024 * 1024
"""How much of a file's beginning `check_content` needs at the most; a longer safetensors header is not checked."""


CHECKED = (".safetensors", ".bin", ".ckpt", ".npz", ".pt", ".pth", ".zip", ".gz", ".wandb")
"""How the names of files end whose whole content is held against what their format says of it."""
FORMED = (*CHECKED, *_TEXT)
"""How the names of files end of which `check_form` or the whole content says something."""
_FOR_GOOD = 6.0
"""Settling times after which a file that is sealed, and whose content does not fit, is as it will always be."""


class Unsealed(Immutable):
    """Not complete yet, and why."""

    reason: str
    seconds: float | None
    """After this long it will be, if nothing changes; None: only the box can change it."""


def unsealed(group: Group, sightings: Sightings, settle: float, now: float) -> Unsealed | None:
    """Return why `group` is not complete by what the last look shows; None if it is sealed. Times in seconds."""
    if group.marker is None:
        if group.needs_marker:
            return Unsealed("its marker training_info.json is not there yet", None)
        return _by_age(group, sightings, sightings.settle(group.tree, settle), now, "settling")
    missing = missing_shards(group)
    if missing:
        return Unsealed(missing, None)
    marker = group.marker.version
    newest = max([member.source.version.mtime_ns for member in group.members])
    if newest <= marker.mtime_ns and all(each.mtime_ns <= marker.mtime_ns for each in group.witnesses):
        coarse = marker.ctime_ns == 0 and settle != NO_TIME
        return _by_age(group, sightings, COARSE_TICK, now, "looking again") if coarse else None
    reason = f"{group.marker.path.name} is older than what it marks: settling"
    return _by_age(group, sightings, sightings.settle(group.tree, settle), now, reason)


def is_final(group: Group, sightings: Sightings, settle: float, now: float) -> bool:
    """Return whether a sealed group has been unchanged for so long that nothing more will be written."""
    return sightings.quiet(group, now) >= _FOR_GOOD * sightings.settle(group.tree, settle)


def missing_shards(group: Group) -> str:
    """Return which shards of a checkpoint are not there, going by the names of the others; empty: none is missing.

    `model-00001-of-00003.safetensors` says how many there are; what an index names is known once it was read.
    """
    if not group.needs_marker:
        return ""
    found: dict[tuple[tuple[str, ...], str, str, str], set[str]] = {}
    for member in group.members:
        match = _SHARD.fullmatch(member.rest[-1])
        if match:
            key = (member.rest[:-1], match["stem"], match["total"], match["ending"])
            found.setdefault(key, set()).add(match["number"])
    for (_, stem, total, ending), numbers in found.items():
        if len(numbers) < int(total):
            return f"{len(numbers)} of the {int(total)} shards of {stem}.{ending} are there"
    return ""


def _by_age(group: Group, sightings: Sightings, needed: float, now: float, reason: str) -> Unsealed | None:
    left = needed - sightings.quiet(group, now)
    return Unsealed(reason, left) if left > 0 else None


def check_content(name: str, head: bytes, size: int, beside: Collection[str] | None = None) -> None:
    """Raise `InvalidFacts` if the bytes of a file called `name` show that it is not whole.

    `head` is its first HEAD_BYTES at most, `size` its length, `beside` what its group has in its directory, where an
    index is to be held against that.
    """
    check_form(name, head, size)
    check_part(name, head, size, beside)


def check_form(name: str, head: bytes, size: int) -> None:
    """Raise `InvalidFacts` if a file has not the form that its name promises, as `check_content` does.

    A file that is so for good is nevertheless all that there is.
    """
    if name.endswith(_TEXT):
        if size and not head.strip(b"\0"):
            raise InvalidFacts(
                "nothing but zero bytes, which its file system or its writer put there for what is to come"
            )
        if _FILLER in head:
            raise InvalidFacts("zero bytes within its text, which its file system put there for what is to come")
    elif name.endswith(".safetensors"):
        _check_safetensors(head, size)
    elif name.endswith(".gz"):
        _check_gzip(head, size)


def check_part(name: str, head: bytes, size: int, beside: Collection[str] | None = None) -> None:
    """Raise `InvalidFacts` if a file shows that its group is not complete, as `check_content` does."""
    if name in _MARKERS:
        # Were a larger one refused, the metrics that it marks would never come home.
        if size <= MAX_MARKER_BYTES:
            check_marker(head)
    elif name.endswith(INDEX) and beside is not None and size <= HEAD_BYTES:
        _check_index(head, beside)


def _check_safetensors(head: bytes, size: int) -> None:
    if len(head) < _SAFETENSORS_PREFIX:
        raise InvalidFacts("shorter than a safetensors header")
    (length,) = struct.unpack("<Q", head[:_SAFETENSORS_PREFIX])
    if length > MAX_HEADER or _SAFETENSORS_PREFIX + length > size:
        raise InvalidFacts("shorter than its safetensors header says")
    header = head[_SAFETENSORS_PREFIX : _SAFETENSORS_PREFIX + length]
    if len(header) < length:
        return
    try:
        tensors = json.loads(header)
        ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
        end = _SAFETENSORS_PREFIX + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as e:
        raise InvalidFacts("its safetensors header can't be read") from e
    if end != size:
        raise InvalidFacts(f"its safetensors header says {end} bytes, there are {size}")


def _check_index(content: bytes, beside: Collection[str]) -> None:
    """Hold the index of a sharded model (`weight_map`: by tensor, the name of its file) against what is there."""
    try:
        # Only neighbours are looked for: what lies elsewhere is not known here.
        named = {name for name in json.loads(content)["weight_map"].values() if "/" not in name}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise InvalidFacts("its index of shards can't be read") from e
    missing = named.difference(beside)
    if missing:
        raise InvalidFacts(f"{len(missing)} of the {len(named)} files that it names are not there")


def _check_gzip(head: bytes, size: int) -> None:
    if size < _SMALLEST_GZIP or head[:2] != _GZIP_MAGIC:
        raise InvalidFacts("not a whole gzip file")
