"""How much of a growing file is whole."""

import struct

import pytest

from harvestd.convention.framing import MAX_RECORD_BYTES, whole_lines, whole_records


def record(data: bytes) -> bytes:
    """Give a TFRecord with made-up checksums."""
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


@pytest.mark.parametrize("filler", [12, 16, 4096])
def test_zero_bytes_after_the_last_record_are_held_back(filler: int) -> None:
    """A file that was given its length in advance, or lost its end in a crash, shows no record there."""
    assert whole_records(record(b"x") + bytes(filler)) == len(record(b"x"))
    assert whole_records(bytes(filler)) == 0
