"""Decode a probe's frames; every type, range and name is checked here.

Pure. Content may still be false (a size need not be the file's), but no value is negative or unbounded, and no path
leads out of its tree. A broken rule raises `BrokenAnswer`; its text never repeats what the host sent.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from datetime import timedelta

from harvestd.convention.paths import RejectedPath, RemotePath, shared
from harvestd.convention.scan.snapshot import Entry, EntryType, TreeState, Version
from harvestd.convention.structs import Immutable
from harvestd.remote.api import BoxFacts, Closed, Failed, Opened, ReadRequest, Whole
from harvestd.remote.probe.decode_records import (
    MOST,
    MOST_TEXT,
    BrokenAnswer,
    integer,
    items,
    line_of_text,
    link_target,
    object_in,
    text,
)

_MOST_GPUS = 64
_DAY = 86_400
_HASH_CHARACTERS = 64
_HASH_OF_NOTHING = hashlib.sha256(b"").hexdigest()
_MOST_NAMES = 4096
"""In one frame of a scan, since decoding it blocks the event loop; the probe sends half as many at most."""
_PAIR = 2
_FILE_FIELDS = 6
_LINK_FIELDS = 7
_SHOWN_REASON = 200
_OF_DIRECTORIES = Version(0, 0)
"""Only their existence is used, and there are as many of them as of files."""
_KINDS = {kind.value: kind for kind in EntryType}
_WHOLE = struct.Struct(">IQqqQ32s")
"""The head of a small file, or of a hash alone, in one frame: its number, its version, its SHA-256."""


def _version(value: object) -> Version:
    match items(value):
        case [size, mtime, ctime, inode]:
            return _version_of(size, mtime, ctime, inode)
        case _:
            raise BrokenAnswer("a version of another shape")


def _version_of(size: object, mtime: object, ctime: object, inode: object, least: int = 0) -> Version:
    # This runs for each of 100,000s of entries, so the checks of `integer` are inlined.
    if not type(size) is type(mtime) is type(ctime) is type(inode) is int:
        raise BrokenAnswer("a number that is none")
    if not (least <= size <= MOST and -MOST <= mtime <= MOST and -MOST <= ctime <= MOST and 0 <= inode <= 2**64):
        raise BrokenAnswer("a number that is out of range")
    # Usually both are the moment of the last write: one number object then, instead of two for each file.
    return Version(size, mtime, mtime if ctime == mtime else ctime, inode)


def _hash(value: object) -> str:
    digest = text(value)
    if len(digest) != _HASH_CHARACTERS or not set(digest) <= set("0123456789abcdef"):
        raise BrokenAnswer("a hash that is none")
    return digest


class ScanPart(Immutable):
    """The changes of one tree."""

    tree: int
    """Its index in the watch list."""
    changed: tuple[Entry, ...]
    gone: tuple[RemotePath, ...]
    unreadable: tuple[RemotePath, ...]
    readable: tuple[RemotePath, ...]
    rejected: frozenset[int]
    """Names that `RemotePath` refused, each as its hash: they may be long, and are only counted."""
    rejected_gone: frozenset[int]
    """Refused names that do not exist any more."""


def scan_part(payload: bytes, trees: int, limit: int) -> ScanPart:
    """Return the changes in a scan's frame; `trees`: the length of the watch list, `limit`: bytes when unpacked."""
    unpacking = zlib.decompressobj()
    try:
        plain = unpacking.decompress(payload, limit)
    except zlib.error as e:
        raise BrokenAnswer("a scan that can't be unpacked") from e
    if not unpacking.eof:
        raise BrokenAnswer(f"a scan that unpacks to more than {limit} bytes")
    value = object_in(plain)
    names, old_names = _Names(), _Names()
    return ScanPart(
        tree=integer(value.get("tree"), most=trees - 1),
        changed=tuple(names.entries(value.get("set", []))),
        gone=tuple(old_names.below(value.get("gone", []))),
        unreadable=names.paths(value.get("shut", [])),
        readable=old_names.paths(value.get("open", [])),
        rejected=frozenset(names.rejected),
        rejected_gone=frozenset(old_names.rejected),
    )


