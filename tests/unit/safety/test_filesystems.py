"""Whether a device with another number holds the file system of before: files prove it."""

from msgspec.structs import replace

from harvestd.convention.scan.snapshot import Listing
from harvestd.planning.records import FileRecord
from harvestd.safety.inputs import renumbered, renumbered_roots
from support.box_trees import EVALS, ROOT, TRAINING
from support.judged_boxes import DISK, drained

OTHER = DISK + 7
KNOWN = {str(TRAINING): DISK, str(EVALS): DISK, ROOT: DISK}


def _remounted() -> tuple[list[Listing], list[FileRecord]]:
    """Return the trees of a host on which all has another number, and the files that came from it."""
    scene = drained()
    listings = [replace(each, device=OTHER) for each in scene.box.snapshot().listings]
    return listings, list(scene.home.knowledge.files_from(scene.box.storage))


def test_known_files_prove_the_same_file_system() -> None:
    """Trees with files that are as they were read, and the root on whose file system one of them is."""
    listings, files = _remounted()
    trees = renumbered(KNOWN, listings, files)
    assert trees == {str(TRAINING): OTHER, str(EVALS): OTHER}
    assert renumbered_roots(KNOWN | trees, listings, {ROOT: OTHER}) == {ROOT: OTHER}


def test_copies_prove_nothing() -> None:
    """Another inode or change time is another file, whatever its size and modification time; nor do unread files."""
    listings, files = _remounted()
    for changes in ({"inode": 1}, {"ctime_ns": 1}):
        others = [replace(each, version=replace(each.version, **changes)) for each in files]
        assert renumbered(KNOWN, listings, others) == {}
    assert renumbered(KNOWN, listings, ()) == {}
    training = [each for each in files if each.place.startswith(f"{TRAINING}/")]
    assert renumbered(KNOWN, listings, training) == {str(TRAINING): OTHER}


def test_a_root_is_not_taken_for_the_same_without_its_trees() -> None:
    """While a tree below is on another file system, or all are on others than the root itself."""
    listings, _ = _remounted()
    same = [replace(each, device=DISK) for each in listings]
    assert renumbered(KNOWN, same, ()) == renumbered_roots(KNOWN, same, {ROOT: DISK}) == {}
    assert renumbered_roots(KNOWN, same, {ROOT: OTHER}) == {}
    assert renumbered_roots(KNOWN | {str(TRAINING): OTHER}, listings, {ROOT: OTHER}) == {}
