"""Checks the content of files against their formats, and their presence against the records.

Checks the content of a file of correct length against its format. A file system that lost power, or that shows a
length before the bytes, has zero bytes in place of content. Gzip, zip (torch.save writes one) and the history of a
W&B run have checksums; other tensors must not consist of zero bytes only. Everything is read in pieces: memory is
bounded for any file.
"""

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from harvestd.convention.metadata.parse import InvalidFacts
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.completeness import CHECKED
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.root import DataRoot
from harvestd.store.walking import DirectoryWalker, Touched, sha256_of, status

Read = Callable[[int, int], bytes]
"""Returns up to a number of bytes (second argument) from an offset (first argument)."""

_PIECE: Final = 1024 * 1024
_SLICE: Final = 32 * _PIECE
"""Bytes that are checked between two yields."""
MOST_MADE: Final = 4 * 1024**3
"""Bytes: decompressed content beyond this is not checked, since few bytes can expand to terabytes."""
DIRECTORY: Final = 4 * 1024 * 1024
"""Bytes: a zip archive with a longer directory is not checked, since all of it is held in memory."""
_SAFETENSORS_PREFIX: Final = 8
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_ZIP_MAGIC: Final = b"PK\3\4"
_ENCRYPTED: Final = 1
_BLOCK: Final = 4096
"""Bytes: a file system fills whole blocks with zero bytes; shorter tensors may really be zero."""


_WANDB_HEAD: Final = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
"""The beginning of a W&B history of the supported version."""
_WANDB_BLOCK: Final = 32 * 1024
_WANDB_RECORD: Final = struct.Struct("<IHB")
"""The checksum of type and data, the length of the data, the type: full, first, middle or last part of a record."""
_WANDB_TYPES: Final = frozenset({1, 2, 3, 4})


class _NotChecked(Exception):
    """The check would need more memory than any valid file requires."""


def verified(name: str, size: int, read: Read) -> Iterator[None]:
    """Check the content of a file called `name` against its format; raise `InvalidFacts` if it does not match.

    Yields from time to time, so that a caller can run it in slices. Blocks while reading and summing.
    """
    if name.endswith(".gz"):
        yield from _gzip(size, read)
    elif name.endswith(".wandb") and read(0, len(_WANDB_HEAD)) == _WANDB_HEAD:
        yield from _wandb(size, read)
    elif name.endswith(".safetensors"):
        (length,) = struct.unpack("<Q", read(0, _SAFETENSORS_PREFIX).ljust(_SAFETENSORS_PREFIX, b"\0"))
        start = _SAFETENSORS_PREFIX + length
        if size - start >= _BLOCK:
            yield from _not_zero(start, size, read, "its tensors are nothing but zero bytes")
    elif name.endswith(CHECKED):
        if read(0, len(_ZIP_MAGIC)) == _ZIP_MAGIC:
            yield from _zip(size, read)
        elif size:
            yield from _not_zero(0, size, read, "nothing but zero bytes")


def _not_zero(start: int, size: int, read: Read, otherwise: str) -> Iterator[None]:
    zero = bytes(_PIECE)
    done = 0
    for offset in range(start, size, _PIECE):
        piece = read(offset, _PIECE)
        if piece != zero[: len(piece)]:
            return
        done += len(piece)
        if done % _SLICE == 0:
            yield
    raise InvalidFacts(otherwise)


def _gzip(size: int, read: Read) -> Iterator[None]:
    """Decompress all members: each ends with the checksum and the length of its content."""
    member = zlib.decompressobj(_GZIP_WINDOW)
    made = reported = 0
    try:
        for offset in range(0, size, _PIECE):
            piece = read(offset, _PIECE)
            while piece:
                if member.eof:
                    piece = piece.lstrip(b"\0")  # padding, as gzip itself takes it
                    if not piece:
                        break
                    member = zlib.decompressobj(_GZIP_WINDOW)
                made += len(member.decompress(piece, _PIECE))
                piece = member.unused_data if member.eof else member.unconsumed_tail
                if made - reported >= _SLICE:
                    reported = made
                    yield
                if made > MOST_MADE:
                    return
        while not member.eof and (more := len(member.decompress(b"", _PIECE))):
            made += more
    except zlib.error as error:
        raise InvalidFacts("its compressed content is not what its checksum says") from error
    if not member.eof:
        raise InvalidFacts("it ends in the middle of its compressed content")


def _wandb(size: int, read: Read) -> Iterator[None]:
    """Check all records of a W&B history, which has LevelDB's log format: no record crosses a block's end."""
    for start in range(0, size, _PIECE):
        piece = memoryview(read(start, _PIECE))
        for block in range(0, len(piece), _WANDB_BLOCK):
            end = min(block + _WANDB_BLOCK, len(piece))
            at = block if start or block else len(_WANDB_HEAD)
            while end - at >= _WANDB_RECORD.size:
                checksum, length, kind = _WANDB_RECORD.unpack_from(piece, at)
                data = at + _WANDB_RECORD.size
                if kind not in _WANDB_TYPES and (checksum or length or kind):
                    return  # of a later version
                if data + length > end:
                    raise InvalidFacts("it ends in the middle of a record")
                if zlib.crc32(piece[data : data + length], zlib.crc32(bytes((kind,)))) != checksum:
                    raise InvalidFacts("a record of it is not what its checksum says")
                at = data + length
            if end - at and end - block < _WANDB_BLOCK:
                raise InvalidFacts("it ends in the middle of a record")
        if start % _SLICE == 0:
            yield


