"""What a box says of its circumstances is believed in form alone: a table of what hostile boxes might say."""

import json
from typing import Any

import pytest

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.convention.scan.snapshot import Tree, TreeKind
from harvestd.remote.probe.decode_records import BrokenAnswer, circumstances, link_targets
from harvestd.safety.inputs import Carrier, CarrierState, Checkout, Circumstances, Outside

ROOTS = ("/home/ubuntu/localfs", "/gone")
HONEST: dict[str, Any] = {
    "id": 3,
    "machine": "3d1219c7c4c5404aaa1f6d2a48adfda4",
    "host": "gpu-a",
    "processes": 2,
    "log_ins": 1,
    "transfers": 1,
    "carriers": [["rclone", 412, "unsent"]],
    "devices": [65024, None],
    "outside": {"files": 2, "size": 10, "newest": ["/home/ubuntu/notes.md"], "whole": True},
    "checkouts": [["/home/ubuntu/code", 1, 0]],
}


def told(**changes: object) -> bytes:
    """Return an honest answer with some of it replaced."""
    return json.dumps(HONEST | changes).encode()


def test_an_honest_answer_is_taken_as_it_is() -> None:
    """Every part arrives, and a root that is not there has no device."""
    assert circumstances(told(), 3, ROOTS) == Circumstances(
        machine="3d1219c7c4c5404aaa1f6d2a48adfda4",
        hostname="gpu-a",
        gpu_processes=2,
        log_ins=1,
        transfers=1,
        carriers=(Carrier("rclone", 412, CarrierState.UNSENT),),
        devices={"/home/ubuntu/localfs": 65024},
        outside=Outside(2, 10, ("/home/ubuntu/notes.md",)),
        checkouts=(Checkout("/home/ubuntu/code", 1, 0),),
    )


@pytest.mark.parametrize("part", ["processes", "log_ins", "transfers", "outside", "checkouts"])
def test_what_a_box_cannot_say_stays_unknown(part: str) -> None:
    """A part that is missing, or null, is None: never a number, never nothing at stake."""
    missing = {name: value for name, value in HONEST.items() if name != part}
    name = {"processes": "gpu_processes"}.get(part, part)
    carriers: list[object] = [] if part == "transfers" else HONEST["carriers"]
    for payload in (told(**{part: None, "carriers": carriers}), json.dumps(missing | {"carriers": carriers}).encode()):
        assert getattr(circumstances(payload, 3, ROOTS), name) is None


def test_words_for_people_are_made_plain() -> None:
    """A host's name with an escape sequence reaches nobody's terminal."""
    found = circumstances(told(host="a\x1b[2Jb", carriers=[["a\x1b[2Jb", 1, "open"]], unclear="a\x1b"), 3, ROOTS)
    assert (found.hostname, found.carriers[0].program, found.unclear) == ("a?[2Jb", "a?[2Jb", "a?")


HOSTILE: list[dict[str, object]] = [
    {"carriers": {}},
    {"carriers": [["rclone", 412, "unsent"]] * 2},
    {"transfers": 100, "carriers": [["rclone", 412, "unsent"]] * 33},
    {"carriers": [["rclone", -1, "unsent"]]},
    {"carriers": [["rclone", 412, "dances"]]},
    {"carriers": [["rclone", 412, ["open"]]]},
    {"carriers": [["r" * 65, 412, "open"]]},
    {"carriers": [["rclone", 412]]},
    {"unclear": "x" * 2049},
    {"outside": {"files": 0, "size": 0, "newest": [], "whole": False, "missed": 3}},
    {"id": 2},
    {"id": True},
    {"machine": None},
    {"machine": "m" * 257},
    {"host": ["a"]},
    {"host": "h" * 5000},
    {"processes": -1},
    {"processes": 2**63},
    {"processes": True},
    {"processes": 0.0},
    {"log_ins": "0"},
    {"log_ins": -1},
    {"log_ins": []},
    {"transfers": -1},
    {"transfers": 10**400},
    {"devices": {}},
    {"devices": []},
    {"devices": [1, 2, 3]},
    {"devices": [-1, None]},
    {"devices": [2**65, None]},
    {"devices": ["65024", None]},
    {"outside": []},
    {"outside": {}},
    {"outside": {"files": -1, "size": 0, "newest": [], "whole": True}},
    {"outside": {"files": 0, "size": -1, "newest": [], "whole": True}},
    {"outside": {"files": 0, "size": 0, "newest": [], "whole": 1}},
    {"outside": {"files": 0, "size": 0, "newest": [], "whole": None}},
    {"outside": {"files": 0, "size": 0, "newest": "/a", "whole": True}},
    {"outside": {"files": 0, "size": 0, "newest": ["/a"], "whole": True}},
    {"outside": {"files": 99, "size": 0, "newest": ["/a"] * 21, "whole": True}},
    {"outside": {"files": 1, "size": 0, "newest": ["a"], "whole": True}},
    {"outside": {"files": 1, "size": 0, "newest": [""], "whole": True}},
    {"outside": {"files": 1, "size": 0, "newest": ["/a\0b"], "whole": True}},
    {"outside": {"files": 1, "size": 0, "newest": ["/\ud800"], "whole": True}},
    {"outside": {"files": 1, "size": 0, "newest": ["/" + "a" * 4096], "whole": True}},
    {"outside": {"files": 1, "size": 0, "newest": [None], "whole": True}},
    {"checkouts": {}},
    {"checkouts": ["/a"]},
    {"checkouts": [["/a", 1]]},
    {"checkouts": [["/a", 1, 0, 0]]},
    {"checkouts": [["a", 1, 0]]},
    {"checkouts": [["/a", -1, 0]]},
    {"checkouts": [["/a", 0, 0]]},
    {"checkouts": [["/a", 1, None]]},
    {"checkouts": [["/a", 1, 0]] * 51},
]


