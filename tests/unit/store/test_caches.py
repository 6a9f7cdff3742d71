"""Files that can be made again: they are whole or absent, and no failure of theirs is an error."""

from pathlib import Path

from harvestd.store.caches import CacheDirectory


def test_a_cache_that_can_t_be_written_is_no_failure(tmp_path: Path) -> None:
    """It is absent then, and its content is made again."""
    (tmp_path / "series").write_text("a file in place of the directory")
    cache = CacheDirectory(tmp_path / "series")
    assert (cache.write("a", b"x"), cache.read("a", 10)) == (False, None)
    cache.keep(frozenset())
    cache = CacheDirectory(tmp_path / "other")
    assert (cache.write("a", b"xyz"), cache.read("a", 3), cache.read("a", 2)) == (True, b"xyz", None)
    cache.keep(frozenset())
    assert list((tmp_path / "other").iterdir()) == []
