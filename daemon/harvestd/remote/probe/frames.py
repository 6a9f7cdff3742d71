"""From the byte stream of a probe to its frames; pure, and never holding more than one frame and one packet.

What a shell's start files print comes before the marker and is skipped; after it every byte counts. The letters are
described in `box_program`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

MARKER_BYTES = 16
_NOISE = 64 * 1024
_HEAD = struct.Struct(">IB")


class Letter(Enum):
    """What a frame is."""

    HELLO = b"H"
    SCAN_PART = b"S"
    SCAN_END = b"E"
    FACTS = b"F"
    OPENED = b"O"
    DATA = b"D"
    CLOSED = b"C"
    FAILED = b"X"
    READ_END = b"R"
    WAIT = b"K"
    REFUSED = b"Q"


_LETTERS = {letter.value[0]: letter for letter in Letter}


class BrokenStream(ValueError):
    """The bytes are no answer of the probe; the text says why, without repeating them."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `payload` is what the box says, not yet checked."""

    letter: Letter
    payload: bytes


@dataclass(slots=True)
class FrameDecoder:
    """Takes packets as they come and gives frames."""

    marker: bytes
    frame_bytes: int
    """The largest payload that is taken."""
    started: bool = field(default=False, init=False)
    """Whether the marker was seen."""
    received: int = field(default=0, init=False)
    """Bytes that came after the marker."""
    _buffer: bytearray = field(default_factory=bytearray, init=False)
    _skipped: int = field(default=0, init=False)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Give the frames that `data` completes; raises `BrokenStream`, and is of no use after that."""
        self._buffer += data
        if self.started:
            self.received += len(data)
        elif not self._start():
            return
        at = 0
        while len(self._buffer) - at >= _HEAD.size:
            size, byte = _HEAD.unpack_from(self._buffer, at)
            letter = _LETTERS.get(byte)
            if letter is None:
                raise BrokenStream("a frame of an unknown kind")
            if not 0 < size <= self.frame_bytes + 1:
                raise BrokenStream(f"a frame of {size} bytes")
            end = at + _HEAD.size + size - 1
            if len(self._buffer) < end:
                break
            with memoryview(self._buffer) as view:
                payload = bytes(view[at + _HEAD.size : end])
            at = end
            yield Frame(letter, payload)
        del self._buffer[:at]

    def _start(self) -> bool:
        at = self._buffer.find(self.marker)
        if at >= 0:
            del self._buffer[: at + len(self.marker)]
            self.started = True
            self.received = len(self._buffer)
            return True
        # The marker may be cut in two by the packets' borders: keep what could be its beginning.
        useless = max(0, len(self._buffer) - len(self.marker) + 1)
        del self._buffer[:useless]
        self._skipped += useless
        if self._skipped > _NOISE:
            raise BrokenStream(f"more than {_NOISE} bytes before the answer")
        return False
