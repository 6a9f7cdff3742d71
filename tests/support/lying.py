"""A scripted box: an SSH server that plays the probe's part and may say what no honest OpenSSH would.

Honest by itself: it tells of a real directory and reads real files. What a test changes is the lie.
"""

import asyncio
import hashlib
import json
import os
import re
import stat
import struct
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import cast

import asyncssh

from support.house import GpuBox, Workstation
from support.openssh import OpenSSHServer, generate_key

Asked = dict[str, object]
Script = Callable[[Asked], bytes | Iterable[bytes]]
"""From a request to the raw bytes of its answer, which may be endless."""
Row = list[object]
"""An entry as the probe tells it: name, letter, size, mtime, ctime, inode, and a link's target."""

_PIECE = 64 * 1024
_HEAD = struct.Struct(">I")


def frame(letter: bytes, payload: bytes) -> bytes:
    """Return one frame."""
    return _HEAD.pack(len(payload) + 1) + letter + payload


def json_frame(letter: bytes, value: object) -> bytes:
    """Return one frame of JSON."""
    return frame(letter, json.dumps(value).encode())


def scan_part(**news: object) -> bytes:
    """Return news of the first tree, or of `tree`; `set` and `gone` by directory."""
    return frame(b"S", zlib.compress(json.dumps({"tree": 0, **news}).encode()))


def end(number: object, trees: int = 1) -> bytes:
    """Return the end of a scan."""
    return json_frame(b"E", {"id": number, "now": 1, "trees": [[n, "present", 1, "ext4"] for n in range(trees)]})


def entry(name: object = "a", kind: object = "f", *fields: object) -> Row:
    """Return an entry's row with some of its fields replaced."""
    return [name, kind, *(fields or (1, 2, 3, 4))]


async def play_probe(process: asyncssh.SSHServerProcess[bytes], script: Script) -> None:
    """Play a probe's part honestly up to the greeting, then as the script says."""
    (size,) = re.findall(r"read\((\d+)\)", process.command or "")
    await process.stdin.readexactly(int(size))

    async def request() -> Asked:
        (length,) = _HEAD.unpack(await process.stdin.readexactly(_HEAD.size))
        body = await process.stdin.readexactly(length)
        return cast("Asked", json.loads(body if body.startswith(b"{") else zlib.decompress(body)))

    hello = await request()
    process.stdout.write(str(hello["marker"]).encode() + json_frame(b"H", {"python": "3.10.0"}))
    while True:
        asked = await request()
        if asked["do"] == "facts":
            facts = {"id": 1, "gpus": [], "host": "liar", "utc_offset": 0, "free": None, "python": "3.10.0"}
            process.stdout.write(json_frame(b"F", facts))
        elif asked["do"] == "processes":
            process.stdout.write(json_frame(b"F", {"id": 2, "processes": 0}))
        elif asked["do"] == "circumstances":
            unknown = {
                "id": 3,
                "machine": "",
                "host": "liar",
                "devices": [None] * len(cast("list[str]", asked["roots"])),
            }
            process.stdout.write(json_frame(b"F", unknown))
        elif asked["do"] == "links":
            process.stdout.write(
                json_frame(b"F", {"id": 4, "links": [None] * len(cast("list[object]", asked["links"]))})
            )
        elif asked["do"] in {"scan", "read"}:
            answer = script(asked)
            for piece in [answer] if isinstance(answer, bytes) else answer:
                process.stdout.write(piece)
                await process.stdout.drain()
                # Tiny pieces never fill the buffer, and whoever is to hang up must be heard.
                await asyncio.sleep(0)


