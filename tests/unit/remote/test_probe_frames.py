"""From a probe's bytes to frames."""

import struct
import zlib
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvestd.remote.probe.protocol import BrokenStream, Frame, FrameDecoder, Letter

MARKER = b"0123456789abcdef"
LIMIT = 1000


def framed(letter: Letter, payload: bytes) -> bytes:
    """Return a frame's bytes."""
    return struct.pack(">I", len(payload) + 1) + letter.value + payload


def joined(frames: Iterable[Frame]) -> list[Frame]:
    """Return the frames with neighbouring data as one: how data is cut means nothing, and none is none."""
    found: list[Frame] = []
    for frame in frames:
        if frame.letter is Letter.DATA and found and found[-1].letter is Letter.DATA:
            found[-1] = Frame(Letter.DATA, found[-1].payload + frame.payload)
        else:
            found.append(frame)
    return found


def decoder() -> FrameDecoder:
    """Return a fresh decoder."""
    return FrameDecoder(MARKER, LIMIT)


plain = [letter for letter in Letter if letter is not Letter.PACKED]
frames = st.lists(st.tuples(st.sampled_from(plain), st.binary(max_size=50)), max_size=8)
noise = st.binary(max_size=60).filter(lambda data: MARKER not in data)


@given(noise, frames, st.lists(st.integers(0, 600), max_size=12))
def test_any_cut_gives_the_same_frames(before: bytes, sent: list[tuple[Letter, bytes]], cuts: list[int]) -> None:
    """However a stream is cut into packets, and whatever came before its marker, the frames are the same."""
    stream = before + MARKER + b"".join(framed(letter, payload) for letter, payload in sent)
    ends = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    decoding = decoder()
    got = [frame for start, end in pairwise(ends) for frame in decoding.feed(stream[start:end])]
    assert joined(got) == joined([Frame(letter, payload) for letter, payload in sent])
    assert decoding.started


@given(frames, frames, st.lists(st.integers(0, 600), max_size=12))
def test_packed_frames_are_the_same(
    sent: list[tuple[Letter, bytes]], packed: list[tuple[Letter, bytes]], cuts: list[int]
) -> None:
    """Frames that come packed are those that were packed."""
    within = b"".join(framed(letter, payload) for letter, payload in packed)
    start = b"".join(framed(letter, payload) for letter, payload in sent)
    stream = MARKER + start + framed(Letter.PACKED, zlib.compress(within)) + start
    ends = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    decoding = decoder()
    got = [frame for start, end in pairwise(ends) for frame in decoding.feed(stream[start:end])]
    assert joined(got) == joined([Frame(letter, payload) for letter, payload in (*sent, *packed, *sent)])


@given(st.binary(max_size=300))
def test_garbage_ends_or_waits(data: bytes) -> None:
    """Any bytes after the marker are frames, the beginning of one, or a broken stream; never another error."""
    decoding = decoder()
    try:
        got = list(decoding.feed(MARKER + data))
    except BrokenStream:
        return
    assert b"Z" in data or sum(len(frame.payload) for frame in got) <= len(data)


def test_frame_at_and_beyond_the_limit() -> None:
    """A payload of just the limit is taken, one byte more is refused before it has arrived."""
    assert list(decoder().feed(MARKER + framed(Letter.DATA, bytes(LIMIT)))) == [Frame(Letter.DATA, bytes(LIMIT))]
    with pytest.raises(BrokenStream, match="1002 bytes"):
        list(decoder().feed(MARKER + struct.pack(">I", LIMIT + 2) + b"D"))


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x00D", b"\x00\x00\x00\x01?", b"\xff\xff\xff\xffD"])
def test_impossible_heads(data: bytes) -> None:
    """A length of nothing or of everything, and an unknown letter, break the stream at once."""
    with pytest.raises(BrokenStream):
        list(decoder().feed(MARKER + data))


def test_noise_is_bounded() -> None:
    """Start files may print 64 KiB and no more."""
    quiet = decoder()
    assert list(quiet.feed(bytes(65_000) + MARKER + framed(Letter.WAIT, b""))) == [Frame(Letter.WAIT, b"")]
    loud = decoder()
    with pytest.raises(BrokenStream, match="before the answer"):
        list(loud.feed(bytes(65_536 + len(MARKER))))
    assert not loud.started