class _Names:
    """Decodes names and records which were refused."""

    def __init__(self) -> None:
        self.rejected: set[int] = set()
        self._known: dict[str, RemotePath] = {}
        """Directories by their text."""
        self._names_received = 0

    def path(self, value: object) -> RemotePath | None:
        if not isinstance(value, str):
            raise BrokenAnswer("a name that is no text")
        try:
            return RemotePath.parse(value)
        except RejectedPath:
            self.rejected.add(hash(value))
            return None

    def paths(self, value: object) -> tuple[RemotePath, ...]:
        """Return the paths of names that are listed one by one."""
        names_given = items(value)
        self._count(len(names_given))
        return tuple(path for name in names_given if (path := self.path(name)) is not None)

    def _count(self, names: int) -> None:
        """Count names of this frame; raise `BrokenAnswer` beyond the most that one frame may hold."""
        self._names_received += names
        if self._names_received > _MOST_NAMES:
            raise BrokenAnswer("more names at once than are ever told")

    def _directories(self, value: object) -> Iterator[tuple[str, RemotePath | None, list[object]]]:
        """Yield each directory (None: the tree itself, or one whose own name is refused) with the rows for it."""
        pairs = items(value)
        if len(pairs) > _MOST_NAMES:
            raise BrokenAnswer("more directories at once than are ever told")
        for pair in pairs:
            if not (isinstance(pair, list) and len(pair) == _PAIR):
                raise BrokenAnswer("news of another shape")
            directory, given = pair
            if not (isinstance(directory, str) and isinstance(given, list)):
                raise BrokenAnswer("news of another shape")
            self._count(len(given))
            yield directory, self._directory(directory) if directory else None, given

    def _directory(self, text: str) -> RemotePath | None:
        """Return a directory's path; most are below the directory that was decoded last, or beside it."""
        above, _, name = text.rpartition("/")
        known = self._known.get(above)
        path = self.path(text) if known is None else self._child(above, known, name)
        if path is not None:
            self._known[text] = path
        return path

    def _child(self, directory: str, above: RemotePath | None, name: object) -> RemotePath | None:
        if not isinstance(name, str):
            raise BrokenAnswer("a name that is no text")
        try:
            if above is not None:
                return above.child(shared(name))
            if not directory:
                return RemotePath((name,))
        except RejectedPath:
            pass
        self.rejected.add(hash((directory, name)))
        return None

    def below(self, value: object) -> Iterator[RemotePath]:
        """Yield the paths of names that are listed by directory."""
        for directory, above, given in self._directories(value):
            for name in given:
                path = self._child(directory, above, name)
                if path is not None:
                    yield path

    def entries(self, value: object) -> Iterator[Entry]:
        """Yield the entries that are listed by directory."""
        for directory, above, given in self._directories(value):
            for row in given:
                fields = items(row)
                if not _FILE_FIELDS <= len(fields) <= _LINK_FIELDS:
                    raise BrokenAnswer("an entry of another shape")
                name, letter, size, mtime, ctime, inode = fields[:_FILE_FIELDS]
                kind = _KINDS.get(letter) if isinstance(letter, str) else None
                if kind is None:
                    raise BrokenAnswer("an entry of an unknown kind")
                if (kind is EntryType.LINK) != (len(fields) == _LINK_FIELDS):
                    raise BrokenAnswer("an entry of another shape")
                version = _version_of(size, mtime, ctime, inode, least=-1 if kind is EntryType.PRUNED else 0)
                if kind is EntryType.DIRECTORY:
                    version = _OF_DIRECTORIES
                target = link_target(fields[_FILE_FIELDS]) if kind is EntryType.LINK else None
                path = self._child(directory, above, name)
                if path is not None:
                    yield Entry(path, kind, version, target)


class TreeUpdate(Immutable):
    """A tree's state, where it differs from the one before."""

    tree: int
    state: TreeState
    device: int
    filesystem: str
    drifts: bool = False
    """See `Listing.drifts`."""


class ScanEnd(Immutable):
    """The end of a scan."""

    scan: int
    """The number of the request that is answered; 0 if there was none."""
    box_time_ns: int
    trees: tuple[TreeUpdate, ...]
    stamp: int | None = None
    """The newest stamp of ours that the host had when the scan began; None if the scan does not count as complete."""
    duration: float = 0.0
    """Seconds that the scan took."""


def scan_end(payload: bytes, trees: int) -> ScanEnd:
    """Return the content of the frame that ends a scan."""
    value = object_in(payload)
    rows = items(value.get("trees"))
    if len(rows) > trees:
        raise BrokenAnswer("news of more trees than there are")
    stamp, duration = value.get("at"), value.get("took")
    return ScanEnd(
        scan=integer(value.get("id")),
        box_time_ns=integer(value.get("now")),
        trees=tuple(_tree_update(row, trees) for row in rows),
        stamp=None if stamp is None else integer(stamp),
        duration=0.0 if duration is None else integer(duration) / 1000,
    )


