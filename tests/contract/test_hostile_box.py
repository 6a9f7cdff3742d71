"""A box that lies: each lie ends in quarantine, in bounded time and memory, and its text reaches no error raw.

The server is scripted with asyncssh, since no honest OpenSSH would say such things.
"""

import struct
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import asyncssh
import pytest
from msgspec.structs import replace

from contract.connected import Pins, names, read, training, watching
from harvestd.convention.paths import RemotePath
from harvestd.errors import HarvestError, HostQuarantined, Retry
from harvestd.remote.api import Box, Limits, ReadRequest
from harvestd.remote.open import open_box
from harvestd.remote.ssh.connect import connect
from harvestd.remote.ssh.target import Target
from support.lying import Script, end, entry, frame, json_frame, listening, scan_part
from support.openssh import generate_key

pytestmark = pytest.mark.anyio

TREE = training(Path("/root-of-a-liar"))
LIMITS = Limits(entries=2000, rejected_names=50, answer_time=timedelta(seconds=1.5), scan_time=timedelta(seconds=3))


@asynccontextmanager
async def liar(tmp_path: Path, script: Script) -> AsyncIterator[Box]:
    """Provide a box whose probe answers as `script` says."""
    async with served(tmp_path, lambda: script) as box:
        yield box


@asynccontextmanager
async def served(
    tmp_path: Path, script: Callable[[], Script] | None, *, pushes: bool = False, **options: object
) -> AsyncIterator[Box]:
    """Provide a box behind an asyncssh server with these options."""
    key = generate_key(tmp_path / "key")
    async with listening(script, **options) as port:
        target = Target("liar", "127.0.0.1", port, identity_files=(key,), agent=False)
        watched = replace(watching(TREE), push=pushes)
        async with connect(target, Pins()) as connection, open_box(connection, watched, LIMITS) as box:
            yield box


async def outcome(box: Box) -> HarvestError:
    """Return the error that a scan ends with."""
    with anyio.fail_after(30), pytest.raises(HarvestError) as raised:
        await box.scan()
    assert "liar" in str(raised.value)
    assert "\x1b" not in str(raised.value)
    return raised.value


def in_tree(*rows: list[object]) -> list[object]:
    """Return entries that stand at the top of the tree."""
    return [["", list(rows)]]


async def test_honest_script_is_believed(tmp_path: Path) -> None:
    """The scripted server can tell the truth, so what fails below fails for its lie."""
    async with liar(tmp_path, lambda asked: scan_part(set=in_tree(entry())) + end(asked["id"])) as box:
        assert names(await box.scan()) == {"a"}


async def test_keep_alive_of_a_scan_that_finds_nothing_is_not_waited_on(tmp_path: Path) -> None:
    """A program on an honest host sends one at the beginning of such a scan, and says no more if nothing changed."""

    def script(asked: dict[str, object]) -> bytes:
        pushed = scan_part(set=in_tree(entry("b"))) + end(0) + frame(b"K", b"straining_runs")
        return scan_part(set=in_tree(entry())) + end(asked["id"]) + pushed

    async with served(tmp_path, lambda: script, pushes=True) as box:
        assert names(await box.scan()) == {"a"}
        await box.changed()
        with anyio.fail_after(1.0):
            assert names(await box.pushed()) == {"a", "b"}
        assert box.own_scans() == []


