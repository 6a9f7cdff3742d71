"""The interface of a connected host: scan its trees, read its files. The probe and the SFTP client implement it.

Every answer of a host is untrusted input: sizes, names and frames are checked against `Limits` before they are used. A
broken rule raises `HostQuarantined`, a lost link `Retry`. Nothing on the host is ever changed.
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
from harvestd.safety.inputs import Circumstances


class WithoutProbe(Immutable):
    """Why a host is read without the probe."""

    reason: str
    """How the probe failed to start, with the host's own text, made safe."""
    hint: str


class Limits(Immutable):
    """Limits on the answers of one host; beyond any of these it is quarantined."""

    frame_bytes: int = 4 * 1024 * 1024
    part_bytes: int = 2 * 1024 * 1024
    """Of a scan's changes in one frame, unpacked: they are parsed in one step, which blocks the event loop."""
    entries: int = 1_000_000
    rejected_names: int = 1_000
    scan_time: timedelta = timedelta(minutes=15)
    """For one scan of all trees of a host: 1,000,000 entries on a network file system take several minutes."""
    inspect_time: timedelta = timedelta(minutes=5)
    """For a verdict's checks beside the trees: files elsewhere, git checkouts, GPUs. What takes longer is unknown."""
    answer_time: timedelta = timedelta(seconds=60)
    """Without one byte of an answer for this long, the host's file system hangs or the link is dead: `Retry`."""


class ReadRequest(Immutable, gc=False):
    """A file, or the part of it that is still to be read."""

    tree: Tree
    path: RemotePath
    offset: int = 0
    """The first byte to send."""
    length: int | None = None
    """The most bytes to send; None: to the end as fstat shows it at the open. 0: no bytes, only the version."""
    verify_from: int | None = None
    """If set: also hash the bytes [verify_from, offset) and report it in `Opened`, before any byte is sent."""
    in_one: bool = False
    """For a small file: answer with one `Whole`, not `Opened`, `Chunk` and `Closed`; faster for many files."""


class Opened(Immutable, gc=False):
    """The host opened the file (no link, a regular file) and will send its bytes next."""

    request: ReadRequest
    version: Version
    """fstat before the first byte was read."""
    verified: str | None = None
    """SHA-256 (hex) of [verify_from, offset) where requested; the empty range has the hash of b""."""


class Chunk(Immutable, gc=False):
    """The next bytes of the file opened last."""

    data: bytes


class Closed(Immutable, gc=False):
    """All requested bytes were sent (fewer if the file was truncated meanwhile: compare the versions)."""

    request: ReadRequest
    version: Version
    """fstat after the last byte was read; only if it equals `Opened.version` did the bytes belong to one version."""
    sha256: str | None
    """Of exactly the bytes sent, hashed on the host; None for SFTP.

    Then only the two equal fstats and the transport's own integrity protect the bytes.
    """


class Failed(Immutable, gc=False):
    """This file could not be read; the others continue. Replaces `Closed`, with or without `Opened`."""

    request: ReadRequest
    reason: str
    """A text such as "vanished", "permission denied", "not a regular file" or "input/output error"."""
    vanished: bool = False


class Whole(Immutable, gc=False):
    """A small file in one answer, where requested: its version was the same before and after it was read."""

    request: ReadRequest
    version: Version
    sha256: bytes
    """Of the data, hashed on the host; 32 bytes."""
    data: bytes


ReadEvent = Whole | Opened | Chunk | Closed | Failed


class BoxFacts(Immutable):
    """What the host reports about itself. All of it is optional and untrusted."""

    gpu_names: tuple[str, ...] = ()
    """One entry a GPU, from nvidia-smi, e.g. "NVIDIA H100 80GB HBM3"."""
    hostname: str = ""
    utc_offset: timedelta = timedelta(0)
    """Of the host's local time: the names of run directories contain local times."""
    free_bytes: int | None = None
    """Of the file system of the first root."""
    python: str = ""
    """Version of the host's Python; empty with SFTP."""


class Reader(Protocol):
    """Reads files from a host."""

    @property
    def hashes_there(self) -> bool:
        """Whether the host hashes the range of `verify_from`; else the range is sent and hashed here."""
        ...

    def reading(self, requests: Sequence[ReadRequest]) -> AbstractAsyncContextManager[AsyncIterator[ReadEvent]]:
        """Stream the answers to all `requests`, in their order: each Opened, Chunk…, Closed or Failed; or one Whole.

        One reading at a time: a second one waits until the first is left. Leaving the context early abandons the rest,
        and the next reading then has to start anew. Memory is bounded: the host is paused while the caller does not
        iterate. Raise `Retry` (link), `HostQuarantined` (protocol broken).
        """
        ...


