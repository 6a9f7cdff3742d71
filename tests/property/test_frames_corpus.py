"""Whatever a box sends, the decoders give valid frames and values, or their own error: never another, never for ever.

The corpus (see `corpus.making`) is fed as it is, and as Hypothesis bends it: flipped, cut, spliced, and in any packets.
"""

import tracemalloc
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.making import CORPUS, FRAMES, LIMIT
from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.snapshot import Tree, TreeKind
from harvestd.remote.api import Limits, ReadRequest
from harvestd.remote.probe import decode, reader
from harvestd.remote.probe.decode_records import BrokenAnswer
from harvestd.remote.probe.known_trees import RemoteIndex
from harvestd.remote.probe.protocol import BrokenStream, Frame, FrameDecoder, Letter
from support.examples import examples

MARKER = b"0123456789abcdef"
TREE = Tree("/home/ubuntu/localfs", "training_runs", TreeKind.TRAINING)
REQUEST = ReadRequest(TREE, RemotePath(("a.json",)))
MOST_MEMORY = 128 * LIMIT
"""Bytes at the worst moment: JSON's small values cost Python some sixty times their text."""
Heard = tuple[list[Frame], str]
"""The frames that came, and the protocol's error that ended them, if one did."""


def frames_of(packets: Sequence[bytes]) -> Heard:
    """Decode what came after a marker."""
    decoder = FrameDecoder(MARKER, LIMIT)
    found: list[Frame] = []
    try:
        for packet in (MARKER, *packets):
            found.extend(decoder.feed(packet))
    except BrokenStream as e:
        return found, str(e)
    return found, ""


def understood(frame: Frame) -> object:
    """Read one frame as what its letter says; raises `BrokenAnswer`."""
    match frame.letter:
        case Letter.HELLO:
            return decode.python(frame.payload)
        case Letter.SCAN_PART:
            return decode.scan_part(frame.payload, 1, LIMIT)
        case Letter.SCAN_END:
            return decode.scan_end(frame.payload, 1)
        case Letter.UNCHANGED:
            return decode.unchanged(frame.payload)
        case Letter.FACTS:
            return decode.facts(frame.payload), decode.gpu_processes(frame.payload)
        case Letter.REFUSED:
            return decode.refusal(frame.payload)
        case _:
            return None


def believed(frames: Sequence[Frame]) -> Iterator[str]:
    """Take frames as the conversations do, and give the error of each that breaks a rule."""
    nobody: Any = None
    reading = reader.Answer(nobody, nobody, [REQUEST])
    known = RemoteIndex((TREE,), Limits(entries=1000, rejected_names=10))
    for frame in frames:
        try:
            value = understood(frame)
            if isinstance(value, decode.ScanPart):
                known.take(value)
            if isinstance(value, decode.ScanEnd):
                known.complete(value)
            if frame.letter in {
                Letter.WHOLE,
                Letter.OPENED,
                Letter.DATA,
                Letter.CLOSED,
                Letter.FAILED,
                Letter.READ_END,
            }:
                reading._event(frame)
        except BrokenAnswer as e:
            yield str(e)


def harmless(packets: Sequence[bytes]) -> tuple[list[Frame], list[str]]:
    """Decode and believe packets; fails where an error repeats what was sent raw, or a frame is beyond the limit."""
    frames, broken = frames_of(packets)
    errors = [*believed(frames), *([broken] if broken else [])]
    assert all(len(frame.payload) <= LIMIT for frame in frames)
    assert all(error.isprintable() and len(error) < 200 for error in errors)
    return frames, errors


def test_files_are_what_the_program_makes() -> None:
    """Who adds to the corpus makes its files anew, and nobody edits one by hand."""
    found = {path.stem: path.read_bytes() for path in FRAMES.glob("*.bin")}
    assert found == dict(CORPUS)


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_each_file_is_taken_or_refused(name: str) -> None:
    """An honest stream is believed whole; a lie ends in the protocol's error, or means nothing; memory is bounded."""
    content = (FRAMES / f"{name}.bin").read_bytes()
    tracemalloc.start()
    try:
        frames, errors = harmless([content])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY
    if name.startswith("good-"):
        assert frames
        assert errors == []
    # The first error is where a conversation ends; what follows is read for harm alone.
    assert harmless([bytes([byte]) for byte in content])[1][:1] == errors[:1]


@st.composite
def bent(draw: st.DrawFn) -> list[bytes]:
    """Return a stream that was honest, or was a lie of another kind, in packets."""
    data = bytearray(draw(st.sampled_from(sorted(CORPUS.values()))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("flip", "cut", "splice", "insert", "repeat"))):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:]
            case "splice":
                other = draw(st.sampled_from(sorted(CORPUS.values())))
                data[at:] = other[draw(st.integers(0, len(other))) :]
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case "repeat":
                data += data[at:]
    ends = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=8))})
    return [bytes(data[start:end]) for start, end in pairwise(ends)]


@given(bent())
@settings(max_examples=examples(400), deadline=timedelta(seconds=2))
def test_no_mutation_does_harm(packets: list[bytes]) -> None:
    """Bent as it may be, and cut into whatever packets: frames and values, or the protocol's own error."""
    harmless(packets)
    assert frames_of(packets)[1] == frames_of([b"".join(packets)])[1]
