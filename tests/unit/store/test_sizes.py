"""Whether what is on record stands at home: known by its size alone, and never through a link."""

from pathlib import Path

from harvestd.convention.paths import LocalPath
from harvestd.store.checksums import not_intact
from harvestd.store.root import DataRoot


def test_only_what_is_as_long_as_recorded_is_intact(tmp_path: Path) -> None:
    """A cut or longer file, nothing, a link, a directory, and a file on the way are all told."""
    with DataRoot.open(tmp_path) as root:
        (tmp_path / "exp" / "directory").mkdir(parents=True)
        for name, content in {"same": b"12", "cut": b"1", "longer": b"123"}.items():
            (tmp_path / "exp" / name).write_bytes(content)
        (tmp_path / "exp" / "link").symlink_to("same")
        (tmp_path / "other").symlink_to("exp")
        names = ("exp/same", "exp/cut", "exp/longer", "exp/absent", "exp/link", "exp/directory", "exp/same/x", "no/x")
        expected = [(LocalPath.parse(name), 2, False) for name in (*names, "other/same")]
        wrong = not_intact(root, expected)
        assert {str(path) for path in wrong} == {*names, "other/same"} - {"exp/same"}


def test_what_grows_may_be_longer(tmp_path: Path) -> None:
    """A log that is being appended to just now is ahead of its record; a shorter one has lost something."""
    with DataRoot.open(tmp_path) as root:
        (tmp_path / "exp").mkdir()
        (tmp_path / "exp" / "log").write_bytes(b"123")
        assert not not_intact(root, [(LocalPath.parse("exp/log"), 2, True)])
        assert not_intact(root, [(LocalPath.parse("exp/log"), 4, True)])
