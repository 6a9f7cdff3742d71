"""From a connection to a box that can be looked at: the probe where it runs, SFTP where that is all there is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from harvestd.errors import HostQuarantined
from harvestd.remote.box import Box, Limits, Reader, WatchList
from harvestd.remote.connecting import Connection
from harvestd.remote.probe.bootstrap import Pulse
from harvestd.remote.probe.client import ProbeBox
from harvestd.remote.probe.process import NoProbe
from harvestd.remote.probe.reader import ProbeReader
from harvestd.remote.probe.running import Running
from harvestd.remote.sftp.client import SftpBox
from harvestd.remote.sftp.reading import SftpReader
from harvestd.remote.sftp.session import NoSftp

_PULSE = Pulse()


@asynccontextmanager
async def open_box(
    connection: Connection, watch: WatchList, limits: Limits, pulse: Pulse = _PULSE
) -> AsyncIterator[Box]:
    """Give the box at the other end of `connection`, watched as `watch` says; leaving ends its programs there.

    Raises `HostQuarantined` where there is neither Python 3 nor SFTP, `Retry` when the link fails.
    """
    box = await _box(connection, watch, limits, pulse)
    try:
        yield box
    finally:
        box.close()


async def _box(connection: Connection, watch: WatchList, limits: Limits, pulse: Pulse) -> ProbeBox | SftpBox:
    try:
        return await ProbeBox.start(connection, watch, limits, pulse)
    except NoProbe as no_probe:
        try:
            return await SftpBox.start(connection, watch, limits)
        except NoSftp as no_sftp:
            raise HostQuarantined(
                f"{connection.target}: neither Python 3 nor SFTP works there ({no_probe}; {no_sftp})",
                hint="install Python 3.6 or newer on the box, or allow SFTP in its sshd_config",
            ) from no_sftp


@asynccontextmanager
async def open_reader(
    connection: Connection, like: Box, limits: Limits, pulse: Pulse = _PULSE
) -> AsyncIterator[Reader]:
    """Give a further reader on a connection of its own (for bulk), in the way in which `like` is read."""
    reader = (
        ProbeReader(Running(connection, limits, pulse)) if like.method == "probe" else SftpReader(connection, limits)
    )
    try:
        yield reader
    finally:
        reader.close()
