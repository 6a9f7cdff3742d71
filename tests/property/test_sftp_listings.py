"""Whatever an SFTP server lists, it becomes entries that can be believed in form, or the protocol's own error."""

from types import SimpleNamespace
from typing import Any

import asyncssh
from hypothesis import given
from hypothesis import strategies as st

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.snapshot import EntryType
from harvestd.errors import HarvestError
from harvestd.remote.api import Limits
from harvestd.remote.sftp.scanning import Counts, Walk
from harvestd.remote.sftp.session import BadAnswer

ENTRIES = 20
REJECTED = 5

names = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(
        [b"", b".", b"..", b"../x", b"/etc/shadow", b"a\0b", b"\xff\xfe", b"a/b", b".harvestd", b"x" * 256]
    ),
)
numbers = st.one_of(st.none(), st.integers(-(2**70), 2**70), st.sampled_from([0, 1, 2**33, 2**63 - 1, 2**63, 2**64]))
attributes = st.builds(
    asyncssh.SFTPAttrs,
    size=numbers,
    mtime=numbers,
    permissions=st.one_of(st.none(), st.integers(0, 2**32 - 1), st.sampled_from([0o100644, 0o40755, 0o120777])),
)


class _Session:
    """Stands for an open session, as far as listings ask it."""

    connection = SimpleNamespace(target="box")

    def failed(self, error: Exception) -> HarvestError:
        """Pass where the server answered with nonsense; anything else is a bug."""
        assert isinstance(error, BadAnswer)
        return HarvestError(str(error))


@given(st.lists(st.tuples(names, attributes), max_size=2 * ENTRIES))
def test_any_listing_is_taken_or_refused(listed: list[tuple[bytes, asyncssh.SFTPAttrs]]) -> None:
    """Names stay below their directory, numbers stay in range, and the limits hold."""
    session: Any = _Session()
    counts = Counts(Limits(entries=ENTRIES, rejected_names=REJECTED), session)
    walk = Walk(session, b"/tree", frozenset({"wandb"}), counts)
    directory = RemotePath(("runs",))
    try:
        for name, told in listed:
            walk._take(directory, name, told)
    except HarvestError:
        return
    assert len(walk.entries) <= ENTRIES
    assert sum(1 for name, _ in listed if b"/" in name or b"\0" in name or name in {b"", b".", b".."}) <= REJECTED
    for path, entry in walk.entries.items():
        assert path.below(directory)
        assert len(path.parts) == len(directory.parts) + 1
        assert entry.version.size >= (-1 if entry.type is EntryType.PRUNED else 0)
        assert 0 <= entry.version.size < 2**63 or entry.type is EntryType.PRUNED
        assert 0 <= entry.version.mtime_ns < 2**63
