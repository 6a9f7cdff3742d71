"""Where links lead, held against a real file system: none that leaves its tree is ever taken for one that stays."""

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.links import leads_to, places_not_walked
from harvestd.convention.scan.snapshot import Entry, EntryType, Tree, TreeKind, Version
from support.examples import examples

parts = st.sampled_from(["a", "b", "c", "..", ".", ""])
below_any = st.lists(parts, min_size=1, max_size=5).map("/".join)
targets = below_any | below_any.map("{{tree}}/{}".format)
links = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(tuple),
    targets | st.sampled_from(["/", "/etc", "{above}/elsewhere", "{tree}", "{tree}x/a"]),
    min_size=1,
    max_size=6,
)


@settings(max_examples=examples(300), deadline=None)
@given(links)
def test_a_link_that_stays_in_its_tree_really_does(made: dict[tuple[str, ...], str]) -> None:
    """What is told of a link is where the kernel goes with it; below one directory as in the whole tree."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve() / "tree"
        place.mkdir()
        tree = Tree(str(place.parent), "tree", TreeKind.TRAINING)
        entries = []
        for path, text in sorted(made.items()):
            target = text.format(tree=place, above=place.parent)
            there = place.joinpath(*path)
            above = [place.joinpath(*path[:n]) for n in range(1, len(path))]
            if not target or any(each.is_symlink() for each in above) or there.is_symlink() or there.exists():
                continue
            there.parent.mkdir(parents=True, exist_ok=True)
            there.symlink_to(target)
            entries.append(Entry(RemotePath(path), EntryType.LINK, Version(0, 0), target))
        for entry in entries:
            for depth in range(len(entry.path.parts)):
                below = [each for each in entries if each.path.parts[:depth] == entry.path.parts[:depth]]
                found = leads_to(entry.path, tree, places_not_walked(below), depth)
                if found is None:
                    continue
                real = Path(os.path.realpath(place.joinpath(*entry.path.parts)))
                assert real == place.joinpath(*found)
                assert found[:depth] == entry.path.parts[:depth]
