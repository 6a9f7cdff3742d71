"""A queue of a large file's segments, shared by several lanes; pure.

Segments are handed out in ascending order, so that the part without a gap, which is all that a crash leaves, grows
steadily. A segment that failed is handed out again before any other. Between two segments a lane is idle for a round
trip, so they are large; but no larger than what a lane fetches in a short time, and towards the end they shrink, so
that all lanes end together.
"""

from dataclasses import dataclass, field

SECONDS = 1.0
"""How long a segment should take its lane."""
FIRST = 2 * 1024 * 1024
"""Bytes of a lane's first segment, which measures its rate."""
SMALLEST = 1024 * 1024
LARGEST = 32 * 1024 * 1024
"""Bytes of later segments."""
LAST = 8 * 1024 * 1024
"""Bytes: towards the end segments do not shrink below this."""


@dataclass(eq=False, slots=True)
class Segment:
    """A part of a file, in transfer or complete."""

    start: int
    end: int
    """The part is from `start` up to, but without, `end`."""
    at: int = field(init=False)
    """The bytes up to here are written."""
    here: bool = field(default=False, init=False)
    """Whether all of it is written and verified."""

    def __post_init__(self) -> None:
        self.at = self.start


class Segments:
    """The parts of one file that are not here yet."""

    def __init__(self, start: int, end: int, lanes: int) -> None:
        """Cover the bytes from `start` up to `end`, for `lanes` lanes at once.

        A single lane gets them all as one segment.
        """
        self._begun: list[Segment] = []
        """By position in the file; those that are verified without a gap before them are removed."""
        self._again: list[Segment] = []
        self._believed = self._next = start
        self._end = end
        self._lanes = lanes

    @property
    def all_begun(self) -> bool:
        """Whether nothing is left to hand out at the moment."""
        return not self._again and self._next >= self._end

    @property
    def all_here(self) -> bool:
        """Whether everything is written and verified."""
        return self.all_begun and all(each.here for each in self._begun)

    def take(self, rate: float | None) -> Segment | None:
        """Return the next segment for a lane that fetches `rate` bytes per second (None: unknown), if there is one."""
        if self._again:
            return self._again.pop(0)
        if self._next >= self._end:
            return None
        segment = Segment(self._next, self._next + self._length(rate))
        self._next = segment.end
        self._begun.append(segment)
        return segment

    def _length(self, rate: float | None) -> int:
        left = self._end - self._next
        if self._lanes == 1:
            return left
        length = FIRST if rate is None else max(SMALLEST, min(LARGEST, int(rate * SECONDS)))
        return min(left, length, max(LAST, left // self._lanes))

    def give_back(self, segment: Segment) -> None:
        """Return `segment`, which failed, to the queue for another lane."""
        segment.at = segment.start
        self._again.append(segment)
        self._again.sort(key=lambda each: each.start)

    @property
    def believed(self) -> int:
        """The end of the part in which every segment is verified."""
        while self._begun and self._begun[0].here:
            self._believed = self._begun.pop(0).end
        return self._believed

    @property
    def contiguous(self) -> int:
        """The end of the part that is written without a gap; its last segment may not be verified yet."""
        return max(self.believed, self._begun[0].at if self._begun else 0)
