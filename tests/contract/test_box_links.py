"""Symbolic links on a host, by either way of reading it: a tree's own is followed, those below it are described."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from contract.connected import box_at, entry, fill, listing, names, read, training, wanted, watching
from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.convention.scan.snapshot import Tree, TreeKind, TreeState
from support.openssh import OpenSSHServer

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


def linked(root: Path, elsewhere: Path, name: str = "training_runs") -> None:
    """Move a tree elsewhere and put a link in its place."""
    (root / name).rename(elsewhere)
    (root / name).symlink_to(elsewhere)


async def test_a_tree_that_is_a_link_is_followed(server: OpenSSHServer, root: Path, tmp_path: Path) -> None:
    """A tree is the operator's own path: what it leads to is listed and read, and nothing below it is followed."""
    fill(root, {"run_1/config.yaml": b"a: 1\n"})
    linked(root, tmp_path / "ephemeral")
    (root / "training_runs/run_2").symlink_to(tmp_path / "ephemeral/run_1")
    tree = training(root)
    async with box_at(server, watching(tree)) as box:
        snapshot = await box.scan()
        answers = await read(box, [wanted(root, "run_1/config.yaml")])
        fill(root, {"run_1/logs/new.txt": b"x"})
        later = await box.scan()
    assert listing(snapshot).state is TreeState.PRESENT
    assert "run_1/config.yaml" in names(snapshot)
    assert "run_2/config.yaml" not in names(snapshot)
    assert entry(snapshot, "run_2").target == str(tmp_path / "ephemeral/run_1")
    assert [answer.data for answer in answers] == [b"a: 1\n"]
    assert "run_1/logs/new.txt" in names(later)


async def test_a_tree_that_leads_nowhere_says_so(server: OpenSSHServer, root: Path, tmp_path: Path) -> None:
    """A link without a target is told from a tree that was not made yet, until its target is there."""
    (root / "training_runs").rmdir()
    (root / "training_runs").symlink_to(tmp_path / "ephemeral")
    (root / "loop").symlink_to("loop")
    (root / "file").write_bytes(b"x")
    (root / "to_file").symlink_to("file")
    trees = [training(root), *(Tree(str(root), name, TreeKind.EVAL) for name in ("loop", "to_file", "none"))]
    async with box_at(server, watching(*trees)) as box:
        broken = await box.scan()
        (tmp_path / "ephemeral/run_1").mkdir(parents=True)
        mended = await box.scan()
    states = [each.state for each in broken.listings]
    assert states == [TreeState.BROKEN_LINK, TreeState.BROKEN_LINK, TreeState.BROKEN_LINK, TreeState.NO_TREE]
    assert mended.listings[0].state is TreeState.PRESENT
    assert mended.listings[0].entries.keys() == {RemotePath(("run_1",))}


async def test_a_tree_that_leads_to_another_is_taken_once(server: OpenSSHServer, root: Path) -> None:
    """Whichever of the two stands first: what both lead to is listed there alone."""
    fill(root, {"run_1/config.yaml": b"a: 1\n"})
    (root / "old_runs").symlink_to("training_runs")
    real, link = training(root), Tree(str(root), "old_runs", TreeKind.TRAINING)
    for trees in ((real, link), (link, real)):
        async with box_at(server, watching(*trees)) as box:
            snapshot = await box.scan()
        assert [each.state for each in snapshot.listings] == [TreeState.PRESENT, TreeState.TWIN]


async def test_the_host_says_what_links_lead_to(server: OpenSSHServer, root: Path, tmp_path: Path, method: str) -> None:
    """Where each leads, whether anything is there and watched, and its bytes; of a directory the probe alone tells."""
    fill(root, {"run_1/config.yaml": b"a: 1\n"})
    (tmp_path / "ephemeral/run_2/deep").mkdir(parents=True)
    (tmp_path / "ephemeral/run_2/a").write_bytes(b"x" * 70)
    (tmp_path / "ephemeral/run_2/deep/b").write_bytes(b"x" * 30)
    other = root / "other"
    other.symlink_to(tmp_path / "ephemeral")
    aims = {
        "run_2": str(tmp_path / "ephemeral/run_2"),
        "file": str(other / "run_2/a"),
        "gone": str(tmp_path / "not there"),
        "inside": "../training_runs/run_1",
        "loop": "loop",
    }
    tree = training(root)
    for name, target in aims.items():
        (root / "training_runs" / name).symlink_to(target)
    links = [SymbolicLink(tree, RemotePath((name,)), target) for name, target in aims.items()]
    async with box_at(server, watching(tree)) as box:
        await box.scan()
        found = await box.link_targets(links)
        assert await box.link_targets([]) == {}
        assert not (await box.scan()).changed
    seen = {name: found.get(f"{tree}/{name}") for name in aims}
    real = Path(os.path.realpath(tmp_path))  # noqa: ASYNC240
    size = 100 if method == "probe" else None
    assert seen["run_2"] is not None
    assert replace(seen["run_2"], unclear="") == LinkTarget(aims["run_2"], str(real / "ephemeral/run_2"), size=size)
    assert seen["file"] == LinkTarget(aims["file"], str(real / "ephemeral/run_2/a"), size=70)
    assert seen["gone"] == LinkTarget(aims["gone"], str(real / "not there"), there=False)
    assert seen["inside"] == LinkTarget(aims["inside"], os.path.realpath(root / "training_runs/run_1"), watched=True)  # noqa: ASYNC240
    assert seen["loop"] is None or not seen["loop"].there or seen["loop"].size is None


async def test_a_linked_directory_of_many_is_added_up(
    server: OpenSSHServer, root: Path, tmp_path: Path, method: str
) -> None:
    """However many directories it holds side by side: its size is what a person decides by. SFTP says why it can't."""
    tree = training(root)
    fill(tmp_path, {f"run/step_{n}/{m}": b"x" for n in range(70) for m in range(150)})
    elsewhere = tmp_path / "training_runs/run"
    (root / "training_runs/run").symlink_to(elsewhere)
    link = SymbolicLink(tree, RemotePath(("run",)), str(elsewhere))
    async with box_at(server, watching(tree)) as box:
        found = await box.link_targets([link])
    seen = found[link.place]
    assert (seen.size, seen.unclear) == (70 * 150, "") if method == "probe" else seen.size is None and seen.unclear
