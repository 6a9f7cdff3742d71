"""Any name that is valid stays below the root; any bytes come back."""

import hashlib
import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from harvestd.convention.paths import LocalPath, RejectedPath, decoded
from harvestd.convention.scan.completeness import whole_lines, whole_records
from harvestd.store.growing import GrowingFile
from harvestd.store.publish import Result
from harvestd.store.root import DataRoot
from harvestd.store.versions import list_versions
from support.data_root import names_in, publish_one, temporaries, tree
from support.examples import examples

TRICKS = [
    b"..",
    b".",
    b"",
    b"../x",
    b"/etc",
    b".harvestd",
    b".HARVESTD",
    b"a\0b",
    b"staging",
    b"-rf",
    b"\n",
    b"n" * 255,
]
names = st.one_of(st.binary(max_size=40), st.sampled_from(TRICKS))
paths = st.lists(names, min_size=1, max_size=5).map(lambda raw: tuple(decoded(name) for name in raw))


def everything(directory: Path) -> set[bytes]:
    """Return every path below `directory`, relative to it, but harvestd's own directory's inside."""
    top = os.fsencode(directory)
    found = set()
    for place, directories, files in os.walk(top):
        if place == top and b".harvestd" in directories:
            directories.remove(b".harvestd")
        found |= {os.path.relpath(os.path.join(place, name), top) for name in (*directories, *files)}  # noqa: PTH118
    return found


@settings(max_examples=examples(150), deadline=None)
@given(parts=paths, content=st.binary(max_size=50))
def test_any_path_stays_below_the_root(parts: tuple[str, ...], content: bytes) -> None:
    """A path is refused as a value or its file stands exactly there; nothing else appears in the root or beside it."""
    with tempfile.TemporaryDirectory() as temporary:
        beside = Path(temporary)
        (beside / "x").write_bytes(b"precious")
        with DataRoot.open(beside / "data") as root:
            expected: set[bytes] = set()
            try:
                path = LocalPath(parts)
            except RejectedPath:
                pass
            else:
                assert publish_one(root, str(path), content).result == Result.PUBLISHED
                assert publish_one(root, str(path), b"2", hashlib.sha256(content).hexdigest()).result in {
                    Result.PUBLISHED,
                    Result.ADOPTED,
                }
                raw = [os.fsencode(part) for part in parts]
                expected = {b"/".join(raw[:depth]) for depth in range(1, len(raw) + 1)}
                assert len(list_versions(root, path)) == (content != b"2")
            assert everything(root.path) == expected
            assert temporaries(root.path) == []
            assert names_in(root.path / ".harvestd") == ["root.json", "staging", "versions"]
        assert names_in(beside) == ["data", "x"]
        assert (beside / "x").read_bytes() == b"precious"


@settings(max_examples=examples(60), deadline=None)
@given(pieces=st.lists(st.binary(max_size=60), max_size=6), torn=st.binary(max_size=20), data=st.data())
def test_a_growing_file_is_a_prefix_of_its_source(pieces: list[bytes], torn: bytes, data: st.DataObject) -> None:
    """Appended in pieces and cut to a journal at any length, the file is the source's prefix and hashes as it."""
    source = b"".join(pieces)
    path = LocalPath.parse("log")
    with tempfile.TemporaryDirectory() as temporary, DataRoot.open(Path(temporary)) as root:
        with GrowingFile.create(root, path) as growing:
            for piece in (*pieces, torn):
                growing.append(piece)
        journalled = data.draw(st.integers(0, len(source)))
        with GrowingFile.open(root, path, journalled) as growing:
            assert growing.hexdigest() == hashlib.sha256(source[:journalled]).hexdigest()
            growing.append(source[journalled:])
            assert growing.hexdigest() == hashlib.sha256(source).hexdigest()
        assert tree(root.path) == {"log": source}


@given(data=st.binary(max_size=300))
def test_a_frame_is_a_prefix_that_stays_whole(data: bytes) -> None:
    """A length never exceeds the data, and what is whole is whole again."""
    for whole in (whole_lines, whole_records):
        length = whole(data)
        assert 0 <= length <= len(data)
        assert whole(data[:length]) == length
