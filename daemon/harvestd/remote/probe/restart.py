"""The program on one connection: started when it is first needed, and again after it had to be given up."""

from collections.abc import Sequence

import anyio

from harvestd.remote.api import Limits
from harvestd.remote.probe.bootstrap import Pulse
from harvestd.remote.probe.process import NoProbe, ProbeProcess
from harvestd.remote.ssh.connect import Connection
from harvestd.remote.ssh.errors import LinkLost


class Running:
    """Keeps one process for all who talk with it; two never start it twice."""

    def __init__(self, connection: Connection, limits: Limits, pulse: Pulse) -> None:
        self.connection = connection
        self.limits = limits
        self._pulse = pulse
        self._process: ProbeProcess | None = None
        self._starting = anyio.Lock()

    async def start(self, questions: Sequence[dict[str, object]] = ()) -> None:
        """Start the program, and ask it these questions; raises `NoProbe` where the box can't run it, `Retry`."""
        self._process = await ProbeProcess.start(self.connection, self.limits, self._pulse, questions)

    async def get(self) -> ProbeProcess:
        """Return the process, started anew if it has ended. Raises `Retry`."""
        process, _ = await self.asked(())
        return process

    async def asked(self, questions: Sequence[dict[str, object]]) -> tuple[ProbeProcess, bool]:
        """As `get`; where it is started anew these questions travel with it, and True is given."""
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
        """End the process: what it still has to say is of no use, or its conversation went wrong."""
        process, self._process = self._process, None
        if process is not None:
            process.close()