def unchanged(payload: bytes) -> ScanEnd:
    """Return the content of the frame that ends a scan of the host's own that found nothing new."""
    return scan_end(payload, 0)


def _tree_update(row: object, trees: int) -> TreeUpdate:
    match items(row):
        case [tree, state, device, filesystem, *rest] if rest in ([], [False], [True]):
            try:
                known = TreeState(text(state))
            except ValueError as e:
                raise BrokenAnswer("a tree in an unknown state") from e
            return TreeUpdate(
                integer(tree, most=trees - 1),
                known,
                integer(device, most=2**64),
                line_of_text(filesystem, 64),
                rest == [True],
            )
        case _:
            raise BrokenAnswer("a tree's state of another shape")


def facts(payload: bytes) -> BoxFacts:
    """Return the host's facts about itself."""
    value = object_in(payload)
    free = value.get("free")
    return BoxFacts(
        gpu_names=tuple(line_of_text(name, 256) for name in items(value.get("gpus"))[:_MOST_GPUS]),
        hostname=line_of_text(value.get("host"), 256),
        utc_offset=timedelta(seconds=integer(value.get("utc_offset"), least=-_DAY, most=_DAY)),
        free_bytes=None if free is None else integer(free),
        python=python(payload),
    )


def gpu_processes(payload: bytes) -> int | None:
    """Return how many processes run on a host's GPUs; None where the host reports no number."""
    count = object_in(payload).get("processes")
    return None if count is None else integer(count)


def python(payload: bytes) -> str:
    """Return the version of the host's Python from a greeting or from facts."""
    return line_of_text(object_in(payload).get("python"), 64)


def whole(payload: bytes, number: int, request: ReadRequest) -> Whole:
    """Return a small file in one frame, file `number`, which must be all of what `request` asks for."""
    if len(payload) < _WHOLE.size:
        raise BrokenAnswer("a file without a head")
    number_given, size, mtime, ctime, inode, sha256 = _WHOLE.unpack_from(payload)
    data = payload[_WHOLE.size :]
    if number_given != number:
        raise BrokenAnswer("an answer to another question")
    if request.offset or request.verify_from is not None or len(data) != size:
        raise BrokenAnswer("a file that is not what was asked for")
    if request.length is not None and size > request.length:
        raise BrokenAnswer("more bytes than were asked for")
    return Whole(request, Version(size, mtime, ctime, inode), sha256, data)


def opened(payload: bytes, number: int, request: ReadRequest) -> Opened:
    """Return the answer that starts file `number`, which must be the one for `request`."""
    value = _answer(payload, number)
    verified = None if request.verify_from is None else _hash(value.get("verified"))
    if request.verify_from == request.offset and verified != _HASH_OF_NOTHING:
        # Without this check, a reader that starts at 0 could be made to start again for ever.
        raise BrokenAnswer("a hash of no bytes that is none")
    return Opened(request, _version(value.get("version")), verified)


def verified(payload: bytes, number: int, request: ReadRequest) -> tuple[Opened, Closed]:
    """Return the answer about file `number` of which only a hash was requested."""
    if request.length != 0 or request.verify_from is None or len(payload) != _WHOLE.size:
        raise BrokenAnswer("a hash that was not asked for")
    number_given, size, mtime, ctime, inode, sha256 = _WHOLE.unpack(payload)
    if number_given != number:
        raise BrokenAnswer("an answer to another question")
    if request.verify_from == request.offset and sha256.hex() != _HASH_OF_NOTHING:
        raise BrokenAnswer("a hash of no bytes that is none")
    version = _version_of(size, mtime, ctime, inode)
    return Opened(request, version, sha256.hex()), Closed(request, version, _HASH_OF_NOTHING)


def closed(payload: bytes, number: int, request: ReadRequest) -> Closed:
    """Return the answer that ends file `number`."""
    value = _answer(payload, number)
    return Closed(request, _version(value.get("version")), _hash(value.get("sha256")))


def failed(payload: bytes, number: int, request: ReadRequest) -> Failed:
    """Return why file `number` could not be read."""
    value = _answer(payload, number)
    reason = line_of_text(value.get("reason"), _SHOWN_REASON)
    return Failed(request, reason, vanished=value.get("vanished") is True)


def refusal(payload: bytes) -> tuple[str, str]:
    """Return why a request is not answered: a kind, and the host's own text."""
    value = object_in(payload)
    return text(value.get("kind"), 64), text(value.get("why"), MOST_TEXT)


def _answer(payload: bytes, number: int) -> Mapping[str, object]:
    value = object_in(payload)
    if integer(value.get("id")) != number:
        raise BrokenAnswer("an answer to another question")
    return value
