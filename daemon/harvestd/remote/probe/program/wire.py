"""What goes out: frames, gathered into large writes, never more than was granted."""
# Annotations are quoted where Python 3.6 could not evaluate them.

import json
import os
import struct
import threading
import time
import zlib

OUTPUT_BYTES = 256 * 1024
PROGRESS_SECONDS = 5.0
SLOW_LINK = 25 * 1024 * 1024  # bytes a second; zlib packs text three times as fast beside a training run
PACKED_FROM = 1024
WORTHWHILE = 0.9
UNPACKED_SENDS = 16  # after content that does not pack


def write_all(data: memoryview) -> None:
    """Write to standard output until all is written."""
    while data:
        data = data[os.write(1, data) :]


class Credit:
    """How many bytes may still be written; granted by one thread, taken by others."""

    def __init__(self) -> None:
        self.left = 0
        self.changed = threading.Condition()

    def grant(self, count: int) -> None:
        """Allow `count` more bytes."""
        with self.changed:
            self.left += count
            self.changed.notify_all()

    def take(self, least: int, most: int) -> int:
        """Give how many bytes may be written now, between these two; blocks until there are as many as the least."""
        with self.changed:
            while self.left < least:
                self.changed.wait()
            taken = min(most, self.left)
            self.left -= taken
        return taken


class Wire:
    """The way to the other side, shared by all who answer: one send at a time, each whole frames."""

    def __init__(self) -> None:
        self.credit = Credit()
        self.most_packed = 0
        self.lock = threading.Lock()
        self.slow = False
        self.unpacked = 0

    def send(self, plain: bytes) -> None:
        """Write some frames; blocks while the other side holds us back."""
        with self.lock:
            packed = self.pack(plain)
            if packed is None:
                self.send_plain(memoryview(plain))
            else:
                self.credit.take(len(plain), len(plain))
                self.write(memoryview(packed))

    def send_plain(self, data: memoryview) -> None:
        """Write as the credit comes."""
        while data:
            allowed = self.credit.take(1, len(data))
            self.write(data[:allowed])
            data = data[allowed:]

    def pack(self, plain: bytes) -> "bytes | None":
        """Give the frames packed as one, where that is worth the time and there is credit for all of them at once."""
        if not self.slow or not PACKED_FROM <= len(plain) <= self.most_packed:
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
        """Write, and see how fast the link takes it: what waits for credit says nothing of the link."""
        began = time.monotonic()
        write_all(data)
        if len(data) >= PACKED_FROM * 16:
            self.slow = len(data) < SLOW_LINK * (time.monotonic() - began)


def framed(letter: bytes, payload: bytes) -> bytes:
    """Give one frame."""
    return struct.pack(">I", len(payload) + 1) + letter + payload


class Output:
    """The frames of one who answers."""

    def __init__(self, wire: Wire, alive: bytes) -> None:
        self.wire = wire
        self.alive = alive
        self.parts: list[bytes] = []
        self.size = 0
        self.flushed = time.monotonic()

    def frame(self, letter: bytes, *payload: bytes) -> None:
        """Send one frame, whose payload may come in parts; thousands of small ones travel as one stream."""
        size = sum(map(len, payload))
        self.parts.append(struct.pack(">I", size + 1) + letter)
        self.parts += payload
        self.size += size + 5
        if self.size >= OUTPUT_BYTES:
            self.flush()

    def json(self, letter: bytes, value: object) -> None:
        """Send one frame of JSON."""
        self.frame(letter, json.dumps(value, separators=(",", ":")).encode("ascii"))

    def flush(self) -> None:
        """Write what was gathered."""
        parts, self.parts, self.size = self.parts, [], 0
        if parts:
            self.wire.send(b"".join(parts))
        self.flushed = time.monotonic()

    def progress(self) -> None:
        """Show that we are at work, where that takes long and nothing is to be said."""
        if time.monotonic() - self.flushed > PROGRESS_SECONDS:
            self.frame(b"K", self.alive)
            self.flush()
