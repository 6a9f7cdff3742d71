"""How much of a growing file's new bytes is whole: lines of a log, records of a TensorBoard event file.

Bytes in, a length out. A caller that appends only that prefix never shows a torn line or record at home; the rest comes
with the next look, and once the source is finished or dead the caller takes the raw tail without asking here.
"""

import struct
from typing import Final

MAX_RECORD_BYTES: Final = 256 << 20
"""A longer record is no record: TensorBoard's are far below it."""

_LENGTH: Final = struct.Struct("<Q")
_CHECKSUM_BYTES: Final = 4
_HEADER: Final = _LENGTH.size + _CHECKSUM_BYTES
_AROUND: Final = _LENGTH.size + 2 * _CHECKSUM_BYTES
"""What a TFRecord has beside its data: the length, the length's checksum before, the data's checksum after it."""


def whole_lines(data: bytes) -> int:
    """Give the length of the prefix that ends with the last newline; 0 where there is none."""
    return data.rfind(b"\n") + 1


def whole_records(data: bytes) -> int:
    """Give the length of the prefix of whole TFRecords; `data` must start where a record starts.

    Only the structure is looked at, not the checksums. Where a length is above `MAX_RECORD_BYTES` this is no sound
    record file, and no later byte will make it one: then all of `data` counts as whole, for holding it back would hold
    it back for ever. Zero bytes in a record's place are no record but filler, which a file system leaves behind or a
    writer asked for in advance: the checksum of a length of zero is not zero. They are held back.
    """
    whole = 0
    while len(data) - whole >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(data, whole)
        if length > MAX_RECORD_BYTES:
            return len(data)
        if not any(data[whole : whole + _HEADER]):
            break
        end = whole + _AROUND + length
        if end > len(data):
            break
        whole = end
    return whole
