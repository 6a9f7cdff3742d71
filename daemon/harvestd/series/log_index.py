"""The index of one train_log.jsonl: a curve a key, how far the log was read, and cursors for what is new. Pure.

The log is untrusted: lines that are no rows, or longer than `LONGEST_LINE`, are skipped. So are keys that are no
`is_key`, and those beyond the first `MOST_KEYS`, which are counted. What is kept has a fixed size for any log.
"""

import math
import string
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

import msgspec

from harvestd.convention.log_rows import GREATEST, measured, row_of, step_of
from harvestd.convention.structs import Immutable
from harvestd.series.buckets import NAN, Curve, Points

MOST_KEYS: Final = 64
LONGEST_KEY: Final = 200
LONGEST_LINE: Final = 1 << 16
"""Bytes. A row has less than one KiB; a parsed line may take twenty times as much memory."""
_BATCH: Final = 256
"""Rows with the same keys that are added together."""
_DIGITS: Final = string.digits + string.ascii_lowercase
"""For the widths of a cursor, as powers of two."""
_NOT_SENT: Final = "-"
_STEP: Final = "step"
_TIMES: Final = ("timestamp", "_timestamp", "wall_time", "time")
"""Keys that hold Unix time in some logs."""
_FIRST_TIME: Final = 1e9
_LAST_TIME: Final = 1e10
_LAYOUT: Final = 1
"""Changed with the form of a dump, so that older ones are made anew."""
_decode: Final = msgspec.json.Decoder().decode

Row = Mapping[str, object]


class Part(Immutable):
    """The curves of an answer, and the cursor for the next one."""

    curves: dict[str, Points]
    cursor: str


class _Dump(Immutable):
    layout: int
    generation: str
    offset: int
    rows: int
    skipping: bool
    keys_left_out: int
    beginning: bytes
    ending: bytes
    has_times: bool
    curves: dict[str, tuple[int, bytes]]
    clock: tuple[int, bytes]


