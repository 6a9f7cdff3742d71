"""Names that Linux allows and a terminal, a log or our own files would suffer from, on a box with a real OpenSSH."""

import os
import re
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.command import harvestd_command, on_terminal
from support.faults import fired
from support.house import Workstation
from support.lying import settled
from support.surroundings import untouched

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
MODEL = Path("training_state/step_final/model")
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
"""What a command may never print; its own line ends and tabs apart."""

TERMINAL = {
    "newline": b"a\nb",
    "return": b"good\rbad",
    "tab": b"a\tb",
    "escape": b"\x1b[2J\x1b]0;owned\x07",
    "c1": "a\x9b31mb".encode(),
    "bidi": "exe.\u202etxt".encode(),
    "isolate": "a\u2066b\u2069".encode(),
    "separator": "a\u2028b".encode(),
    "delete": b"a\x7f\x08b",
}
NOT_UTF8 = {
    "latin": b"caf\xe9",
    "lone": b"\xff\xfe",
    "torn": b"\xe2\x82",
    "surrogate": b"\xed\xa0\x80",
    "odd": b"\x80" * 9,
}
OURS = [
    ".harvestd",
    ".harvestd.lock",
    "manifest.json",
    "README.md",
    "lock",
    "sentinel",
    "staging",
    "versions",
    "catalogue.sqlite",
    "training_run",
    "evals",
    "_unfiled",
    "_versions",
]