DEEP = "/".join(["x" * 250] * 14)
LIES: dict[str, Script] = {
    "garbage": lambda _: b"\x1b[31mgarbage" * 100,
    "huge frame": lambda _: struct.pack(">I", 2**31) + b"S" + bytes(1000),
    "empty frame": lambda _: struct.pack(">I", 0) * 10,
    "no zlib": lambda _: frame(b"S", b"not zlib"),
    "bomb": lambda _: frame(b"S", zlib.compress(bytes(200 * 1024 * 1024))),
    "no JSON": lambda _: frame(b"E", b"{nonsense"),
    "deep JSON": lambda _: frame(b"E", b"[" * 200_000),
    "no object": lambda _: json_frame(b"E", [1, 2]),
    "endless number": lambda _: frame(b"E", b'{"id":' + b"9" * 100_000 + b"}"),
    "wrong request": lambda asked: end(int(str(asked["id"])) + 1),
    "other tree": lambda asked: scan_part(tree=7) + end(asked["id"]),
    "negative size": lambda asked: scan_part(set=in_tree(entry("a", "f", -1, 2, 3, 4))) + end(asked["id"]),
    "size of 2**63": lambda asked: scan_part(set=in_tree(entry("a", "f", 2**63, 2, 3, 4))) + end(asked["id"]),
    "size is true": lambda asked: scan_part(set=in_tree([*entry()[:2], *[True] * 4])) + end(asked["id"]),
    "size is a text": lambda asked: scan_part(set=in_tree(entry("a", "f", "1", 2, 3, 4))) + end(asked["id"]),
    "size is a float": lambda asked: scan_part(set=in_tree(entry("a", "f", 1.5, 2, 3, 4))) + end(asked["id"]),
    "time of 2**70": lambda asked: scan_part(set=in_tree(entry("a", "f", 1, 2**70, 3, 4))) + end(asked["id"]),
    "unknown kind": lambda asked: scan_part(set=in_tree(entry("a", "\x1b"))) + end(asked["id"]),
    "short row": lambda asked: scan_part(set=in_tree(["a"])) + end(asked["id"]),
    "name is a number": lambda asked: scan_part(set=in_tree(entry(5))) + end(asked["id"]),
    "file with target": lambda asked: scan_part(set=in_tree([*entry(), "x"])) + end(asked["id"]),
    "directory is a number": lambda asked: scan_part(set=[[5, [entry()]]]) + end(asked["id"]),
    "no pairs": lambda asked: scan_part(set=[entry()]) + end(asked["id"]),
    "bad directory": lambda asked: scan_part(set=[["../x", [entry(str(n)) for n in range(60)]]]) + end(asked["id"]),
    "bad names": lambda asked: scan_part(set=in_tree(*(entry(f"../{n}") for n in range(60)))) + end(asked["id"]),
    "too many": lambda asked: (
        b"".join(scan_part(set=[[str(m), [entry(str(n)) for n in range(500)]]]) for m in range(6)) + end(asked["id"])
    ),
    "long names": lambda asked: (
        b"".join(scan_part(set=[[DEEP, [entry(f"{m}-{n}") for n in range(50)]]]) for m in range(6)) + end(asked["id"])
    ),
    "unknown state": lambda asked: json_frame(b"E", {"id": asked["id"], "now": 1, "trees": [[0, "\x1b", 1, ""]]}),
    "file instead": lambda _: json_frame(b"O", {"id": 0, "version": [1, 2, 3, 4], "verified": None}),
    "alive for nobody": lambda _: frame(b"K", b"x"),
    "packed garbage": lambda _: frame(b"Z", b"not zlib"),
    "packed bomb": lambda _: frame(b"Z", zlib.compress(bytes(200 * 1024 * 1024))),
    "packed in packed": lambda _: frame(b"Z", zlib.compress(frame(b"Z", zlib.compress(b"")))),
    "packed half": lambda _: frame(b"Z", zlib.compress(frame(b"K", b"s")[:-1])),
    "packed beyond its grant": lambda _: frame(b"Z", zlib.compress(frame(b"K", b"s") * 600_000)),
}


@pytest.mark.parametrize("lie", LIES)
async def test_lies_about_trees(tmp_path: Path, lie: str) -> None:
    """A lie in a scan ends in quarantine, at once where it is a flood."""
    with pytest.raises(HostQuarantined):
        async with liar(tmp_path, LIES[lie]) as box:
            raise await outcome(box)


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../x", "/etc/passwd", "a//b", "a/../b", "nul\0", "x" * 256, "a/" * 70 + "b", "\ud800"]
)
async def test_bad_names_are_counted_and_siblings_kept(tmp_path: Path, name: str) -> None:
    """A name that no file may have is rejected alone."""
    part = scan_part(set=in_tree(entry("before"), entry(name), entry("after")))
    async with liar(tmp_path, lambda asked: part + end(asked["id"])) as box:
        snapshot = await box.scan()
    assert names(snapshot) == {"before", "after"}
    assert snapshot.rejected == 1


async def test_rejected_names_that_go_are_not_counted_for_ever(tmp_path: Path) -> None:
    """The count is of the names that are there now."""
    parts = iter([scan_part(set=in_tree(entry("../x"))), scan_part(gone=[["", ["../x"]]])] * 100)
    async with liar(tmp_path, lambda asked: next(parts) + end(asked["id"])) as box:
        counts = [(await box.scan()).rejected for _ in range(120)]
    assert counts == [1, 0] * 60


async def test_endless_scan_is_cut_off(tmp_path: Path) -> None:
    """The same news without end cost no more memory than one tree, and end in quarantine."""
    news = scan_part(set=in_tree(*(entry(f"{n}") for n in range(1000)))) * 2000
    async with liar(tmp_path, lambda _: news) as box:
        tracemalloc.start()
        try:
            error = await outcome(box)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert isinstance(error, HostQuarantined)
    assert peak < 64 * 1024 * 1024


async def test_silence_is_a_retry(tmp_path: Path) -> None:
    """A box that says nothing any more is not at fault for sure: it is tried again."""
    async with liar(tmp_path, lambda _: b"") as box:
        assert isinstance(await outcome(box), Retry)


