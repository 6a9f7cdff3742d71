"""Split the byte stream of a probe into frames; pure, and never holding more than one frame and one packet.

The output of a shell's start files comes before the marker and is skipped; after it every byte counts. The letters are
described in `program`.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

MARKER_BYTES = 16
_NOISE = 64 * 1024
_HEAD = struct.Struct(">IB")


class Letter(Enum):
    """The kind of a frame."""

    HELLO = b"H"
    SCAN_PART = b"S"
    SCAN_END = b"E"
    UNCHANGED = b"U"
    FACTS = b"F"
    WHOLE = b"W"
    VERIFIED = b"V"
    OPENED = b"O"
    DATA = b"D"
    CLOSED = b"C"
    FAILED = b"X"
    READ_END = b"R"
    WAIT = b"K"
    REFUSED = b"Q"
    PACKED = b"Z"


_LETTERS = {letter.value[0]: letter for letter in Letter}


class BrokenStream(ValueError):
    """The bytes are no valid answer of the probe; the text gives the reason, without repeating them."""


class Frame(NamedTuple):
    """One frame, or a piece of a DATA frame; the payload is the host's and not yet checked."""

    letter: Letter
    payload: bytes


@dataclass(slots=True)
class FrameDecoder:
    """Takes packets as they arrive and yields frames; the data of files is passed on piece by piece."""

    marker: bytes
    frame_bytes: int
    """The largest payload that is accepted, and the most that a packed one may unpack to."""
    started: bool = field(default=False, init=False)
    """Whether the marker was found."""
    _rest: bytes = field(default=b"", init=False)
    """The beginning of a frame that is not complete."""
    _parts: list[bytes] = field(default_factory=list, init=False)
    """The packets after `_rest`, while they surely do not complete the frame."""
    _missing: int = field(default=0, init=False)
    """How many bytes of that frame are still to come."""
    _data: int = field(default=0, init=False)
    """How many bytes of a DATA frame are still to come."""
    _packed: bool = field(default=False, init=False)
    """Whether the current frames were unpacked from a packed one."""
    _skipped: int = field(default=0, init=False)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes.

        Raise `BrokenStream`, after which the decoder can't be used any more.
        """
        if not self.started:
            data = self._start(data)
        if not data:
            return
        if self._missing > len(data):
            self._parts.append(data)
            self._missing -= len(data)
            return
        if self._rest:
            data = b"".join((self._rest, *self._parts, data))
            self._rest = b""
            self._parts.clear()
        yield from self._frames(data)

    def _frames(self, data: bytes) -> Iterator[Frame]:
        at, end = 0, len(data)
        while at < end:
            if self._data:
                piece = data[at : at + self._data] if at or self._data < end else data
                self._data -= len(piece)
                at += len(piece)
                yield Frame(Letter.DATA, piece)
                continue
            if end - at < _HEAD.size:
                self._missing = _HEAD.size - (end - at)
                self._rest = data[at:]
                return
            size, byte = _HEAD.unpack_from(data, at)
            letter = _LETTERS.get(byte)
            if letter is None or (letter is Letter.PACKED and self._packed):
                raise BrokenStream("a frame of an unknown kind")
            if not 0 < size <= self.frame_bytes + 1:
                raise BrokenStream(f"a frame of {size} bytes")
            start, stop = at + _HEAD.size, at + _HEAD.size + size - 1
            if letter is Letter.DATA and stop > start:
                at, self._data = start, stop - start
                continue
            if stop > end:
                self._missing = stop - end
                self._rest = data[at:]
                return
            at = stop
            if letter is Letter.PACKED:
                yield from self._unpacked(data[start:stop])
            else:
                yield Frame(letter, data[start:stop])
        self._missing = 0

    def _unpacked(self, payload: bytes) -> Iterator[Frame]:
        unpacking = zlib.decompressobj()
        try:
            plain = unpacking.decompress(payload, self.frame_bytes)
        except zlib.error as e:
            raise BrokenStream("a frame that can't be unpacked") from e
        if not unpacking.eof:
            raise BrokenStream(f"a frame that unpacks to more than {self.frame_bytes} bytes")
        self._packed = True
        yield from self._frames(plain)
        self._packed = False
        if self._data or self._missing:
            raise BrokenStream("a packed frame that ends within one")

    def _start(self, data: bytes) -> bytes:
        """Skip the bytes before the marker; return those after it."""
        data = self._rest + data
        at = data.find(self.marker)
        if at >= 0:
            self.started = True
            self._rest = b""
            return data[at + len(self.marker) :]
        # The marker may be split between packets: keep what could be its beginning.
        useless = max(0, len(data) - len(self.marker) + 1)
        self._rest = data[useless:]
        self._skipped += useless
        if self._skipped > _NOISE:
            raise BrokenStream(f"more than {_NOISE} bytes before the answer")
        return b""
