"""Checks whether an artifact, or a growing file's new part, is complete.

Checks whether an artifact is complete: first by the metadata of the last scan, then by the content. A marker
completes its group if it is not older than any sibling. Whether it parses, and whether the group did not change
meanwhile, is checked after it is read (`check_content`). Without a marker, or with one that is older (a re-evaluation
rewrites files below it), a group is complete after being unchanged for the settling time. Safetensors format: an
8-byte little-endian header length, then a JSON header whose `data_offsets` end at the end of the file.

Finds the complete part of a growing file's new bytes: lines of a log, records of a TensorBoard event file. Takes
bytes and returns a length. A caller that appends only that prefix never stores an incomplete line or record. The rest
follows with the next scan; once the source is finished or dead, the caller appends the remaining bytes unchecked.
"""

import json
import re
import struct
from collections.abc import Collection
from functools import cache
from typing import Final

from harvestd.convention.metadata.parse import MAX_MARKER_BYTES, InvalidFacts, check_marker
from harvestd.convention.scan.model import Group
from harvestd.convention.scan.stability import COARSE_TICK, NO_TIME, StabilityTracker
from harvestd.convention.structs import Immutable

_SAFETENSORS_PREFIX = 8
MAX_HEADER = 100 * 1024 * 1024
"""Bytes; the format's own limit for its header."""
_GZIP_MAGIC = b"\x1f\x8b"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.(?P<ending>safetensors|bin)", re.ASCII)
_SMALLEST_GZIP = 18
"""Bytes: a header of 10 and a trailer of 8."""
INDEX = ".index.json"
"""Suffix of a file that maps a model's tensors to the files that contain them."""
_TEXT = (".csv", ".json", ".jsonl", ".yaml", ".yml", ".txt")
"""Suffixes of files in which consecutive zero bytes are never content."""
_FILLER = bytes(16)
"""No text has this many consecutive zero bytes; UTF-32 has at most five."""
_MARKERS = frozenset({"run_meta.json", "training_info.json", "summary.json"})
HEAD_BYTES = 1024 * 1024
"""Bytes at the beginning of a file that `check_content` needs; a longer safetensors header is not checked."""


CHECKED = (".safetensors", ".bin", ".ckpt", ".npz", ".pt", ".pth", ".zip", ".gz", ".wandb")
"""Suffixes of files whose whole content is checked against their format."""
FORMED = (*CHECKED, *_TEXT)
"""Suffixes of files that are checked by `check_form` or by their whole content."""
FOR_GOOD = 6.0
"""Number of settling times after which a complete file with invalid content is considered final."""


class Unsealed(Immutable):
    """The group is not complete yet."""

    reason: str
    seconds: float | None
    """Seconds until it is complete if nothing changes; None: it needs a change on the host."""


def unsealed(group: Group, sightings: StabilityTracker, settle: float, now: float) -> Unsealed | None:
    """Return why `group` is not complete according to the last scan; None if it is complete. Times in seconds."""
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


def is_final(group: Group, sightings: StabilityTracker, settle: float, now: float) -> bool:
    """Return whether a complete group has been unchanged for so long that nothing more will be written."""
    return sightings.quiet(group, now) >= FOR_GOOD * sightings.settle(group.tree, settle)


def missing_shards(group: Group) -> str:
    """Return which shards of a checkpoint are missing, according to the names of the others; empty if none is.

    `model-00001-of-00003.safetensors` contains the number of shards; an index is checked only after it is read.
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


def _by_age(group: Group, sightings: StabilityTracker, needed: float, now: float, reason: str) -> Unsealed | None:
    left = needed - sightings.quiet(group, now)
    return Unsealed(reason, left) if left > 0 else None


def check_content(name: str, head: bytes, size: int, beside: Collection[str] | None = None) -> None:
    """Raise `InvalidFacts` if the bytes of a file called `name` show that it is not complete.

    `head` is at most its first HEAD_BYTES bytes, and `size` its length. `beside` has the names in its directory that
    belong to its group, for checking an index against them; None: an index is not checked.
    """
    check_form(name, head, size)
    check_part(name, head, size, beside)


def check_form(name: str, head: bytes, size: int) -> None:
    """Raise `InvalidFacts` if a file does not have the format of its suffix; parameters as for `check_content`.

    If such a file does not change any more, it is fetched as it is.
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
    """Raise `InvalidFacts` if a file shows that its group is incomplete; parameters as for `check_content`."""
    if name in _MARKERS:
        # If a larger marker were rejected, the metrics of its group would never be fetched.
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
    """Raise `InvalidFacts` unless all files in the index of a sharded model (`weight_map`: tensor → file) exist."""
    try:
        # Only files in the same directory are checked: others are not known here.
        named = {name for name in json.loads(content)["weight_map"].values() if "/" not in name}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise InvalidFacts("its index of shards can't be read") from e
    missing = named.difference(beside)
    if missing:
        raise InvalidFacts(f"{len(missing)} of the {len(named)} files that it names are not there")


