"""Write the output: frames, collected into large writes, never more than was granted."""
# Annotations are quoted where Python 3.6 could not evaluate them.

import json
import os
import struct
import threading
import time
import zlib

OUTPUT_BYTES = 256 * 1024
HEAD_BYTES = 5
PROGRESS_SECONDS = 5.0
LONGEST_PLACE = 1024
SLOW_LINK = 25 * 1024 * 1024  # bytes a second; zlib packs text three times as fast beside a training run
PACKED_FROM = 1024
WORTHWHILE = 0.9
UNPACKED_SENDS = 16  # after content that does not pack


def write_all(data: memoryview) -> None:
    """Write to standard output until all is written."""
    while data:
        data = data[os.write(1, data) :]


class Credit:
    """How many bytes one channel may still send; granted by one thread, taken by another.

    Each channel has its own credit: scan results that are not read delay no file, and files no scan results.
    """

    def __init__(self, left: int) -> None:
        self.left = left
        self.changed = threading.Condition()

    def grant(self, count: int) -> None:
        """Allow `count` more bytes."""
        with self.changed:
            self.left += count
            self.changed.notify()

    def take(self, count: int) -> None:
        """Take `count` bytes, once any are left; the other side allows for one send beyond the credit."""
        with self.changed:
            while self.left <= 0:
                self.changed.wait()
            self.left -= count


class Wire:
    """The output that all channels share: one send at a time, each whole frames."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.slow = False
        self.unpacked = 0

    def send(self, plain: bytes) -> None:
        """Write some frames."""
        packed = self.pack(plain)
        with self.lock:
            self.write(memoryview(plain if packed is None else packed))

    def pack(self, plain: bytes) -> "bytes | None":
        """Return the frames packed as one, where that is worth the time."""
        if not self.slow or len(plain) < PACKED_FROM:
            return None
        if self.unpacked:
            self.unpacked -= 1
            return None
        packed = zlib.compress(plain, 1)
        if len(packed) > WORTHWHILE * len(plain):
            self.unpacked = UNPACKED_SENDS
            return None
        return framed(b"Z", packed)

    def write(self, data: memoryview) -> None:
        """Write, and measure the link's speed; waits for credit are not part of it."""
        began = time.monotonic()
        write_all(data)
        if len(data) >= PACKED_FROM * 16:
            self.slow = len(data) < SLOW_LINK * (time.monotonic() - began)


def framed(letter: bytes, payload: bytes) -> bytes:
    """Return one frame."""
    return struct.pack(">I", len(payload) + 1) + letter + payload


class Output:
    """The frames of one channel."""

    def __init__(self, wire: Wire, credit: Credit, alive: bytes) -> None:
        self.wire = wire
        self.credit = credit
        self.alive = alive
        self.most = min(OUTPUT_BYTES, credit.left)
        self.parts: list[bytes] = []
        self.size = 0
        self.cost = 0
        self.flushed = time.monotonic()

    def frame(self, letter: bytes, *payload: bytes) -> None:
        """Send one frame, whose payload may be in parts; thousands of small ones are sent in one stream."""
        size = sum(map(len, payload))
        self.parts.append(struct.pack(">I", size + 1) + letter)
        self.parts += payload
        self.size += size
        # A data frame's head is free: the other side passes on its bytes as they arrive, and sees no head.
        self.cost += size if letter == b"D" else size + HEAD_BYTES
        if self.size >= self.most:
            self.flush()

    def json(self, letter: bytes, value: object) -> None:
        """Send one frame of JSON."""
        self.frame(letter, json.dumps(value, separators=(",", ":")).encode("ascii"))

    def flush(self) -> None:
        """Write the collected frames; block while there is no credit."""
        if self.parts:
            self.credit.take(self.cost)
            self.wire.send(b"".join(self.parts))
            self.parts, self.size, self.cost = [], 0, 0
        self.flushed = time.monotonic()

    def progress(self, place: str = "") -> None:
        """Send a keep-alive frame with the place of the work, where nothing else was sent for a while."""
        if time.monotonic() - self.flushed > PROGRESS_SECONDS:
            self.frame(b"K", self.alive, place.encode("utf-8", "surrogateescape")[:LONGEST_PLACE])
            self.flush()
