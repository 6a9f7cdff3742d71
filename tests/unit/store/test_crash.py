"""`kill -9` at every named moment: whole files at their paths, and a second run that converges."""

import os
import re
import signal
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile

import pytest

import harvestd
from harvestd.convention.paths import LocalPath
from harvestd.failpoints import POINTS
from harvestd.store.growing import GrowingFile
from harvestd.store.publish import Result
from harvestd.store.root import DataRoot
from harvestd.store.versions import begin_anew, is_kept, list_versions, read_version, set_aside
from support.crashing import FIRST, MARKER, NEW, OLD, grow, publish_again, publish_first
from support.data_root import RENAMEAT2, temporaries, tree
from support.faults import fired
from support.forking import Forked, Request

PUBLISHING = [point for point in POINTS if point.startswith(("publish.", "rename."))]


def killed_at(place: Path, scenario: str, point: str, turn: int, means: str) -> bool:
    """Run a scenario in a process that is killed when it reaches `point` for the n-th time; False: it came through."""
    request = Request("support.crashing", (str(place), scenario, point, str(turn), means), dict(os.environ), Path.cwd())
    with Path(os.devnull).open() as nothing, TemporaryFile() as error:
        code = Forked(request, [nothing.fileno(), error.fileno(), error.fileno()]).wait(30)
        error.seek(0)
        assert code in {0, -signal.SIGKILL}, error.read().decode()
    if code == -signal.SIGKILL:
        fired(31)
    return code != 0


def test_every_moment_is_in_the_code_and_in_the_table() -> None:
    """The table of moments names exactly those that the code reaches."""
    package = Path(next(iter(harvestd.__path__)))
    reached = {name for file in package.rglob("*.py") for name in re.findall(r'reach\("(.+?)"\)', file.read_text())}
    assert reached == set(POINTS)


@pytest.mark.parametrize("means", ["renameat2", "links only"])
@pytest.mark.parametrize("point", PUBLISHING)
@pytest.mark.parametrize("scenario", ["publish_first", "publish_again"])
def test_a_killed_publication_leaves_whole_files_and_converges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, point: str, means: str
) -> None:
    """After a kill at each turn of each moment every path has nothing, the old or the new; a rerun ends the same."""
    if means == "links only":
        monkeypatch.setattr(RENAMEAT2, None)
    contents = {path: {OLD[path], NEW[path]} if scenario == "publish_again" else {OLD[path]} for path in OLD}
    run = publish_again if scenario == "publish_again" else publish_first
    wanted = NEW if scenario == "publish_again" else OLD
    for turn in count(1):
        place = tmp_path / str(turn)
        with DataRoot.open(place) as root:
            if scenario == "publish_again":
                assert set(publish_first(root)) == {Result.PUBLISHED}
        fired = killed_at(place, scenario, point, turn, means)
        with DataRoot.open(place) as root:
            for name, content in tree(place).items():
                assert content in contents[LocalPath.parse(name)]
            if scenario == "publish_again":
                assert len(tree(place)) == 3
            if (place / str(MARKER)).exists() and (place / str(MARKER)).read_bytes() == wanted[MARKER]:
                assert tree(place) == {str(path): content for path, content in wanted.items()}
            root.clean_staging(())
            assert set(run(root)) <= {Result.PUBLISHED, Result.ADOPTED}
            assert tree(place) == {str(path): content for path, content in wanted.items()}
            assert temporaries(place) == []
            for path in OLD if scenario == "publish_again" else ():
                kept = [read_version(root, path, version.stamp) for version in list_versions(root, path)]
                assert kept == [OLD[path]]
        if not fired:
            break
    reachable = scenario == "publish_again" or point not in {"publish.compared", "publish.version_kept"}
    links_first = means == "links only" and scenario == "publish_first"
    assert (turn > 1) == (links_first if point == "rename.linked" else reachable)


@pytest.mark.parametrize("point", ["growing.appended", "growing.synced"])
def test_a_killed_append_is_cut_to_the_journal(tmp_path: Path, point: str) -> None:
    """After a kill the file is cut to what the journal knows, and growing again ends with the source's bytes."""
    with DataRoot.open(tmp_path) as root:
        with GrowingFile.create(root, FIRST) as growing:
            growing.append(b"one\n")
            growing.sync()
        assert killed_at(tmp_path, "grow", point, 1, "renameat2")
        assert (tmp_path / str(FIRST)).read_bytes() == b"one\ntwo\n"
        grow(root)
    assert tree(tmp_path) == {str(FIRST): b"one\ntwo\nthree\n"}


def test_a_kill_before_a_file_is_cut_keeps_it_once(tmp_path: Path) -> None:
    """After a kill the file is whole and among the versions; the next opening cuts it, and keeps it no second time."""
    with DataRoot.open(tmp_path) as root:
        with GrowingFile.create(root, FIRST) as growing:
            growing.append(b"one\nmine\n")
            growing.sync()
        assert killed_at(tmp_path, "grow", "growing.kept", 1, "renameat2")
        assert tree(tmp_path) == {str(FIRST): b"one\nmine\n"}
        root.clean_staging(())
        grow(root)
        assert [read_version(root, FIRST, kept.stamp) for kept in list_versions(root, FIRST)] == [b"one\nmine\n"]
    assert tree(tmp_path) == {str(FIRST): b"one\ntwo\nthree\n"}
    assert temporaries(tmp_path) == []


@pytest.mark.parametrize("point", ["anew.kept", "anew.begun"])
@pytest.mark.parametrize("means", ["renameat2", "links only"])
def test_a_killed_beginning_leaves_one_file_or_the_other(tmp_path: Path, point: str, means: str) -> None:
    """After a kill the old file stands at its path or an empty one, and the old one among the versions, once."""
    with DataRoot.open(tmp_path) as root:
        with GrowingFile.create(root, FIRST) as growing:
            growing.append(b"one\n")
        assert killed_at(tmp_path, "start_over", point, 1, means)
        assert tree(tmp_path) == {str(FIRST): b"one\n" if point == "anew.kept" else b""}
        assert is_kept(root, FIRST) == (point == "anew.kept")
        begin_anew(root, FIRST)
        assert tree(tmp_path) == {str(FIRST): b""}
        assert read_version(root, FIRST, list_versions(root, FIRST)[0].stamp) == b"one\n"
        root.clean_staging(())
        assert temporaries(tmp_path) == []


def test_a_killed_setting_aside_loses_nothing(tmp_path: Path) -> None:
    """After a kill the old file stands at its path, among the versions, or both; a rerun leaves it there once."""
    with DataRoot.open(tmp_path) as root:
        with GrowingFile.create(root, FIRST) as growing:
            growing.append(b"one\n")
        assert killed_at(tmp_path, "put_aside", "rename.linked", 1, "links only")
        set_aside(root, FIRST)
        assert tree(tmp_path) == {}
        assert [read_version(root, FIRST, kept.stamp) for kept in list_versions(root, FIRST)] == [b"one\n"]