def _zip(size: int, read: Read) -> Iterator[None]:
    """Check all entries of an archive: its directory is at its end, with the checksum of each."""
    try:
        with zipfile.ZipFile(_View(size, read)) as archive:
            yield from _entries(archive, size + MOST_MADE)
    except _NotChecked:
        return
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, LookupError) as error:
        raise InvalidFacts("the content of its zip archive is not whole") from error
    except NotImplementedError:  # zipfile's, for a compression that Python does not know: not judged
        return


def _entries(archive: zipfile.ZipFile, most: int) -> Iterator[None]:
    made = reported = 0
    for entry in archive.infolist():
        plain = entry.compress_type in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
        if entry.flag_bits & _ENCRYPTED or not plain:
            continue
        left = entry.file_size
        with archive.open(entry) as content:
            while piece := content.read(_PIECE):
                left -= len(piece)
                made += len(piece)
                if made - reported >= _SLICE:
                    reported = made
                    yield
                if made > most:
                    return
        if left:
            raise zipfile.BadZipFile("an entry is shorter than the directory says")


class _View(io.RawIOBase):
    """A file object for zipfile, which reads the whole directory of an archive at once."""

    def __init__(self, size: int, read: Read) -> None:
        self._size = size
        self._read = read
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("before the beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > DIRECTORY:
            raise _NotChecked
        piece = self._read(self._at, wanted)
        self._at += len(piece)
        return piece


def verify_hashes(root: DataRoot, expected: Sequence[tuple[LocalPath, str]]) -> list[bool]:
    """Return for each path whether it has a file with this SHA-256; such files and their directories are synced.

    They may not be synced yet if a process was killed after a rename. Raise `HaltedForSafety` if the disk fails.
    """
    touched: Touched = set()
    found = [_has_content(root, path, sha256) for path, sha256 in expected]
    for (path, _), stands in zip(expected, found, strict=True):
        if stands:
            touched.update(path.parts[:depth] for depth in range(len(path.parts)))
    root.sync(touched)
    return found


def _has_content(root: DataRoot, path: LocalPath, sha256: str) -> bool:
    try:
        with translating(path), root.reading(path) as file:
            if sha256_of(file) != sha256:
                return False
            os.fsync(file.fileno())
    except (FileNotFoundError, Conflict, Refused):
        return False
    return True


Fingerprint = tuple[tuple[int, ...], ...]
"""One part for each existing component; that of a directory on the way covers access rights, not its content."""


def fingerprints(root: DataRoot, paths: Iterable[LocalPath]) -> list[Fingerprint]:
    """Return the present fingerprint of each path. Raise `HaltedForSafety` if the disk fails."""
    return [_fingerprint(root, path) for path in paths]


def _fingerprint(root: DataRoot, path: LocalPath) -> Fingerprint:
    found: list[tuple[int, ...]] = []
    for depth in range(1, len(path.parts) + 1):
        try:
            answer = root.stat(LocalPath(path.parts[:depth]))
        except (Conflict, Refused):
            break
        if answer is None:
            break
        found.append(
            _content(answer) if depth == len(path.parts) or not stat.S_ISDIR(answer.st_mode) else _identity_of(answer)
        )
    return tuple(found)


def is_absent(path: LocalPath, found: Fingerprint) -> bool:
    """Return whether nothing is at `path`, and only directories are on the way to it."""
    return len(found) < len(path.parts) and all(len(part) == len(_WAY) for part in found)


_WAY = ("inode", "mode", "owner", "group")


def _identity_of(answer: os.stat_result) -> tuple[int, ...]:
    return answer.st_ino, answer.st_mode, answer.st_uid, answer.st_gid


def _content(answer: os.stat_result) -> tuple[int, ...]:
    return (*_identity_of(answer), answer.st_size, answer.st_mtime_ns, answer.st_ctime_ns)


def not_intact(root: DataRoot, expected: Sequence[tuple[LocalPath, int, bool]]) -> list[LocalPath]:
    """Return the paths that are not regular files of the expected size. Blocks.

    Each entry has the path, the size, and whether the file grows and may be longer. Raise `HaltedForSafety` if the disk
    fails.
    """
    with root.walker() as walker:
        return [path for path, size, grows in sorted(expected) if not _has_size(walker, path, size, grows=grows)]


def _has_size(walker: DirectoryWalker, path: LocalPath, size: int, *, grows: bool) -> bool:
    try:
        with translating(path):
            found = status(walker.opened(path.parts[:-1]), path.name)
    except (FileNotFoundError, Conflict, Refused):
        return False
    if found is None or not stat.S_ISREG(found.st_mode):
        return False
    return found.st_size >= size if grows else found.st_size == size
