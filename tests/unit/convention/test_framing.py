"""How much of a growing file is whole."""

import struct

import pytest

from harvestd.convention.scan.completeness import MAX_RECORD_BYTES, masked_crc32c, whole_lines, whole_records


def record(data: bytes) -> bytes:
    """Return a TFRecord with made-up checksums."""
    return struct.pack("<QI", len(data), 7) + data + struct.pack("<I", 7)


@pytest.mark.parametrize(
    ("data", "whole"),
    [(b"", 0), (b"torn", 0), (b"\n", 1), (b"one\n", 4), (b"one\ntwo\nto", 8), (b"one\r\n\0\xff", 5)],
)
def test_whole_lines(data: bytes, whole: int) -> None:
    """The prefix up to and with the last newline is whole."""
    assert whole_lines(data) == whole


def test_whole_records() -> None:
    """Cut at any byte, the prefix ends with the last record that is complete."""
    records = [record(b""), record(b"x"), record(b"event" * 100)]
    data = b"".join(records)
    ends = {0, len(records[0]), len(records[0] + records[1]), len(data)}
    for cut in range(len(data) + 1):
        assert whole_records(data[:cut]) == max(end for end in ends if end <= cut)


def test_a_length_beyond_reason_is_no_record() -> None:
    """Bytes that are no record are not held back for ever; the largest sensible record is waited for."""
    torn = record(b"x") + struct.pack("<Q", MAX_RECORD_BYTES + 1) + b"rest"
    assert whole_records(torn) == len(torn)
    waited = record(b"x") + struct.pack("<Q", MAX_RECORD_BYTES) + b"rest"
    assert whole_records(waited) == len(record(b"x"))


@pytest.mark.parametrize("filler", [12, 16, 4096, 9_000_000])
def test_zero_bytes_after_the_last_record_are_held_back(filler: int) -> None:
    """A file that was given its length in advance, or lost its end in a crash, shows no record there."""
    assert whole_records(record(b"x") + bytes(filler)) == len(record(b"x"))
    assert whole_records(bytes(filler)) == 0


def sound(data: bytes) -> bytes:
    """Return a TFRecord with the checksums that belong to it."""
    length = struct.pack("<Q", len(data))
    sums = (struct.pack("<I", masked_crc32c(each)) for each in (length, data))
    return length + next(sums) + data + next(sums)


@pytest.mark.parametrize(("start", "end"), [(8, 12), (12, 212), (50, 130), (12, 216), (212, 216), (8, 216)])
def test_a_record_that_is_not_written_yet_is_held_back(start: int, end: int) -> None:
    """Its length is there, and zero bytes where its data or a checksum belongs; once that is there, it is whole."""
    before, whole = sound(b"event"), sound(b"x" * 200)
    assert whole_records(before + whole[:start] + bytes(end - start) + whole[end:] + sound(b"later")) == len(before)
    assert whole_records(before + whole) == len(before + whole)


def test_a_record_far_from_the_end_is_taken_as_it_is() -> None:
    """What was written behind it says that its own content will not come any more."""
    broken, later = sound(b"x" * 200)[:100] + bytes(116), sound(b"later" * 1000)
    assert whole_records(broken + later) == 0
    assert whole_records(broken + later * 60) == len(broken + later * 60)


@pytest.mark.parametrize("data", [bytes(4096), b"x" + bytes(100), bytes(63)])
def test_zero_bytes_that_their_checksum_knows_are_content(data: bytes) -> None:
    """A histogram of zeros is one."""
    assert whole_records(sound(data)) == len(sound(data))


def test_a_long_record_is_not_summed() -> None:
    """Beyond a megabyte the place of its checksum decides."""
    long = record(bytes(2 << 20))
    assert whole_records(long) == len(long)
    assert whole_records(long[:-4] + bytes(4)) == 0


def test_the_checksum_is_as_published() -> None:
    """The test vector of RFC 3720: crc32c("123456789") is e3069283."""
    masked = masked_crc32c(b"123456789")
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert ((rotated << 15 | rotated >> 17) & 0xFFFFFFFF) == 0xE3069283