class LogIndex:
    """One log as far as it was read. `generation` is unique: a log that is replaced gets a new index."""

    def __init__(self, generation: str) -> None:
        self.generation = generation
        self.offset = 0
        """Bytes that were read: up to the end of a line, or of a piece of one that is too long."""
        self.rows = 0
        self.keys_left_out = 0
        """How many keys, at least, have no curve: the most in any row."""
        self.curves: dict[str, Curve] = {}
        """By key, in the order in which the keys appeared."""
        self.clock = Curve()
        """Unix time by step: as the log has it, or as of `observe`."""
        self.beginning = b""
        """The first bytes of the log, and the last ones before `offset`: by them the log is recognised."""
        self.ending = b""
        self._skipping = False
        """Whether the next bytes are the rest of a line that is too long."""
        self._has_times = False

    @property
    def size(self) -> int:
        """The bytes that it takes in memory, roughly."""
        return 2_000 + sum(1_000 + curve.size for curve in (*self.curves.values(), self.clock))

    @property
    def newest_step(self) -> int | None:
        """The newest step of any key; None if there is none."""
        return max((curve.steps[-1] for curve in self.curves.values() if curve.steps), default=None)

    def add(self, content: bytes, *, is_end: bool = False) -> int:
        """Add the bytes that follow `offset`; return how many of them were used: all, but for an incomplete last line.

        `is_end`: nothing follows now. Then a last line that is a whole row without a newline is used too.
        """
        used = content.rfind(b"\n") + 1
        lines, rest = content[:used].split(b"\n"), content[used:]
        if self._skipping and used:
            del lines[0]
            self._skipping = False
        self._skipping = self._skipping or len(rest) > LONGEST_LINE
        if is_end and rest and not self._skipping and _row(rest) is not None:
            lines.append(rest)
            used = len(content)
        if self._skipping:
            used = len(content)
        self._add_rows(line for line in lines if line and len(line) <= LONGEST_LINE)
        self.offset += used
        if len(self.beginning) < MARK_BYTES:
            self.beginning = (self.beginning + content[:used])[:MARK_BYTES]
        self.ending = (self.ending + content[max(0, used - MARK_BYTES) : used])[-MARK_BYTES:]
        return used

    def _add_rows(self, lines: Iterable[bytes]) -> None:
        batch: list[Row] = []
        steps: list[int] = []
        keys: tuple[str, ...] = ()
        for line in lines:
            row = _row(line)
            if row is None:
                continue
            step = step_of(row[_STEP])
            if step is None:
                continue
            if batch and (len(batch) == _BATCH or step < steps[-1] or tuple(row) != keys):
                self._add_batch(keys, batch, steps)
                batch, steps = [], []
            if not batch:
                keys = tuple(row)
            batch.append(row)
            steps.append(step)
        if batch:
            self._add_batch(keys, batch, steps)

    def _add_batch(self, keys: tuple[str, ...], rows: list[Row], steps: list[int]) -> None:
        """Add rows with the same keys, at steps that do not fall."""
        self.rows += len(rows)
        left_out = 0
        for key in keys:
            if key != _STEP and not self._add_column(key, [row[key] for row in rows], steps):
                left_out += 1
        self.keys_left_out = max(self.keys_left_out, left_out)

    def _add_column(self, key: str, values: list[object], steps: list[int]) -> bool:
        """Add values of one key; return whether the key has a curve, or needs none."""
        found = _measurements(values)
        if found is None:
            numbers = [_number(value) for value in values]
            steps = [step for step, number in zip(steps, numbers, strict=True) if number is not None]
            found = [number for number in numbers if number is not None]
        if not found:
            return True
        if key in _TIMES and all(_FIRST_TIME <= number < _LAST_TIME for number in found):
            self._has_times = True
            self.clock.extend(steps, found, self.rows)
        curve = self.curves.get(key)
        if curve is None:
            if len(self.curves) >= MOST_KEYS or not is_key(key):
                return False
            curve = self.curves[key] = Curve()
        curve.extend(steps, found, self.rows)
        return True

    def observe(self, step: int, at: float) -> None:
        """Note that `step` was the newest one at `at` (Unix time); ignored for a log that has times of its own."""
        if not self._has_times:
            self.clock.extend([step], [at], self.rows)

    @property
    def times_from(self) -> str | None:
        """Where the times of steps are from: `log`, or `arrival` here; None where there are none."""
        return "log" if self._has_times else "arrival" if self.clock.steps else None

    def query(self, keys: Iterable[str], points: int, cursor: str | None = None) -> Part:
        """Return what is new in these curves since an earlier answer to the same question; everything without one.

        A cursor of another log, or of another question, returns everything.
        """
        since, widths = self._read(cursor)
        curves = {key: self.curves[key].query(points, since, widths.get(key)) for key in keys if key in self.curves}
        exponents = (_DIGITS[curves[key].width.bit_length() - 1] if key in curves else _NOT_SENT for key in self.curves)
        return Part(curves, f"{self.generation}.{self.rows}.{''.join(exponents)}")

    def _read(self, cursor: str | None) -> tuple[int | None, Mapping[str, int]]:
        generation, _, rest = (cursor or "").partition(".")
        rows, _, exponents = rest.partition(".")
        if generation != self.generation or not (rows.isascii() and rows.isdecimal()) or int(rows) > self.rows:
            return None, {}
        widths = {
            key: 1 << _DIGITS.index(exponent)
            for key, exponent in zip(self.curves, exponents, strict=False)
            if exponent in _DIGITS
        }
        return int(rows), widths

    def dump(self) -> bytes:
        """Return it as bytes for `load`."""
        curves = {key: curve.dump() for key, curve in self.curves.items()}
        content = msgspec.msgpack.encode(
            _Dump(
                _LAYOUT,
                self.generation,
                self.offset,
                self.rows,
                self._skipping,
                self.keys_left_out,
                self.beginning,
                self.ending,
                self._has_times,
                curves,
                self.clock.dump(),
            )
        )
        return _digest(content) + content

    @classmethod
    def load(cls, content: bytes) -> "LogIndex | None":
        """Return the index that was dumped; None for a content that is incomplete, damaged or of another version."""
        digest, content = content[:_DIGEST], content[_DIGEST:]
        if digest != _digest(content):
            return None
        try:
            dump = msgspec.msgpack.decode(content, type=_Dump)
            if dump.layout != _LAYOUT:
                return None
            index = cls(dump.generation)
            index.curves = {key: Curve.load(*curve) for key, curve in dump.curves.items()}
            index.clock = Curve.load(*dump.clock)
        except (msgspec.MsgspecError, ValueError):
            return None
        index.offset, index.rows, index.keys_left_out = dump.offset, dump.rows, dump.keys_left_out
        index.beginning, index.ending = dump.beginning, dump.ending
        index._skipping, index._has_times = dump.skipping, dump.has_times
        return index


MARK_BYTES: Final = 512
"""Bytes of the log's beginning and end that are kept to recognise it."""
_DIGEST: Final = 16


def is_key(key: str) -> bool:
    """Return whether a key can have a curve: short and printable, without a comma, which separates keys in a query."""
    return len(key) <= LONGEST_KEY and key.isprintable() and "," not in key


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=_DIGEST).digest()


def _row(line: bytes) -> Row | None:
    """Return the JSON object in a line, if it has a step; as `log_rows.row_of`, and several times as fast.

    The fast decoder refuses NaN and Infinity, which are normal in a log.
    """
    try:
        row = _decode(line)
    except (ValueError, RecursionError):
        return row_of(line) if b"N" in line or b"I" in line else None
    return row if isinstance(row, dict) and _STEP in row else None


def _measurements(values: list[object]) -> list[float] | None:
    """Return the values if all of them are finite floats, as nearly always; else None."""
    floats = [value for value in values if type(value) is float]
    if len(floats) < len(values) or not math.isfinite(sum(floats)):
        return None
    return floats if min(floats) >= -GREATEST and max(floats) <= GREATEST else None


def _number(value: object) -> float | None:
    """Return a number; `NAN` for one that is not finite, None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    found = measured(value)
    return NAN if found is None else found
