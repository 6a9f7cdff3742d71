"""Keep the program of one connection running: started when first needed, and again after it was given up."""

from collections.abc import Sequence

import anyio

from harvestd.remote.api import Limits
from harvestd.remote.probe.process import NoProbe, ProbeProcess
from harvestd.remote.probe.protocol import Pulse
from harvestd.remote.ssh.connection import Connection
from harvestd.remote.ssh.errors import LinkLost


class Running:
    """Shares one process among all users of a connection; it is never started twice at the same time."""

    def __init__(self, connection: Connection, limits: Limits, pulse: Pulse) -> None:
        self.connection = connection
        self.limits = limits
        self._pulse = pulse
        self._process: ProbeProcess | None = None
        self._starting = anyio.Lock()

    async def start(self, questions: Sequence[dict[str, object]] = ()) -> None:
        """Start the program, and send these requests; raise `NoProbe` where the host can't run it, `Retry`."""
        self._process = await ProbeProcess.start(self.connection, self.limits, self._pulse, questions)

    async def get(self) -> ProbeProcess:
        """Return the process, started again if it has ended. Raise `Retry`."""
        process, _ = await self.asked(())
        return process

    async def asked(self, questions: Sequence[dict[str, object]]) -> tuple[ProbeProcess, bool]:
        """Return the process, and whether it was started by this call, with these requests. Raise `Retry`."""
        async with self._starting:
            begins = self._process is None or not self._process.alive
            if begins:
                try:
                    await self.start(questions)
                except NoProbe as e:
                    raise LinkLost(f"{self.connection.target}: the probe does not start ({e})") from e
            if self._process is None:
                raise AssertionError("it was just started")
            return self._process, begins

    def give_up(self) -> None:
        """End the process: its remaining answers are not wanted, or it violated the protocol."""
        process, self._process = self._process, None
        if process is not None:
            process.close()
