"""What formats say of their content, held against files that are whole by their length."""

import gzip
import io
import json
import os
import struct
import zipfile
import zlib

import pytest

from harvestd.convention.metadata.parse import InvalidFacts
from harvestd.store import checksums
from harvestd.store.checksums import verified

MIB = 1024 * 1024


def check(name: str, content: bytes) -> int:
    """Verify a whole file; return into how many slices that was cut."""
    return 1 + sum(1 for _ in verified(name, len(content), lambda start, length: content[start : start + length]))


def archive(*contents: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Make a zip archive as torch.save does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as made:
        for n, content in enumerate(contents):
            made.writestr(f"archive/data/{n}", content)
    return buffer.getvalue()


def safetensors(data: bytes) -> bytes:
    """Make a file with one tensor."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def zeroed(content: bytes, start: int, length: int) -> bytes:
    """Return the content as a file system shows it that lost a part of it."""
    return content[:start] + bytes(length) + content[start + length :]


def history(*records: bytes, version: int = 0) -> bytes:
    """Make the history of a W&B run as its client writes it: records in parts, none of which goes beyond its block."""
    made = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, version))
    for record in records:
        done = 0
        while not done or done < len(record):
            if (left := 32768 - len(made) % 32768) < 7:
                made += bytes(left)
                left = 32768
            part = record[done : done + left - 7]
            is_first, is_last = not done, done + len(part) == len(record)
            kind = (1 if is_last else 2) if is_first else 4 if is_last else 3
            made += struct.pack("<IHB", zlib.crc32(bytes((kind,)) + part), len(part), kind) + part
            done += len(part)
            if is_last:
                break
    return bytes(made)


HISTORY = history(*(os.urandom(n) for n in (1, 0, 700, 40_000, 3, 90_000, 2 * MIB)))
LINES = b"".join(b'{"question": %d}\n' % n for n in range(50_000))
PACKED = gzip.compress(LINES, mtime=0)
RANDOM = os.urandom(3 * MIB)

WHOLE = [
    ("records.jsonl.gz", PACKED),
    ("records.jsonl.gz", gzip.compress(b"", mtime=0)),
    ("records.jsonl.gz", PACKED + gzip.compress(b"more", mtime=0) + bytes(512)),
    ("records.jsonl.gz", gzip.compress(bytes(5 * MIB), mtime=0)),
    ("optimizer.pt", archive(RANDOM, b"", b"x" * 5000)),
    ("optimizer.pt", archive(bytes(9000))),
    ("arrays.npz", archive(LINES, compression=zipfile.ZIP_DEFLATED)),
    ("old.pt", b"\x80\x02l\xfc\x9cF\xf9 j\xa8P\x19."),
    ("pytorch_model.bin", bytes(8192) + b"1"),
    ("empty.pt", b""),
    ("run-ab12cd34.wandb", HISTORY),
    *(("run-ab12cd34.wandb", history(b"x" * (32768 - 14 - n), b"after")) for n in range(9)),
    ("run-ab12cd34.wandb", history(b"a later version", version=1)[:-3]),
    ("run-ab12cd34.wandb", HISTORY[:7]),
    ("adapter_model.safetensors", safetensors(bytes(9000) + b"1")),
    ("adapter_model.safetensors", safetensors(bytes(64))),
    ("adapter_model.safetensors", safetensors(b"")),
    ("step_latest.json", bytes(9000)),
]


@pytest.mark.parametrize(("name", "content"), WHOLE)
def test_whole_content_is_accepted(name: str, content: bytes) -> None:
    """Whatever its format allows: several members, padding, entries of zero bytes, pickles of old."""
    check(name, content)


TORN = [
    ("records.jsonl.gz", PACKED[:-1]),
    ("records.jsonl.gz", PACKED[:-8] + bytes(8)),
    ("records.jsonl.gz", zeroed(PACKED, 4096, 4096)),
    ("records.jsonl.gz", PACKED + PACKED[:100]),
    ("optimizer.pt", zeroed(archive(RANDOM), MIB, 4096)),
    ("optimizer.pt", archive(RANDOM)[:-100]),
    ("optimizer.pt", archive(RANDOM)[: 2 * MIB]),
    ("optimizer.pt", archive(RANDOM)[:MIB] + bytes(2 * MIB)),
    ("arrays.npz", zeroed(archive(RANDOM, compression=zipfile.ZIP_DEFLATED), MIB, 4096)),
    ("optimizer.pt", bytes(5000)),
    ("pytorch_model.bin", bytes(3 * MIB)),
    ("adapter_model.safetensors", safetensors(bytes(2 * MIB))),
    ("run-ab12cd34.wandb", HISTORY[:-1]),
    ("run-ab12cd34.wandb", HISTORY + bytes(3)),
    ("run-ab12cd34.wandb", HISTORY + bytes(4096)),
    ("run-ab12cd34.wandb", zeroed(HISTORY, MIB, 4096)),
    ("run-ab12cd34.wandb", HISTORY[:50_000] + bytes([HISTORY[50_000] ^ 1]) + HISTORY[50_001:]),
    ("run-ab12cd34.wandb", bytes(5000)),
]


@pytest.mark.parametrize(("name", "content"), TORN)
def test_content_that_does_not_fit_is_refused(name: str, content: bytes) -> None:
    """Zero bytes where content belongs, or an end that is missing, though the length says nothing of it."""
    with pytest.raises(InvalidFacts):
        check(name, content)


def test_every_cut_of_an_archive_is_refused_as_a_value() -> None:
    """No length of a small archive, and no damaged byte of its directory, ends in another error."""
    content = archive(b"some content", b"more")
    for cut in range(4, len(content)):
        with pytest.raises(InvalidFacts):
            check("optimizer.pt", content[:cut])
    for at in range(4, len(content)):
        for byte in (0, 1, 8, 255):
            try:
                check("optimizer.pt", content[:at] + bytes([byte]) + content[at + 1 :])
            except InvalidFacts:
                continue


def test_large_content_is_looked_at_in_slices() -> None:
    """Between them whoever waits for it can be cancelled."""
    large = RANDOM * 23
    assert check("optimizer.pt", archive(large)) > 1
    assert check("records.jsonl.gz", gzip.compress(large, 0, mtime=0)) > 1
    assert check("pytorch_model.bin", bytes(70 * MIB) + b"1") > 1
    assert check("run-ab12cd34.wandb", history(large)) > 2


def test_what_would_take_memory_without_end_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory beyond its bound is not read, nor is content unpacked beyond another."""
    asked: list[int] = []
    content = archive(*[b""] * 2000)[:-1000] + archive(*[b""] * 2000)[-1000:]

    def read(start: int, length: int) -> bytes:
        asked.append(length)
        return content[start : start + length]

    monkeypatch.setattr(checksums, "DIRECTORY", 70_000)
    assert list(verified("optimizer.pt", len(content), read)) == []
    assert max(asked) <= 70_000
    monkeypatch.setattr(checksums, "MOST_MADE", MIB)
    bomb = gzip.compress(bytes(20 * MIB), mtime=0)
    check("records.jsonl.gz", bomb[:-8] + struct.pack("<II", zlib.crc32(b""), 0))
