"""The contract of a connected box: look at its trees, read its files. The probe and the SFTP stand-in both keep it.

Everything a box answers is input from a stranger: sizes, names and frames are checked against `Limits` before they
are believed, a broken rule raises `HostQuarantined`, a lost link `Retry`. Nothing on the box is ever changed.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

from msgspec import field

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.convention.scan.snapshot import Entry, Snapshot, Tree, Version
from harvestd.convention.structs import Immutable
from harvestd.safety.circumstances import Circumstances


class WithoutProbe(Immutable):
    """Why a box is read without the probe."""

    reason: str
    """How the probe did not start, with the host's own words, made safe."""
    hint: str


class Limits(Immutable):
    """What one box may ask of us; beyond any of these it is quarantined."""

    frame_bytes: int = 4 * 1024 * 1024
    part_bytes: int = 2 * 1024 * 1024
    """Of the news of a look in one frame, unpacked: they are parsed at a stretch, and all hosts wait for that."""
    entries: int = 1_000_000
    rejected_names: int = 1_000
    scan_time: timedelta = timedelta(minutes=15)
    """For one look at all trees of a host: 1,000,000 entries on a network file system take several minutes."""
    inspect_time: timedelta = timedelta(minutes=5)
    """For what a verdict asks beside the trees: files elsewhere, git checkouts, GPUs. What takes longer is unknown."""
    answer_time: timedelta = timedelta(seconds=60)
    """Without one byte of an answer for this long, the box's file system hangs or the link is dead: `Retry`."""


class ReadRequest(Immutable, gc=False):
    """A file, or the part of it that is not here yet."""

    tree: Tree
    path: RemotePath
    offset: int = 0
    """Send the bytes from here on …"""
    length: int | None = None
    """… this many at most; None: to the end as fstat shows it when the file is opened. 0: no bytes, facts only."""
    verify_from: int | None = None
    """If given: also hash the bytes [verify_from, offset) and say it in `Opened`, before any byte is sent."""
    in_one: bool = False
    """Answer with one `Whole` instead of `Opened`, `Chunk` and `Closed`, where the file is small: for thousands."""


class Opened(Immutable, gc=False):
    """The box opened the file (no link, a regular file) and will send its bytes next."""

    request: ReadRequest
    version: Version
    """fstat before the first byte was read."""
    verified: str | None = None
    """SHA-256 (hex) of [verify_from, offset), where that was asked for; the empty range hashes to that of b""."""


class Chunk(Immutable, gc=False):
    """The next bytes of the file opened last."""

    data: bytes


class Closed(Immutable, gc=False):
    """All bytes asked for were sent (fewer if the file was truncated meanwhile: compare the versions)."""

    request: ReadRequest
    version: Version
    """fstat after the last byte was read; only if it equals `Opened.version` were the bytes one version."""
    sha256: str | None
    """Of exactly the bytes sent, hashed on the box; None where the transport can't (SFTP): then the two equal fstats
    and the transport's own integrity are all there is."""


class Failed(Immutable, gc=False):
    """This one file could not be read; the others go on. Comes instead of `Closed`, with or without `Opened`."""

    request: ReadRequest
    reason: str
    """In words: "vanished", "permission denied", "not a regular file", "input/output error" …"""
    vanished: bool = False


class Whole(Immutable, gc=False):
    """A small file in one, where that was asked for: its version was the same before and after it was read."""

    request: ReadRequest
    version: Version
    sha256: bytes
    """Of the data, hashed on the box; 32 bytes."""
    data: bytes


ReadEvent = Whole | Opened | Chunk | Closed | Failed


class BoxFacts(Immutable):
    """What the machine says of itself. All of it optional, none of it trusted."""

    gpu_names: tuple[str, ...] = ()
    """One entry a GPU, from nvidia-smi, e.g. "NVIDIA H100 80GB HBM3"."""
    hostname: str = ""
    utc_offset: timedelta = timedelta(0)
    """Of the box's local time: run directories carry it in their names."""
    free_bytes: int | None = None
    """Of the file system of the first root."""
    python: str = ""
    """Version of the box's Python, empty with the SFTP stand-in."""


