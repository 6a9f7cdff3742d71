"""Open a connected host for scans and reads: with the probe where it runs, otherwise with SFTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from harvestd.convention.scan.snapshot import Tree
from harvestd.errors import HostQuarantined
from harvestd.remote.api import Box, Limits, Reader, WatchList, WithoutProbe
from harvestd.remote.probe.client import ProbeBox
from harvestd.remote.probe.process import NoProbe, Running
from harvestd.remote.probe.protocol import Pulse
from harvestd.remote.probe.reader import ProbeReader
from harvestd.remote.ssh.connection import Connection

if TYPE_CHECKING:
    from harvestd.remote.sftp.client import SftpBox
    from harvestd.remote.sftp.reading import SftpReader

_PULSE = Pulse()


@asynccontextmanager
async def open_box(
    connection: Connection, watch: WatchList, limits: Limits, pulse: Pulse = _PULSE, every: timedelta | None = None
) -> AsyncIterator[Box]:
    """Yield the host at the other end of `connection`, watched as `watch` defines; end its programs there at exit.

    `every`: the interval in which it scans by itself, if `watch` has it push. Raise `HostQuarantined` where there is
    neither Python 3 nor SFTP, `Retry` when the link fails.
    """
    box = await _box(connection, watch, limits, pulse, every)
    try:
        yield box
    finally:
        box.close()


async def _box(
    connection: Connection, watch: WatchList, limits: Limits, pulse: Pulse, every: timedelta | None
) -> "ProbeBox | SftpBox":
    try:
        return await ProbeBox.start(connection, watch, limits, pulse, every)
    except NoProbe as no_probe:
        return await _plain_box(connection, watch, limits, no_probe)


async def _plain_box(connection: Connection, watch: WatchList, limits: Limits, no_probe: NoProbe) -> "SftpBox":
    # Few hosts need SFTP, so it is imported only for them.
    from harvestd.remote.sftp.client import SftpBox  # noqa: PLC0415
    from harvestd.remote.sftp.session import NoSftp  # noqa: PLC0415

    try:
        return await SftpBox.start(connection, watch, limits, WithoutProbe(str(no_probe), _way_out(no_probe.output)))
    except NoSftp as no_sftp:
        raise HostQuarantined(
            f"{connection.target}: neither Python 3 nor SFTP works there ({no_probe}; {no_sftp})",
            hint=_way_out(no_probe.output),
        ) from no_sftp


def _way_out(output: str) -> str:
    """Return the hint for a host that runs neither; `output`: what it wrote in place of an answer."""
    if "login as the user" in output or "log in as the user" in output:
        return "the host names the user to log in as: set ssh.user"
    if output:
        return "the host's own words come first: a login shell or a forced command answers in place of what was started"
    return "install Python 3.6 or newer on the box, or allow SFTP in its sshd_config"


@asynccontextmanager
async def open_reader(
    connection: Connection, like: Box, limits: Limits, pulse: Pulse = _PULSE
) -> AsyncIterator[Reader]:
    """Yield a further reader on a connection of its own (for bulk), with the method of `like`."""
    reader = _reader(connection, like, limits, pulse)
    try:
        yield reader
    finally:
        reader.close()


def _reader(connection: Connection, like: Box, limits: Limits, pulse: Pulse) -> "ProbeReader | SftpReader":
    if like.method == "probe":
        drifting = like.drifting if isinstance(like, ProbeBox) else frozenset[Tree]()
        return ProbeReader(Running(connection, limits, pulse), drifting)
    from harvestd.remote.sftp.reading import SftpReader  # noqa: PLC0415  (imported for `like` already)

    return SftpReader(connection, limits)
