"""A file system whose inodes change by themselves: what is read has the version that a scan showed, by each reader."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.connected import box_at, connection_to, entry, fill, listing, read, training, wanted, watching
from harvestd.remote.api import Closed, Limits
from harvestd.remote.open import open_reader
from harvestd.remote.probe import protocol
from support.openssh import OpenSSHFactory

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


@pytest.fixture(autouse=True)
def _drifts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the program take every file system for one of these."""
    by_kind = 'filesystem.startswith("fuse")'
    text = protocol.program()
    assert by_kind in text
    monkeypatch.setattr(protocol, "program", lambda: text.replace(by_kind, "True"))
    protocol._packed.cache_clear()
    yield
    protocol._packed.cache_clear()


async def test_read_and_scanned_versions_agree(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Without inode and change time, in small files and large ones, on the connection of the scan and a further one."""
    server = openssh_factory()
    fill(root, {"run/small": b"1", "run/large": os.urandom(300_000)})
    async with box_at(server, watching(training(root))) as box:
        snapshot = await box.scan()
        assert listing(snapshot).drifts
        versions = [entry(snapshot, name).version for name in ("run/small", "run/large")]
        assert {(each.inode, each.ctime_ns) for each in versions} == {(0, 0)}
        async with connection_to(server) as connection, open_reader(connection, box, Limits()) as further:
            for reader in (box, further):
                ends = [each.end for each in await read(reader, [wanted(root, "run/small"), wanted(root, "run/large")])]
                assert [end.version for end in ends if isinstance(end, Closed)] == versions
        place = root / "training_runs/run/small"
        s = place.stat()
        (place.with_name("other")).write_bytes(b"1")
        os.utime(place.with_name("other"), ns=(s.st_atime_ns, s.st_mtime_ns))
        place.with_name("other").rename(place)
        assert not (await box.scan_whole()).changed
