"""Reads one train_log.jsonl into its index, from the byte where the last reading ended, in pieces.

Everything here blocks: call it in a thread. Between two pieces other threads may query the index or go on reading.
"""

import time
import uuid
from io import SEEK_END, BufferedReader
from threading import Lock
from typing import Final

import msgspec

from harvestd.convention.paths import LocalPath
from harvestd.convention.structs import Immutable
from harvestd.series.buckets import Curve, Points
from harvestd.series.log_index import LogIndex, Part
from harvestd.store.errors import Conflict
from harvestd.store.root import DataRoot

PIECE: Final = 96 * 1024
"""Bytes that are read at once: some milliseconds of work, and more than the longest line that is a row."""
_REST: Final = 0.001
"""Seconds between two pieces, at least."""
LARGEST_DUMP: Final = 32 << 20


class Question(Immutable):
    """What an answer contains."""

    keys: tuple[str, ...] | None = None
    """None: all."""
    points: int = 1_000
    """Of each curve, at most."""
    cursor: str | None = None
    """Of an earlier answer: only what is new since."""
    with_times: bool = False


class IndexedLog:
    """The log of one experiment and its index. Several threads may use it at once."""

    def __init__(self, stored: bytes | None = None) -> None:
        """Take up an earlier index, as `dump` returned it; one that can't be read is made anew."""
        self._index = (LogIndex.load(stored) if stored else None) or _empty()
        self._lock = Lock()
        self.length = 0
        """The bytes of the log when it was last looked at."""
        self.unsaved = 0
        """Bytes that were indexed since the last `dump`."""

    @property
    def size(self) -> int:
        """The bytes that the index takes in memory."""
        return self._index.size

    @property
    def behind(self) -> int:
        """The bytes of the log that are not indexed yet, as of the last look."""
        return max(0, self.length - self._index.offset)

    def catch_up(self, root: DataRoot, path: LocalPath, seconds: float) -> None:
        """Index what is new in the log at `path`, for about `seconds`; at least one piece.

        A log that does not continue what was read is indexed anew. One that is absent keeps its index: its directory
        may be getting another name.
        """
        deadline = time.monotonic() + seconds
        try:
            with root.reading(path) as file:
                self.length = file.seek(0, SEEK_END)
                with self._lock:
                    if not _continues(self._index, file, self.length):
                        self._index = _empty()
                began = time.monotonic()
                while self._add_piece(file) and (now := time.monotonic()) < deadline:
                    # Threads share one interpreter: without pauses the event loop would wait after each system call.
                    # On a busy machine a piece takes longer, and so does the pause.
                    time.sleep(max(_REST, now - began))
                    began = time.monotonic()
        except (FileNotFoundError, Conflict):
            return

    def _add_piece(self, file: BufferedReader) -> bool:
        """Index one piece; return whether there may be more."""
        with self._lock:
            file.seek(self._index.offset)
            piece = file.read(PIECE)
            used = self._index.add(piece, is_end=len(piece) < PIECE)
            self.unsaved += used
        return len(piece) == PIECE

    def observe(self, moments: list[tuple[int, float]], began: list[tuple[int, float]]) -> None:
        """Note when steps were the newest ones, as (step, Unix time); `began`: the same of the first step."""
        with self._lock:
            for step, at in [*([] if self._index.times_from else began), *moments]:
                if at != self._index.clock.at(step):
                    self._index.observe(step, at)

    def answer(self, question: Question) -> bytes:
        """Return the JSON document of the curves, without the braces around it; the API's README describes it."""
        with self._lock:
            index = self._index
            keys = list(index.curves) if question.keys is None else question.keys
            part = index.query(keys, question.points, question.cursor)
            # A copy, so that encoding a million numbers does not hold the lock.
            clock = Curve.load(*index.clock.dump()) if question.with_times else None
            head = {
                "keys": list(index.curves),
                "keys_left_out": index.keys_left_out,
                "rows": index.rows,
                "step": index.newest_step,
                "bytes": self.length,
                "indexed_bytes": index.offset,
                "complete": index.offset >= self.length,
                "times": index.times_from,
                "cursor": part.cursor,
            }
        return msgspec.json.encode(head)[1:-1] + b',"curves":{' + _curves(part, clock) + b"}"

    def dump(self) -> bytes:
        """Return the index as bytes."""
        with self._lock:
            self.unsaved = 0
            return self._index.dump()


def _empty() -> LogIndex:
    return LogIndex(uuid.uuid4().hex[:12])


def _continues(index: LogIndex, file: BufferedReader, length: int) -> bool:
    """Return whether a file begins with what was indexed, judged by its length, its beginning and the last bytes."""
    if length < index.offset:
        return False
    file.seek(0)
    if file.read(len(index.beginning)) != index.beginning:
        return False
    file.seek(index.offset - len(index.ending))
    return file.read(len(index.ending)) == index.ending


def _curves(part: Part, clock: Curve | None) -> bytes:
    # One curve at a time: a call of the encoder holds all threads.
    return b",".join(
        msgspec.json.encode(key) + b":" + msgspec.json.encode(_curve(points, clock))
        for key, points in part.curves.items()
    )


def _curve(points: Points, clock: Curve | None) -> dict[str, object]:
    found: dict[str, object] = {
        "width": points.width,
        "replaces_from": points.replaces_from,
        "step": points.steps,
        "last": points.newest,
    }
    if clock is not None:
        found["time"] = [clock.at(step) for step in points.steps]
    if any(count + gaps > 1 for count, gaps in zip(points.counts, points.gaps, strict=True)):
        found |= {"min": points.lowest, "max": points.highest, "mean": points.means, "count": points.counts}
    gaps = [(step, count) for step, count in zip(points.steps, points.gaps, strict=True) if count]
    return found | ({"nonfinite": gaps} if gaps else {})
