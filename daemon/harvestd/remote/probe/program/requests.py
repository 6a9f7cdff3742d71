"""Read the input: requests, grants and heartbeats, in a thread of its own."""

import json
import os
import struct
import sys
import threading
import time
import zlib
from queue import Queue

from harvestd.remote.probe.program.wire import Credit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SILENCE_SECONDS = 60.0


class Requests:
    """Dispatches requests; ends the process when the other side is gone or silent."""

    def __init__(self) -> None:
        self.credits: dict[str, Credit] = {}
        self.received_at = time.monotonic()
        self.stamp = 0
        self.silence = SILENCE_SECONDS
        self.takers: dict[str, Callable[[dict[str, Any]], object]] = {}

    def message(self) -> "dict[str, Any]":
        """Read the next message; end the process where there is none."""
        (size,) = struct.unpack(">I", self.bytes(4))
        body = self.bytes(size)
        self.received_at = time.monotonic()
        return dict(json.loads((body if body[:1] == b"{" else zlib.decompress(body)).decode("ascii")))

    def bytes(self, size: int) -> bytes:
        """Read exactly `size` bytes; end the process where the input ends before."""
        body = sys.stdin.buffer.read(size)
        if len(body) < size:
            os._exit(0)
        return body

    def listen(self) -> None:
        """Dispatch messages for ever."""
        while True:
            message = self.message()
            self.stamp = message.get("at", self.stamp)
            if message["do"] == "grant":
                self.credits[message["of"]].grant(message["bytes"])
            elif message["do"] != "beat":
                self.takers[message["do"]](message)

    def watch(self) -> None:
        """End the process when the other side has been silent for too long."""
        while True:
            left = self.received_at + self.silence - time.monotonic()
            if left < 0:
                # Not sys.exit: another thread may be blocked for ever by a dead network file system.
                os._exit(3)
            time.sleep(min(left + 0.01, 5))


def whole_or_none(target: "Callable[[], None]") -> None:
    """Run `target` for ever; if it fails, end the process: a missing thread would leave requests unanswered."""
    try:
        target()
    finally:
        if sys.exc_info()[1] is not None:
            sys.excepthook(*sys.exc_info())
        os._exit(1)


def in_background(target: "Callable[[], None]") -> None:
    """Run `target` in a thread of its own."""
    threading.Thread(target=whole_or_none, args=(target,), daemon=True).start()


class Queued:
    """Answers requests one after the other, in a thread of its own, which the file system may block."""

    def __init__(self, answer: "Callable[[dict[str, Any]], None]") -> None:
        self.answer = answer
        self.waiting: Queue[dict[str, Any]] = Queue()

    def put(self, request: "dict[str, Any]") -> None:
        """Add a request."""
        self.waiting.put(request)

    def run(self) -> None:
        """Answer for ever."""
        while True:
            self.answer(self.waiting.get())


def tidy() -> None:
    """Return free memory to the machine, where the C library supports it: an idle program should be small."""
    # Another thread may be importing ctypes at this moment: then the module is there, and not its content.
    library = getattr(sys.modules.get("ctypes"), "CDLL", None)
    trim = None if library is None else getattr(library(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
