"""Temporaries that are written in several places at once: what counts, and what is surely on disk."""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd.errors import HaltedForSafety
from harvestd.store.root import DataRoot
from support.data_root import temporaries


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Open a fresh data root."""
    with DataRoot.open(tmp_path) as opened:
        yield opened


def test_what_is_put_counts_once_it_is_taken_in(root: DataRoot) -> None:
    """Bytes beyond the end change neither size nor hash until the prefix takes them in."""
    with root.stage() as temporary:
        temporary.write(b"abc")
        temporary.put(b"ghi", 6)
        assert (temporary.size, temporary.hexdigest) == (3, hashlib.sha256(b"abc").hexdigest())
        temporary.put(b"def", 3)
        temporary.take_in(6)
        assert (temporary.size, temporary.hexdigest) == (6, hashlib.sha256(b"abcdef").hexdigest())
        temporary.take_in(9)
        assert (temporary.read(0, 99), temporary.hexdigest) == (b"abcdefghi", hashlib.sha256(b"abcdefghi").hexdigest())


def test_what_is_not_there_is_never_taken_in(root: DataRoot) -> None:
    """Taking in more than the file has is an error, not zeros."""
    with root.stage() as temporary:
        temporary.put(b"abc", 0)
        with pytest.raises(HaltedForSafety, match="shorter"):
            temporary.take_in(4)


def test_resuming_cuts_off_what_was_put_beside(root: DataRoot) -> None:
    """After a crash only the journalled prefix is left; what lay beyond a gap is fetched again."""
    temporary = root.stage("transfer-1")
    temporary.write(b"abc")
    temporary.put(b"xyz", 10)
    temporary.close()
    resumed = root.resume("transfer-1", 3)
    assert resumed is not None
    with resumed:
        assert resumed.status().st_size == 3
        assert resumed.hexdigest == hashlib.sha256(b"abc").hexdigest()


@pytest.fixture
def fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count fsyncs: a list that grows with each."""
    calls: list[int] = []
    real = os.fsync

    def fsync(file: int) -> None:
        calls.append(file)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    return calls


def test_sync_beside_tells_what_was_there_before_it(root: DataRoot, fsyncs: list[int]) -> None:
    """It gives the size from before the sync, and nothing is synced twice without need."""
    with root.stage() as temporary:
        temporary.write(b"abc")
        assert temporary.sync_beside() == 3
        assert temporary.sync_beside() == 3
        temporary.sync()
        assert len(fsyncs) == 1


def test_write_during_a_sync_is_synced_later(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another thread writes while the kernel syncs is not taken for synced."""
    real, calls = os.fsync, 0
    with root.stage() as temporary:
        temporary.write(b"abc")

        def fsync(file: int) -> None:
            nonlocal calls
            calls += 1
            real(file)
            if calls == 1:
                temporary.write(b"def")
                temporary.put(b"xyz", 9)

        monkeypatch.setattr(os, "fsync", fsync)
        assert temporary.sync_beside() == 3
        temporary.sync()
        assert calls == 2


def test_failed_sync_beside_dooms_the_temporary_but_closes_it_under_nobody(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it fails others may still write, each further sync fails, and the last one removes the file."""
    real = os.fsync

    def fail(_file: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    temporary = root.stage("transfer-1")
    temporary.write(b"abc")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(HaltedForSafety):
        temporary.sync_beside()
    monkeypatch.setattr(os, "fsync", real)
    temporary.put(b"def", 3)
    with pytest.raises(HaltedForSafety):
        temporary.sync_beside()
    still_open = not temporary.closed
    assert still_open
    with pytest.raises(HaltedForSafety):
        temporary.sync()
    assert temporary.closed
    assert temporaries(root.path) == []