class Reader(Protocol):
    """Reads files from a box."""

    @property
    def hashes_there(self) -> bool:
        """Whether the host hashes what `verify_from` asks for; else all of it is sent to be hashed here."""
        ...

    def reading(self, requests: Sequence[ReadRequest]) -> AbstractAsyncContextManager[AsyncIterator[ReadEvent]]:
        """Stream the answers to all `requests`, in their order: each Opened, Chunk…, Closed or Failed; or one Whole.

        One reading at a time: a second one waits until the first is left. Leaving the context early abandons what
        was not read yet, at the price of a new start for the next reading. Bounded memory: the box is held back while
        the caller does not iterate. Raises `Retry` (link), `HostQuarantined` (protocol broken).
        """
        ...


Glimpse = Callable[[Tree, Sequence[Entry]], None]
"""Told of a look's news as they come in, before the look is whole: nothing of it is sure yet."""


def unseen(_tree: Tree, _entries: Sequence[Entry]) -> None:
    """Glimpse nothing."""


class Box(Reader, Protocol):
    """A connected box."""

    @property
    def method(self) -> str:
        """How it is read: "probe" or "sftp"."""
        ...

    @property
    def without_probe(self) -> WithoutProbe | None:
        """Why it is read by SFTP alone; None where the probe runs."""
        ...

    @property
    def round_trip(self) -> float | None:
        """Seconds there and back, measured when it was opened or asked for facts; None before."""
        ...

    async def scan(self, glimpse: Glimpse = unseen) -> Snapshot:
        """Look at all trees now. The first look is whole; later ones cost only what changed.

        What comes in pieces is shown to `glimpse` piece by piece, which is called on the event loop: it must be quick.
        """
        ...

    async def scan_whole(self) -> Snapshot:
        """As `scan`, looking at every entry anew, those too that have long been at rest: for a verdict."""
        ...

    def look_ahead(self) -> None:
        """Begin the look that the next `scan` gives, where that is possible: it will not be older than this call."""
        ...

    async def changed(self) -> None:
        """Return when the box says, unasked, that something changed; never where it can't tell, or was not asked to.

        Raises `Retry` as soon as it shows that the box can't be reached any more.
        """
        ...

    async def pushed(self) -> Snapshot:
        """Return the look that `changed` told of; like `scan`, without a question."""
        ...

    async def facts(self) -> BoxFacts:
        """Ask the machine about itself; raises `Retry` as everything here does."""
        ...

    async def gpu_processes(self) -> int | None:
        """Ask how many processes run on the GPUs, which takes seconds in places; None where the box can't say.

        0 is a box that says so, or one without GPUs; one that has them and no working nvidia-smi can't say.
        """
        ...

    async def circumstances(self, lately: timedelta) -> Circumstances:
        """Ask what speaks for or against switching it off beside its trees; files count that changed within `lately`.

        May take minutes (`Limits.inspect_time`), and looks through the home directory: to be asked rarely. Where
        `lately` is zero, neither files nor checkouts are looked at. Raise `Retry`, `HostQuarantined`.
        """
        ...

    async def link_targets(self, links: Sequence[SymbolicLink]) -> Mapping[str, LinkTarget]:
        """Ask what links below the trees lead to, `MOST_LINKS` at most; by their places, and only where it can be told.

        May take a part of `Limits.inspect_time`: to be asked rarely. Raises `Retry`, `HostQuarantined`.
        """
        ...


MOST_LINKS = 200
"""Links in one question."""


class WatchList(Immutable):
    """What a box is asked to look at; fixed for the life of a connection."""

    trees: tuple[Tree, ...]
    prune: frozenset[str] = field(default_factory=frozenset)
    """Names of directories that are counted but not listed (.ipynb_checkpoints, .git …)."""
    push: bool = False
    """Have the box tell of changes by itself, where it can (`Box.changed`)."""
