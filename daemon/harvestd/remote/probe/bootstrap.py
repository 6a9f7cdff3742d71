"""Build what starts the probe on a host: a short command, and the program itself on standard input.

Nothing is written there. The command is quoted so that any log-in shell (bash, fish, csh) passes it to sh unchanged:
one pair of single quotes, and within it no single quote, backslash, exclamation mark or line end.
"""

import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cache
from importlib import resources

from harvestd.convention.structs import Immutable
from harvestd.json_text import json_text
from harvestd.remote.probe.program import FILES, LATER

_HEAD = struct.Struct(">I")
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
    return _HEAD.pack(len(body)) + body


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