def _check_gzip(head: bytes, size: int) -> None:
    if size < _SMALLEST_GZIP or head[:2] != _GZIP_MAGIC:
        raise InvalidFacts("not a whole gzip file")


MAX_RECORD_BYTES: Final = 256 << 20
"""A longer record is invalid: TensorBoard's are far shorter."""

_LENGTH: Final = struct.Struct("<Q")
_CHECKSUM: Final = struct.Struct("<I")
_CHECKSUM_BYTES: Final = _CHECKSUM.size
_HEADER: Final = _LENGTH.size + _CHECKSUM_BYTES
_AROUND: Final = _LENGTH.size + 2 * _CHECKSUM_BYTES
"""Bytes of a TFRecord besides its data: the length and its checksum before the data, the data's checksum after it."""


_ZERO_CHECKSUM: Final = bytes(_CHECKSUM_BYTES)
_ZEROS: Final = bytes(64)
"""A record with this many consecutive zero bytes is checked; a scalar has none."""
_LATE: Final = 256 * 1024
"""Bytes: a record followed by more bytes was written long ago and will not change."""
_MOST_SUMMED: Final = 1 << 20
"""Bytes: of a longer record only the checksum fields are checked for zero."""
_CASTAGNOLI: Final = 0x82F63B78
_MASK_DELTA: Final = 0xA282EAD8


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_CASTAGNOLI if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


def masked_crc32c(data: bytes) -> int:
    """Return the checksum that a TFRecord stores for `data`."""
    table = _crc_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def whole_lines(data: bytes) -> int:
    """Return the length of the prefix that ends with the last newline; 0 if there is none."""
    return data.rfind(b"\n") + 1


def whole_records(data: bytes) -> int:
    """Return the length of the prefix of complete TFRecords; `data` must begin with a record.

    If a length is above `MAX_RECORD_BYTES`, the file is not a valid record file and later bytes will not make it one:
    then all of `data` counts as complete, since otherwise it would be held back forever. A file system shows zero bytes
    in place of data that is not written yet. So near the end, a record with a zero checksum or with consecutive zero
    bytes is held back if its checksums do not match its length and data. Other records are not summed, since that takes
    a second for ten megabytes. Zero bytes after the last record are never complete.
    """
    whole, filler = 0, len(data.rstrip(b"\0"))
    while whole < filler and len(data) - whole >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(data, whole)
        if length > MAX_RECORD_BYTES:
            return len(data)
        end = whole + _AROUND + length
        if end > len(data) or (len(data) - end <= _LATE and _is_filled(data, whole, end)):
            break
        whole = end
    return whole


def _is_filled(data: bytes, start: int, end: int) -> bool:
    """Return whether content of the record from `start` to `end` is still missing and shown as zero bytes."""
    content, checksum = start + _HEADER, end - _CHECKSUM_BYTES
    header = data[content - _CHECKSUM_BYTES : content]
    if header == _ZERO_CHECKSUM and not _fits(data[start : start + _LENGTH.size], header):
        return True
    suspect = data.startswith(_ZERO_CHECKSUM, checksum) or data.find(_ZEROS, content, end) >= 0
    if not suspect:
        return False
    if checksum - content > _MOST_SUMMED:
        return data.startswith(_ZERO_CHECKSUM, checksum)
    return not _fits(data[content:checksum], data[checksum:end])


def _fits(data: bytes, checksum: bytes) -> bool:
    return _CHECKSUM.unpack(checksum) == (masked_crc32c(data),)
