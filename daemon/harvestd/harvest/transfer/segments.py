"""Which part of a large file is fetched next: a queue of segments that several lanes share; pure.

Segments are handed out from low to high, so that the part without a gap grows steadily: it is all that a crash leaves.
One that failed is handed out again before any other. Between two segments a lane is idle for a round trip, so they are
large; but no larger than what a lane brings in a short time, and towards the end they shrink, so that all end together.
"""

from dataclasses import dataclass, field

SECONDS = 1.0
"""How long a segment should take its lane."""
FIRST = 2 * 1024 * 1024
"""Bytes of a lane's first segment, which shows how fast it is."""
SMALLEST = 1024 * 1024
LARGEST = 32 * 1024 * 1024
"""Bytes of those that follow."""
LAST = 8 * 1024 * 1024
"""Bytes: towards the end segments do not shrink below this."""


@dataclass(eq=False, slots=True)
class Segment:
    """A part of a file, on its way or here."""

    start: int
    end: int
    """Bytes from here on, up to but without this one."""
    at: int = field(init=False)
    """Up to here it is in the file."""
    here: bool = field(default=False, init=False)
    """Whether all of it is, and was believed."""

    def __post_init__(self) -> None:
        self.at = self.start


class Segments:
    """The parts of one file that are not here yet."""

    def __init__(self, start: int, end: int, lanes: int) -> None:
        """Cover the bytes from `start` up to `end`, for `lanes` lanes at once; one lane gets all in one piece."""
        self._begun: list[Segment] = []
        """By their place in the file; those that are believed up to their end are forgotten."""
        self._again: list[Segment] = []
        self._believed = self._next = start
        self._end = end
        self._lanes = lanes

    @property
    def all_begun(self) -> bool:
        """Whether nothing is left to hand out, for now."""
        return not self._again and self._next >= self._end

    @property
    def all_here(self) -> bool:
        """Whether nothing is left to come."""
        return self.all_begun and all(each.here for each in self._begun)

    def take(self, rate: float | None) -> Segment | None:
        """Return the next segment for a lane that brings `rate` bytes a second (None: unknown), if there is one."""
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
        """Let someone else have `segment`, which failed."""
        segment.at = segment.start
        self._again.append(segment)
        self._again.sort(key=lambda each: each.start)

    @property
    def believed(self) -> int:
        """Up to where every segment is here."""
        while self._begun and self._begun[0].here:
            self._believed = self._begun.pop(0).end
        return self._believed

    @property
    def contiguous(self) -> int:
        """Up to where all is in the file, the last part of it not believed yet."""
        return max(self.believed, self._begun[0].at if self._begun else 0)
