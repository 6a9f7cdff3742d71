"""The protocol of the probe: its program and requests as bytes, and the frames of its answers.

Split the byte stream of a probe into frames; pure, and never holding more than one frame and one packet. The output
of a shell's start files comes before the marker and is skipped; after it every byte counts. The letters are described
in `program`.

Build what starts the probe on a host: a short command, and the program itself on standard input. Nothing is written
there. The command is quoted so that any log-in shell (bash, fish, csh) passes it to sh unchanged: one pair of single
quotes, and within it no single quote, backslash, exclamation mark or line end.
"""

import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from functools import cache
from importlib import resources
from typing import NamedTuple

from harvestd.convention.structs import Immutable
from harvestd.json_text import json_text
from harvestd.remote.probe.program import FILES, LATER

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


_LENGTH = struct.Struct(">I")
_PACKED_FROM = 512
"""Bytes: paths of thousands of files pack to a twentieth; unpacked they would fill the link's first round trips."""
_DOCSTRING = re.compile(r'"""[^"]*"""')
_COMMENTS = re.compile(r"\n(?: *#[^\n]*\n)+")
_OWN_IMPORT = re.compile(r"\nfrom harvestd\S+ import (?:\([^)]*\)|[^(\n]*)(?=\n)")
_PACKING = 6
"""zlib's level: 9 takes three times as long for a hundred bytes less."""


@cache
def program() -> str:
    """Return the program's text: its modules joined, without comments and their imports of each other."""
    return _joined(FILES)


@cache
def later() -> str:
    """Return the text of the part that is sent with the request that needs it."""
    return _joined(LATER)


def _joined(names: Iterable[str]) -> str:
    files = resources.files("harvestd.remote.probe.program")
    whole = "\n".join(files.joinpath(f"{name}.py").read_text("utf-8") for name in names)
    # A program that fits into a new connection's first round trip starts sooner.
    return _COMMENTS.sub("\n", _DOCSTRING.sub('""""""', _OWN_IMPORT.sub("", whole)))


@cache
def _packed() -> bytes:
    return zlib.compress(program().encode(), _PACKING)


def command() -> str:
    """Return the command to execute on the host; exit status 126 or 127 means that there is no Python."""
    # sys.stdin.buffer reads exactly the program; what it has buffered beyond that stays for the program's requests. -B:
    # a root's Python would write compiled modules. LC_ALL=C: every name survives the round trip, even on 3.6.
    # MALLOC_ARENA_MAX: a heap for each thread would take memory that training could use.
    take = f"import sys,zlib;exec(zlib.decompress(sys.stdin.buffer.read({len(_packed())})))"
    return (
        "/bin/sh -c '"
        "p=/usr/bin/python3; test -x $p || p=python3; LC_ALL=C MALLOC_ARENA_MAX=1; export LC_ALL MALLOC_ARENA_MAX; "
        f'exec $p -I -S -B -c "{take}"'
        "'"
    )


def message(value: dict[str, object]) -> bytes:
    """Return one request in the form in which it is sent to the program."""
    body = json_text(value).encode("ascii")
    if len(body) > _PACKED_FROM:
        body = zlib.compress(body, 1)
    return _LENGTH.pack(len(body)) + body


class Pulse(Immutable):
    """The interval of heartbeats, and how long the program waits for one before it ends by itself."""

    interval: timedelta = timedelta(seconds=15)
    silence: timedelta = timedelta(seconds=60)


def opening(marker: str, pulse: Pulse, credit: Mapping[str, int]) -> bytes:
    """Return the beginning of standard input: the program, then the greeting that requests `marker`.

    `credit`: how many bytes of each channel may be in flight at any time; see `grant`.
    """
    silence = pulse.silence.total_seconds()
    greeting = {"do": "hello", "marker": marker, "silence": silence, "credit": dict(credit)}
    return _packed() + message(greeting)


def grant(conversation: str, count: int) -> bytes:
    """Return the message that grants a channel `count` more bytes, for as many that were processed."""
    return message({"do": "grant", "of": conversation, "bytes": count})


def heartbeat(stamp: int) -> bytes:
    """Return the message that shows the program that the connection is in use; `stamp`: the time when it was sent."""
    return message({"do": "beat", "at": stamp})