class OwnScan(Immutable, gc=False):
    """A scan that a host made by itself and that found nothing new."""

    began: float
    """When it began at the earliest, in monotonic seconds of our clock."""
    duration: float
    """Seconds, as the host says."""


NEVER = float("-inf")
"""A time before all others."""
REST_PER_SCAN = 3.0
"""A host that scans by itself rests for at least this many times the duration of each scan."""
WHOLE_EVERY = 600.0
"""Seconds after which every entry is read again, even where neither notices nor recent changes point to it."""

OnPartialScan = Callable[[Tree, Sequence[Entry]], None]
"""Called with a scan's changes as they arrive, before the scan is complete: they are provisional."""


def ignore_partial(_tree: Tree, _entries: Sequence[Entry]) -> None:
    """Ignore partial results."""


class Box(Reader, Protocol):
    """A connected host."""

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
        """Seconds of one round trip, measured when the host was opened or `facts` was called; None before."""
        ...

    @property
    def last_scan_began(self) -> float:
        """When the last scan that covered all trees began at the earliest, in monotonic seconds; `NEVER` before one.

        What the host reports between such scans may be incomplete, and does not count.
        """
        ...

    async def scan(self, on_partial: OnPartialScan = ignore_partial) -> Snapshot:
        """Scan all trees now. The first scan is complete; later ones cost only what changed.

        Partial results are passed to `on_partial`, which is called on the event loop: it must be quick.
        """
        ...

    async def scan_whole(self) -> Snapshot:
        """Scan as `scan` does, but read every entry anew, unchanged ones too: for a verdict."""
        ...

    def scan_ahead(self) -> None:
        """Begin the scan that the next `scan` returns, where possible: it will not be older than this call."""
        ...

    def scan_every(self, seconds: float | None) -> bool:
        """Have the host scan by itself in this interval (None: never) after the next scan; return whether it can.

        It can't where it was not asked to push.
        """
        ...

    async def changed(self) -> None:
        """Wait until the host reports something by itself; never return where it can't, or was not asked to.

        Raise `Retry` as soon as the host can't be reached any more.
        """
        ...

    def own_scans(self) -> Sequence[OwnScan] | None:
        """Take the reports of the host's own scans that found nothing new, if nothing else has arrived.

        None: there is something else, which `pushed` returns, or a scan is under way; then nothing is taken. Empty: the
        host is only still scanning, or nothing has arrived. Raise `HostQuarantined`.
        """
        ...

    async def pushed(self) -> Snapshot:
        """Return the scan that `changed` announced; as `scan`, without a request."""
        ...

    async def facts(self) -> BoxFacts:
        """Return the host's facts about itself; raise `Retry` as every method here does."""
        ...

    async def gpu_processes(self) -> int | None:
        """Return how many processes run on the GPUs, which may take seconds; None where it is unknown.

        0 means that the host reports none, or has no GPUs; a host with GPUs and no working nvidia-smi is unknown.
        """
        ...

    async def circumstances(self, lately: timedelta) -> Circumstances:
        """Return the evidence, beside the trees, for or against terminating the host.

        Files count that changed within `lately`. May take minutes (`Limits.inspect_time`) and reads the home directory:
        call it rarely. Where `lately` is zero, neither files nor checkouts are read. Raise `Retry`, `HostQuarantined`.
        """
        ...

    async def link_targets(self, links: Sequence[SymbolicLink]) -> Mapping[str, LinkTarget]:
        """Return the targets of links below the trees, `MOST_LINKS` at most, by their places.

        A link that can't be resolved is left out. May take a part of `Limits.inspect_time`: call it rarely. Raise
        `Retry`, `HostQuarantined`.
        """
        ...


MOST_LINKS = 200
"""Most links in one request."""


class WatchList(Immutable):
    """The trees that a host is asked to watch; fixed for the life of a connection."""

    trees: tuple[Tree, ...]
    prune: frozenset[str] = field(default_factory=frozenset)
    """Names of directories that are counted but not listed (.ipynb_checkpoints, .git …)."""
    push: bool = False
    """Have the host report changes by itself, where it can (`Box.changed`)."""
