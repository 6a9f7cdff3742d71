"""Finds the complete part of a growing file's new bytes: lines of a log, records of a TensorBoard event file.

Takes bytes and returns a length. A caller that appends only that prefix never stores an incomplete line or record. The
rest follows with the next scan; once the source is finished or dead, the caller appends the remaining bytes unchecked.
"""

import struct
from functools import cache
from typing import Final

MAX_RECORD_BYTES: Final = 256 << 20
"""A longer record is invalid: TensorBoard's are far shorter."""

_LENGTH: Final = struct.Struct("<Q")
_CHECKSUM: Final = struct.Struct("<I")
_CHECKSUM_BYTES: Final = _CHECKSUM.size
_HEADER: Final = _LENGTH.size + _CHECKSUM_BYTES
_AROUND: Final = _LENGTH.size + 2 * _CHECKSUM_BYTES
"""Bytes of a TFRecord besides its data: the length and its checksum before the data, the data's checksum after it."""


_ZERO_CHECKSUM: Final = bytes(_CHECKSUM_BYTES)
_FILLER: Final = bytes(64)
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
    suspect = data.startswith(_ZERO_CHECKSUM, checksum) or data.find(_FILLER, content, end) >= 0
    if not suspect:
        return False
    if checksum - content > _MOST_SUMMED:
        return data.startswith(_ZERO_CHECKSUM, checksum)
    return not _fits(data[content:checksum], data[checksum:end])


def _fits(data: bytes, checksum: bytes) -> bool:
    return _CHECKSUM.unpack(checksum) == (masked_crc32c(data),)
