"""How much of a growing file's new bytes is whole: lines of a log, records of a TensorBoard event file.

Bytes in, a length out. A caller that appends only that prefix never shows a torn line or record at home; the rest comes
with the next look, and once the source is finished or dead the caller takes the raw tail without asking here.
"""

import struct
from functools import cache
from typing import Final

MAX_RECORD_BYTES: Final = 256 << 20
"""A longer record is no record: TensorBoard's are far below it."""

_LENGTH: Final = struct.Struct("<Q")
_CHECKSUM: Final = struct.Struct("<I")
_CHECKSUM_BYTES: Final = _CHECKSUM.size
_HEADER: Final = _LENGTH.size + _CHECKSUM_BYTES
_AROUND: Final = _LENGTH.size + 2 * _CHECKSUM_BYTES
"""What a TFRecord has beside its data: the length, the length's checksum before, the data's checksum after it."""


_ZERO_CHECKSUM: Final = bytes(_CHECKSUM_BYTES)
_FILLER: Final = bytes(64)
"""So many zero bytes in a row are looked into; a scalar has none."""
_LATE: Final = 256 * 1024
"""Bytes: a record that is followed by more was written long ago, and is as it will always be."""
_MOST_SUMMED: Final = 1 << 20
"""Bytes: of a longer record only the checksums' own places are looked at."""
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
    """Return the length of the prefix that ends with the last newline; 0 where there is none."""
    return data.rfind(b"\n") + 1


def whole_records(data: bytes) -> int:
    """Return the length of the prefix of whole TFRecords; `data` must start where a record starts.

    Where a length is above `MAX_RECORD_BYTES` this is no sound record file, and no later byte will make it one: then
    all of `data` counts as whole, for holding it back would hold it back for ever. Zero bytes are filler until a
    checksum says otherwise, for a file system shows them in place of what is not written yet: near the end, a record
    with a checksum of zero, or with zero bytes in a row, is held back where its checksums are not those of its length
    and data. Others need no summing, which takes a second for ten megabytes. Nothing but zero bytes up to the end is
    filler, however long it is.
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
    """Return whether zero bytes stand where the content of the record from `start` to `end` belongs."""
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