def whole(number: int, size: int, data: bytes) -> bytes:
    """Return a small file in one."""
    return frame(b"W", struct.pack(">IQqqQ32s", number, size, 2, 3, 4, bytes(32)) + data)


WANTED = ReadRequest(TREE, RemotePath(("a",)))
OPENED = json_frame(b"O", {"id": 0, "version": [10, 2, 3, 4], "verified": None})
CLOSED = json_frame(b"C", {"id": 0, "version": [10, 2, 3, 4], "sha256": "0" * 64})

READ_LIES: dict[str, bytes] = {
    "more than asked": OPENED + frame(b"D", bytes(11)),
    "zero bytes for ever": OPENED + frame(b"D", b"") * 100,
    "not opened": frame(b"D", b"x"),
    "closed unopened": CLOSED,
    "opened twice": OPENED + OPENED,
    "other file": json_frame(b"O", {"id": 1, "version": [10, 2, 3, 4], "verified": None}),
    "end too soon": OPENED + json_frame(b"R", {"id": 0}),
    "more files": OPENED + frame(b"D", bytes(10)) + CLOSED + OPENED,
    "no hash": OPENED + json_frame(b"C", {"id": 0, "version": [10, 2, 3, 4], "sha256": "x" * 64}),
    "short version": json_frame(b"O", {"id": 0, "version": [10], "verified": None}),
    "size of -1": json_frame(b"O", {"id": 0, "version": [-1, 2, 3, 4], "verified": None}),
    "long reason": json_frame(b"X", {"id": 0, "reason": "\x1b" * 1000, "vanished": False}),
    "whole without a head": frame(b"W", b"x" * 20),
    "whole of another file": whole(1, 4, b"data"),
    "whole with too little": whole(0, 5, b"data"),
    "whole with too much": whole(0, 3, b"data"),
    "whole within one": OPENED + whole(0, 4, b"data"),
    "more than the greatest": whole(0, 2**64 - 1, b"data"),
}


@pytest.mark.parametrize("lie", READ_LIES)
async def test_lies_about_files(tmp_path: Path, lie: str) -> None:
    """A lie in a reading ends in quarantine."""

    def answer(asked: dict[str, object]) -> bytes:
        return READ_LIES[lie] if asked["do"] == "read" else end(asked["id"])

    async with liar(tmp_path, answer) as box:
        await box.scan()
        with anyio.fail_after(30), pytest.raises(HostQuarantined, match="liar"):
            await read(box, [WANTED])


async def test_news_that_nobody_asked_for(tmp_path: Path) -> None:
    """A box that tells of changes although it was not asked to breaks the protocol."""
    async with liar(tmp_path, lambda asked: end(asked["id"]) + scan_part(set=in_tree(entry()))) as box:
        assert "unrequested changes" in str(await outcome(box))


class _LyingFiles(asyncssh.SFTPServer):
    """Lists what no directory holds."""

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        return asyncssh.SFTPAttrs(permissions=0o40755, size=0, mtime=1) if path else asyncssh.SFTPAttrs()

    lstat = stat

    def realpath(self, path: bytes) -> bytes:
        return path

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        """List bad names among good ones, and nothing deeper."""
        if path.endswith(b"training_runs"):
            for name in self.listed():
                yield asyncssh.SFTPName(name, attrs=asyncssh.SFTPAttrs(permissions=0o100644, size=1, mtime=1))

    def listed(self) -> list[bytes]:
        """Return the names."""
        return [b".", b"..", b"good", b"../bad", b"/etc/passwd", b"", b"nul\0", b"x" * 300]


class _Endless(_LyingFiles):
    def listed(self) -> list[bytes]:
        return [b"%d" % n for n in range(100_000)]


@asynccontextmanager
async def sftp_liar(tmp_path: Path, server: type[asyncssh.SFTPServer]) -> AsyncIterator[Box]:
    """Provide a box that only has this SFTP server."""
    async with served(tmp_path, None, sftp_factory=server) as box:
        assert box.method == "sftp"
        yield box


async def test_bad_names_over_sftp(tmp_path: Path) -> None:
    """Names that no file may have are rejected and counted; siblings are kept."""
    async with sftp_liar(tmp_path, _LyingFiles) as box:
        snapshot = await box.scan()
    assert names(snapshot) == {"good"}
    assert snapshot.rejected == 5


async def test_endless_directory_over_sftp(tmp_path: Path) -> None:
    """A listing beyond the limit ends in quarantine long before its end."""
    async with sftp_liar(tmp_path, _Endless) as box:
        assert isinstance(await outcome(box), HostQuarantined)
