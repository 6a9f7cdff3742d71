"""What the tests of remote/ share: a target for a test's sshd, kept pins, and whole answers instead of events."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.snapshot import Entry, Listing, Snapshot, Tree, TreeKind
from harvestd.errors import HarvestError
from harvestd.remote.api import Box, Chunk, Closed, Failed, Limits, Opened, Reader, ReadRequest, WatchList
from harvestd.remote.open import open_box
from harvestd.remote.ssh.connect import connect
from harvestd.remote.ssh.connection import Connection
from harvestd.remote.ssh.target import Target
from support.openssh import OpenSSHServer


class Pins:
    """Host keys in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    async def get(self, identity: str) -> str | None:
        """Return the kept key."""
        return self.kept.get(identity)

    async def put(self, identity: str, key_line: str) -> None:
        """Keep a key."""
        self.kept[identity] = key_line


def target_for(server: OpenSSHServer, **changes: object) -> Target:
    """Return the target that leads to `server`."""
    target = Target(
        identity=server.name,
        address=server.address,
        port=server.port,
        user=server.user,
        identity_files=(server.client_key,),
        agent=False,
        connect_timeout=timedelta(seconds=10),
    )
    return replace(target, **changes)


def training(root: Path) -> Tree:
    """Return the tree that the tests watch."""
    return Tree(str(root), "training_runs", TreeKind.TRAINING)


def watching(*trees: Tree, prune: Sequence[str] = ()) -> WatchList:
    """Return a watch list."""
    return WatchList(trees, frozenset(prune))


@asynccontextmanager
async def connection_to(server: OpenSSHServer) -> AsyncIterator[Connection]:
    """Connect with fresh pins."""
    async with connect(target_for(server), Pins()) as connection:
        yield connection


@asynccontextmanager
async def box_at(server: OpenSSHServer, watch: WatchList, limits: Limits | None = None) -> AsyncIterator[Box]:
    """Connect and open the box."""
    async with connection_to(server) as connection, open_box(connection, watch, limits or Limits()) as box:
        yield box


def listing(snapshot: Snapshot) -> Listing:
    """Return the only listing."""
    (only,) = snapshot.listings
    return only


def entry(snapshot: Snapshot, path: str) -> Entry:
    """Return one entry of the only listing."""
    return listing(snapshot).entries[RemotePath.parse(path)]


def names(snapshot: Snapshot) -> set[str]:
    """Return the paths in the only listing."""
    return {str(path) for path in listing(snapshot).entries}


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that came for one request."""

    opened: Opened | None
    data: bytes
    end: Closed | Failed


async def read(reader: Reader, requests: Sequence[ReadRequest]) -> list[Answer]:
    """Read all of `requests`; fails where events come in an order that the contract rules out."""
    answers: list[Answer] = []
    opened: Opened | None = None
    data = bytearray()
    async with reader.reading(requests) as events:
        async for event in events:
            assert event is not None
            match event:
                case Opened():
                    assert opened is None
                    opened = event
                case Chunk(piece):
                    assert opened is not None
                    assert piece
                    data += piece
                case Closed() | Failed():
                    assert event.request == requests[len(answers)]
                    answers.append(Answer(opened, bytes(data), event))
                    opened, data = None, bytearray()
    assert len(answers) == len(requests)
    return answers


def probes(server: OpenSSHServer) -> list[int]:
    """Return the probes that run for `server`."""
    found = []
    for pid in server.commands():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"zlib.decompress" in line and not line.startswith(b"/bin/sh"):
            found.append(pid)
    return found


def sftp_program() -> str:
    """Return OpenSSH's SFTP server as a program; skips where there is none."""
    places = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
    found = next((place for place in places if Path(place).exists()), None)
    if found is None:
        pytest.skip("needs sftp-server as a program")
    return found


def fill(root: Path, files: dict[str, bytes]) -> None:
    """Write files below the training tree."""
    for name, content in files.items():
        path = root / "training_runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def wanted(root: Path, path: str, offset: int = 0, length: int | None = None) -> ReadRequest:
    """Ask for a file below the training tree."""
    return ReadRequest(training(root), RemotePath.parse(path), offset, length)


async def outcome(target: Target, pins: Pins | None = None) -> HarvestError | None:
    """Connect and leave; gives the error if there was one."""
    try:
        async with connect(target, pins or Pins()):
            return None
    except HarvestError as e:
        return e