class Open(asyncssh.SSHServer):
    """Lets anybody in."""

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002  (asyncssh's signature)
        """Ask for nothing."""
        return False


@cache
def _host_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


@asynccontextmanager
async def listening(script: Callable[[], Script] | None, **options: object) -> AsyncIterator[int]:
    """Listen on loopback with a scripted probe (None: as `options` say); gives the port.

    Each connection's probe has a script of its own.
    """

    async def process(channel: asyncssh.SSHServerProcess[bytes]) -> None:
        try:
            await play_probe(channel, cast("Callable[[], Script]", script)())
        except (asyncssh.Error, asyncio.IncompleteReadError, OSError):
            channel.close()

    if script is not None:
        options["process_factory"] = process
    options = {"server_factory": Open, **options}
    async with asyncssh.listen("127.0.0.1", 0, server_host_keys=[_host_key()], encoding=None, **options) as server:
        yield server.get_port()


@dataclass(frozen=True)
class _LogIn:
    user: str
    client_key: Path


def log_in_key(workstation: Workstation) -> Path:
    """Return the key with which a workstation logs in to scripted boxes."""
    key = workstation.config.with_name("key_for_liars")
    return key if key.exists() else generate_key(key)


def add_port(workstation: Workstation, name: str, port: int, root: Path) -> None:
    """Let a workstation know of a box that listens on `port`, with the same log-in as any."""
    login = _LogIn("anybody", log_in_key(workstation))
    # Of a box's server the configuration needs these two only.
    workstation.boxes[name] = GpuBox(cast("OpenSSHServer", login), root, port)


@dataclass
class Liar:
    """A box with an honest directory, and what it says beside the truth or in its place."""

    root: Path
    rows: list[tuple[str, str, Row]] = field(default_factory=list)
    """Entries that are told and are not there: tree, directory, row; one of the same name stands for the true one."""
    scan: Script | None = None
    """Answers a scan in place of the truth."""
    read: Callable[[int, str], bytes | Iterable[bytes] | None] = lambda *_: None
    """Answers for a file, by its number and path below its tree; None: the truth."""
    heard: list[str] = field(default_factory=list)
    """What was asked for: "scan", or a file's path."""

    def script(self) -> Script:
        """Return the script of one connection."""
        known: dict[int, bytes] = {}

        def answer(asked: Asked) -> bytes | Iterable[bytes]:
            if asked["do"] == "scan":
                self.heard.append("scan")
                return self.scan(asked) if self.scan else self.look(asked, known)
            return self._files(asked)

        return answer

    def look(self, asked: Asked, known: dict[int, bytes] | None = None) -> bytes:
        """Answer a scan: each tree whole where it is another one than `known`."""
        known = {} if known is None else known
        trees = cast("list[tuple[str, str, bool]]", asked["trees"])
        parts = b""
        # It tells of directories in every tree, also where they are not asked for.
        for number, (root, name, _bare) in enumerate(trees):
            told_rows = self._told(Path(root) / name, name)
            part = scan_part(tree=number, set=told_rows)
            if known.get(number) != part and told_rows:
                known[number] = part
                parts += part
        return parts + end(asked["id"], len(trees))

    def _told(self, place: Path, tree: str) -> list[list[object]]:
        found: dict[str, dict[object, Row]] = {}
        for directory, folders, files in os.walk(place):
            below = os.path.relpath(directory, place)
            rows = {name: row_of(Path(directory) / name) for name in [*folders, *files]}
            found["" if below == "." else below] = cast("dict[object, Row]", rows)
        for where, directory, row in self.rows:
            if where == tree:
                found.setdefault(directory, {})[json.dumps(row[0])] = row
                found[directory].pop(row[0] if isinstance(row[0], str) else None, None)
        return [[directory, list(rows.values())] for directory, rows in found.items()]

    def _files(self, asked: Asked) -> Iterator[bytes]:
        trees = cast("list[list[str]]", asked["trees"])
        for number, tree, path, offset, length, verify in cast(
            "list[tuple[int, int, str, int, int, int]]", asked["files"]
        ):
            self.heard.append(path)
            lie = self.read(number, path)
            if lie is not None:
                yield from [lie] if isinstance(lie, bytes) else lie
                continue
            yield from honest(number, Path(*trees[tree][:2]) / path, offset, length, verify)
        if not asked["more"]:
            yield json_frame(b"R", {"id": asked["id"]})


def row_of(path: Path) -> Row:
    """Return the true row of a directory's entry."""
    found = path.lstat()
    version = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    if stat.S_ISLNK(found.st_mode):
        return [path.name, "l", *version, str(path.readlink())]
    return [path.name, "d" if stat.S_ISDIR(found.st_mode) else "f", *version]


def honest(number: int, path: Path, offset: int, length: int | None, verify: int | None) -> Iterator[bytes]:
    """Yield the true answer for a file."""
    if not path.is_file():
        yield json_frame(b"X", {"id": number, "reason": "vanished", "vanished": True})
        return
    content = path.read_bytes()
    yield from answered(number, content, row_of(path)[2:6], offset, length, verify)


def answered(
    number: int,
    content: bytes,
    version: Row,
    offset: int = 0,
    length: int | None = None,
    verify: int | None = None,
) -> Iterator[bytes]:
    """Yield the answer for a file of this content."""
    verified = None if verify is None else hashlib.sha256(content[verify:offset]).hexdigest()
    yield json_frame(b"O", {"id": number, "version": version, "verified": verified})
    wanted = content[offset:] if length is None else content[offset : offset + length]
    for start in range(0, len(wanted), _PIECE):
        yield frame(b"D", wanted[start : start + _PIECE])
    yield json_frame(b"C", {"id": number, "version": version, "sha256": hashlib.sha256(wanted).hexdigest()})


def settled(directory: Path, seconds: float = 3600.0) -> None:
    """Make everything below a directory as old as this."""
    then = time.time() - seconds
    for place, _, files in os.walk(directory):
        for name in files:
            os.utime(Path(place) / name, (then, then), follow_symlinks=False)