@pytest.mark.parametrize("lie", HOSTILE, ids=lambda lie: json.dumps(lie)[:60])
def test_no_hostile_answer_is_believed(lie: dict[str, object]) -> None:
    """Numbers out of range, endless lists and places that are none break the protocol; none crashes what reads it."""
    with pytest.raises(BrokenAnswer):
        circumstances(told(**lie), 3, ROOTS)


def link(name: str) -> SymbolicLink:
    """Return a link in a tree."""
    return SymbolicLink(Tree("/r", "t", TreeKind.TRAINING), RemotePath((name,)), f"/data/{name}")


def test_what_links_lead_to_is_taken_by_their_places() -> None:
    """A link that can't be told is not among them; a size that is not known is none."""
    rows = [["../x", "/data/x", True, 70, False, ""], None, ["y", "/r/y", False, -1, True, "slow\x1b"]]
    payload = json.dumps({"id": 4, "links": rows}).encode()
    assert link_targets(payload, 4, (link("a"), link("b"), link("c"))) == {
        "/r/t/a": LinkTarget("../x", "/data/x", size=70),
        "/r/t/c": LinkTarget("y", "/r/y", there=False, watched=True, unclear="slow?"),
    }


def test_links_that_were_not_looked_up_say_why() -> None:
    """Where something hangs, what was found until then is told, and of the others why it is not known."""
    payload = json.dumps({"id": 4, "links": [["x", "/x", True, 1, False, ""], None], "hangs": "too slow"}).encode()
    assert link_targets(payload, 4, (link("a"), link("b"))) == {
        "/r/t/a": LinkTarget("x", "/x", size=1),
        "/r/t/b": LinkTarget("/data/b", "/data/b", unclear="too slow"),
    }


@pytest.mark.parametrize(
    "lie",
    [
        {"id": 3},
        {"links": None},
        {"links": []},
        {"links": [None, None]},
        {"links": [[]]},
        {"links": [["x", "/x", True, 1, True]]},
        {"links": [["x", "/x", True, 1, True, None]]},
        {"hangs": None},
        {"links": [["x", "/x", 1, 1, True, ""]]},
        {"links": [["x", "/x", True, -2, True, ""]]},
        {"links": [["x", "/x", True, 2**70, True, ""]]},
        {"links": [["x", "x", True, 1, True, ""]]},
        {"links": [["", "/x", True, 1, True, ""]]},
        {"links": [["x", "/" + "a" * 4096, True, 1, True, ""]]},
        {"links": [["x\0", "/x", True, 1, True, ""]]},
    ],
    ids=lambda lie: json.dumps(lie)[:60],
)
def test_no_hostile_answer_about_links_is_believed(lie: dict[str, object]) -> None:
    """Other links than were asked for, and rows of another shape, break the protocol."""
    with pytest.raises(BrokenAnswer):
        link_targets(json.dumps({"id": 4, "links": [None]} | lie).encode(), 4, (link("a"),))
