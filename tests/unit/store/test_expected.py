"""What stands at its place after a crash or a failure: known by its hash, and on disk once that was told."""

import hashlib
from pathlib import Path

import pytest

from harvestd.convention.paths import LocalPath
from harvestd.store.checksums import verify_hashes
from harvestd.store.root import DataRoot
from support.data_root import watch_syncs


def digest(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def test_only_the_expected_content_stands(tmp_path: Path) -> None:
    """Other content, nothing, a link and a file in place of a directory are all answered with no."""
    with DataRoot.open(tmp_path) as root:
        (tmp_path / "exp").mkdir()
        for name, content in {"same": b"1", "other": b"2"}.items():
            (tmp_path / "exp" / name).write_bytes(content)
        (tmp_path / "exp" / "link").symlink_to("same")
        names = ("same", "other", "absent", "link", "same/below")
        expected = [(LocalPath.parse(f"exp/{name}"), digest(b"1")) for name in names]
        assert verify_hashes(root, expected) == [True, False, False, False, False]


def test_what_stands_is_synced_with_the_way_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was killed after its rename has synced no directory: whoever finds the file does."""
    with DataRoot.open(tmp_path) as root:
        (tmp_path / "exp" / "leaf").mkdir(parents=True)
        (tmp_path / "exp" / "leaf" / "a").write_bytes(b"1")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "b").write_bytes(b"2")
        synced = watch_syncs(monkeypatch, tmp_path)
        verify_hashes(root, [(LocalPath.parse("exp/leaf/a"), digest(b"1")), (LocalPath.parse("other/b"), digest(b"1"))])
        assert synced == ["/exp/leaf/a", "", "/exp", "/exp/leaf"]
