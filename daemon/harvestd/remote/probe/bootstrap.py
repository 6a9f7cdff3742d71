"""How the probe gets onto a box: a short command, and the program itself on standard input.

Nothing is written there. The command is quoted so that any log-in shell (bash, fish, csh) hands it to sh unchanged:
one pair of single quotes, and within it neither a single quote nor a backslash, exclamation mark or line end.
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
"""Bytes: paths of thousands of files pack to a twentieth, and would fill the link's first round trips."""
_DOCSTRING = re.compile(r'"""[^"]*"""')
_COMMENTS = re.compile(r"\n(?: *#[^\n]*\n)+")
_OWN_IMPORT = re.compile(r"\nfrom harvestd\S+ import (?:\([^)]*\)|[^(\n]*)(?=\n)")
_PACKING = 6
"""zlib's level: 9 takes three times as long for a hundred bytes less."""


@cache
def program() -> str:
    """Return the text of the program: its modules joined, without comments and their imports of each other."""
    return _joined(FILES)


@cache
def later() -> str:
    """Return the text of that part of it which travels with the question that needs it."""
    return _joined(LATER)


def _joined(names: Iterable[str]) -> str:
    files = resources.files("harvestd.remote.probe.program")
    whole = "\n".join(files.joinpath(f"{name}.py").read_text("utf-8") for name in names)
    # A program that fits a new connection's first round trip starts sooner.
    return _COMMENTS.sub("\n", _DOCSTRING.sub('""""""', _OWN_IMPORT.sub("", whole)))


@cache
def _packed() -> bytes:
    return zlib.compress(program().encode(), _PACKING)


def command() -> str:
    """Return the command to execute on the box; exit status 126 or 127 says that there is no Python."""
    # sys.stdin.buffer takes exactly the program; what it has read beyond that it keeps for the program's requests.
    # -B: a root's Python would write compiled modules. LC_ALL=C: every name makes the round trip, even on 3.6.
    # MALLOC_ARENA_MAX: a heap for each thread would be memory that training could use.
    take = f"import sys,zlib;exec(zlib.decompress(sys.stdin.buffer.read({len(_packed())})))"
    return (
        "/bin/sh -c '"
        "p=/usr/bin/python3; test -x $p || p=python3; LC_ALL=C MALLOC_ARENA_MAX=1; export LC_ALL MALLOC_ARENA_MAX; "
        f'exec $p -I -S -B -c "{take}"'
        "'"
    )


def message(value: dict[str, object]) -> bytes:
    """Return one request as it travels to the program."""
    body = json_text(value).encode("ascii")
    if len(body) > _PACKED_FROM:
        body = zlib.compress(body, 1)
    return _HEAD.pack(len(body)) + body


class Pulse(Immutable):
    """How often we beat, and for how long the program waits for a beat before it ends by itself."""

    interval: timedelta = timedelta(seconds=15)
    silence: timedelta = timedelta(seconds=60)


def opening(marker: str, pulse: Pulse, credit: Mapping[str, int]) -> bytes:
    """Return what standard input starts with: the program, then the greeting that asks for `marker`.

    `credit`: how many bytes of each conversation may be on their way to us at any time; see `grant`.
    """
    silence = pulse.silence.total_seconds()
    greeting = {"do": "hello", "marker": marker, "silence": silence, "credit": dict(credit)}
    return _packed() + message(greeting)


def grant(conversation: str, count: int) -> bytes:
    """Return the message that allows a conversation `count` more bytes, for as many that were taken off our hands."""
    return message({"do": "grant", "of": conversation, "bytes": count})


HEARTBEAT = message({"do": "beat"})
"""Says that we are still here."""