def write_run(root: Path) -> Path:
    """Write a whole run, long ago; gives its directory."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(3)
    writer.finish()
    return writer.directory


def put(directory: Path, raw: bytes, content: bytes) -> None:
    """Write a file of this name."""
    Path(os.fsdecode(os.fsencode(directory) + b"/" + raw)).write_bytes(content)


def contents(directory: Path) -> dict[bytes, bytes]:
    """Return the files of a directory."""
    return {os.fsencode(path.name): path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.mark.parametrize("sftp_only", [False, True], ids=["probe", "sftp"])
async def test_names_that_play_with_a_terminal(workstation: Workstation, *, sftp_only: bool) -> None:
    """They are filed as they are, and no command, log or error shows one of their characters raw."""
    box = workstation.add_box(sftp_only=sftp_only)
    run = write_run(box.root)
    for name, raw in TERMINAL.items():
        put(run / MODEL, raw, name.encode())
        # One that is not wanted is told of, too, and a link shows its target.
        put(run, raw, b"unknown")
        put(run / "logs", b"rollouts" + raw, b"left out")
        (run / "logs" / f"link-{name}").symlink_to(os.fsdecode(raw))
    settled(box.root)
    with untouched(workstation):
        workstation.settings()
        done = harvestd_command("-c", workstation.config, "once")
    here = contents(workstation.training(RUN.name) / MODEL)
    assert {raw: here.get(raw) for raw in TERMINAL.values()} == {raw: name.encode() for name, raw in TERMINAL.items()}
    fired(45)
    experiment = str((workstation.experiment(RUN.name) or Path()).name)
    place = f"{experiment}/training_run/{MODEL}"
    asked = [["show", experiment], ["show", RUN.name], ["explain", place], ["explain", f"gpu-a:{run}"], ["plan"]]
    name = os.fsdecode(TERMINAL["escape"])
    asked += [["explain", f"{place}/{name}"], ["explain", f"gpu-a:{run}/{name}"], ["explain", "\x1b[31mnothing\u202e"]]
    ended = [done, *(harvestd_command("-c", workstation.config, *words) for words in asked)]
    ended += [harvestd_command("-c", workstation.config, *words, "--json") for words in asked[:2]]
    for one in ended:
        assert not RAW.search(one.out + one.err), (one.out + one.err)[:2000]
        assert "Traceback" not in one.err
    shown = "".join(one.out for one in ended)
    assert r"\x1b[2J" in shown
    assert r"exe.\u202etxt" in shown
    seen = on_terminal(["-c", workstation.config, "show", experiment])
    assert "\x1b[2J" not in seen
    assert "\u202e" not in seen
    workstation.audit()


@pytest.mark.parametrize("sftp_only", [False, True], ids=["probe", "sftp"])
async def test_names_that_are_not_utf8(workstation: Workstation, *, sftp_only: bool) -> None:
    """Any bytes that Linux allows come home byte for byte, are explained by their name, and are fetched only once."""
    box = workstation.add_box(sftp_only=sftp_only)
    run = write_run(box.root)
    folder = run / MODEL / os.fsdecode(b"\xff folder")
    folder.mkdir()
    for name, raw in NOT_UTF8.items():
        put(run / MODEL, raw, name.encode())
        put(folder, raw, name.encode())
    settled(box.root)
    with untouched(workstation):
        await workstation.once()
    here = workstation.training(RUN.name) / MODEL
    expected = {raw: name.encode() for name, raw in NOT_UTF8.items()}
    for directory in (here, here / folder.name):
        found = contents(directory)
        assert {raw: found.get(raw) for raw in expected} == expected
    fired(46)
    (again,) = (await workstation.once()).values()
    assert again.files == 0
    relative = here.relative_to(workstation.data)
    done = harvestd_command("-c", workstation.config, "explain", f"{relative}/{os.fsdecode(NOT_UTF8['latin'])}")
    assert done.code == 0, done.err
    assert r"caf\udce9" in done.out
    workstation.audit()


@pytest.mark.parametrize("sftp_only", [False, True], ids=["probe", "sftp"])
async def test_longest_names_and_deepest_directories(workstation: Workstation, *, sftp_only: bool) -> None:
    """A name of 255 bytes comes home; what lies deeper than any path may be is told of, and the rest goes on."""
    box = workstation.add_box(sftp_only=sftp_only)
    run = write_run(box.root)
    longest = b"x" * 255
    put(run / MODEL, longest, b"long")
    deep = run / "logs"
    for _ in range(80):
        deep /= "d"
        deep.mkdir()
    (deep / "too deep").touch()
    for part in ("y" * 255,) * 10:
        deep /= part
        deep.mkdir()
    settled(box.root)
    with untouched(workstation):
        await workstation.once()
    assert contents(workstation.training(RUN.name) / MODEL)[longest] == b"long"
    assert workstation.stands(RUN.name, "config.yaml")()
    fired(47)
    workstation.audit()


@pytest.mark.parametrize("sftp_only", [False, True], ids=["probe", "sftp"])
async def test_names_that_are_our_own(workstation: Workstation, *, sftp_only: bool) -> None:
    """A file or directory called as harvestd calls its own is filed where it belongs, and is nothing of ours."""
    box = workstation.add_box(sftp_only=sftp_only)
    run = write_run(box.root)
    for name in OURS:
        (run / MODEL / name).write_bytes(b"theirs " + name.encode())
        folder = run / "training_state" / "step_final" / f"in {name}" / name
        folder.mkdir(parents=True)
        (folder / name).write_bytes(b"deeper " + name.encode())
        for place in (run, box.root / "training_runs", box.root / "eval_runs", run / "logs"):
            place.mkdir(exist_ok=True)
            (place / name).write_bytes(b"theirs")
    settled(box.root)
    with untouched(workstation):
        await workstation.once()
        (again,) = (await workstation.once()).values()
    assert again.files == 0
    fired(48)
    training = workstation.training(RUN.name)
    for name in OURS:
        assert (training / MODEL / name).read_bytes() == b"theirs " + name.encode()
        place = training / "training_state" / "step_final" / f"in {name}" / name / name
        assert place.read_bytes() == b"deeper " + name.encode()
    assert b"theirs" not in (training.parent / "manifest.json").read_bytes()
    assert not (training.parent / ".harvestd").exists()
    assert (workstation.data / ".harvestd" / "catalogue.sqlite").read_bytes().startswith(b"SQLite format 3")
    workstation.audit()
