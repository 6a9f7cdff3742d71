"""The host's program on links: what hangs behind one holds no other question up."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from harvestd.remote.probe.program import links


def asked(root: Path, *names: str) -> dict[str, Any]:
    """Return the question for links in a root's only tree."""
    return {"trees": [[str(root), "tree"]], "links": [[0, name] for name in names]}


def test_a_link_to_a_file_system_that_hangs_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after its time, and asked for again only once the file system has answered."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to("/")
    answered, stat_of, calls = threading.Event(), os.lstat, []

    def lstat(place: Any) -> os.stat_result:  # noqa: ANN401  (as os.lstat)
        if place == b"/":
            calls.append(place)
            answered.wait(60.0)
        return stat_of(place)

    monkeypatch.setattr(links, "ALL_LINK_SECONDS", 0.2)
    monkeypatch.setattr(os, "lstat", lstat)
    resolving: list[threading.Thread] = []
    assert links.links_within(asked(tmp_path, "link"), resolving) == {"links": [None]}
    assert links.links_within(asked(tmp_path, "link"), resolving) == {"links": [None]}
    assert calls == [b"/"]
    answered.set()
    resolving[0].join(60.0)
    monkeypatch.setattr(links, "ALL_LINK_SECONDS", 60.0)
    (told,) = links.links_within(asked(tmp_path, "link"), resolving)["links"]
    assert told[:3] == ["/", "/", True]


def test_what_is_too_long_or_no_link_is_not_told(tmp_path: Path) -> None:
    """Such links are answered with nothing, and the others go on."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/long").symlink_to("x" * 2000)
    (tmp_path / "tree/file").write_bytes(b"x")
    (tmp_path / "tree/short").symlink_to("file")
    long, file, missing, short = links.links_within(asked(tmp_path, "long", "file", "none", "short"), [])["links"]
    assert (long, file, missing) == (None, None, None)
    assert short == ["file", str((tmp_path / "tree/file").resolve()), True, 1, True]
