"""The host's program on links: what hangs behind one holds no other question up."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from harvestd.remote.probe.program import links
from harvestd.remote.probe.program.folders import Total
from harvestd.remote.probe.program.wire import Credit, Output, Wire


@pytest.fixture
def output() -> Output:
    """Return where the program shows that it is at work."""
    return Output(Wire(), Credit(1 << 16), b"f")


def asked(root: Path, *names: str, seconds: float = 600.0) -> dict[str, Any]:
    """Return the question for links in a root's only tree."""
    return {"trees": [[str(root), "tree"]], "links": [[0, name] for name in names], "seconds": seconds}


def test_a_link_to_a_file_system_that_hangs_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: Output
) -> None:
    """It is given up after its time, named with the limit, and looked up once the file system has answered.

    Links that were looked up before it are told.
    """
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"123")
    (tmp_path / "tree/near").symlink_to("file")
    (tmp_path / "tree/link").symlink_to("/")
    answered, stat_of, calls = threading.Event(), os.lstat, []

    def lstat(place: Any) -> os.stat_result:  # noqa: ANN401  (as os.lstat)
        if place == b"/":
            calls.append(place)
            answered.wait(60.0)
        return stat_of(place)

    monkeypatch.setattr(os, "lstat", lstat)
    resolving: list[links.Resolving] = []
    for _ in range(2):
        told = links.links_within(asked(tmp_path, "near", "link", seconds=2.0), resolving, output)
        near, hanging = told["links"]
        assert near[2:4] == [True, 3]
        assert hanging is None
        assert "link" in told["hangs"]
        assert "limits.inspect_time" in told["hangs"]
    assert calls == [b"/"]
    answered.set()
    resolving[0].join(60.0)
    monkeypatch.setattr(links, "MOST_LINKED", 1)
    told = links.links_within(asked(tmp_path, "link"), resolving, output)
    assert told["links"][0] == ["/", "/", True, -1, False, "more than 1 files"]
    assert not told["hangs"]


def test_what_is_not_added_up_in_time_names_the_limit(tmp_path: Path, output: Output) -> None:
    """A person can give it more time; until then the size is unknown, and the link is told."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / "far/file").write_bytes(b"x")
    (tmp_path / "tree/link").symlink_to(tmp_path / "far")
    total = Total(-1.0, 100)
    late = "too late"
    told = links.link_target(os.fsencode(tmp_path / "tree/link"), [], total, late)
    assert told is not None
    assert told[2:] == [True, -1, False, late]
    ((*_, size, _, why),) = links.links_within(asked(tmp_path, "link"), [], output)["links"]
    assert (size, why) == (1, "")


def test_what_is_too_long_or_no_link_is_not_told(tmp_path: Path, output: Output) -> None:
    """Such links are answered with nothing, and the others go on."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/long").symlink_to("x" * 2000)
    (tmp_path / "tree/file").write_bytes(b"x")
    (tmp_path / "tree/short").symlink_to("file")
    told = links.links_within(asked(tmp_path, "long", "file", "none", "short"), [], output)
    long, file, missing, short = told["links"]
    assert (long, file, missing) == (None, None, None)
    assert short == ["file", str((tmp_path / "tree/file").resolve()), True, 1, True, ""]
