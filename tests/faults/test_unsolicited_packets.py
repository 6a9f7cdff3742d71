"""SSH packets that nobody asked for and no channel's window governs: each kind is cut off soon, by bytes or by time."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import anyio
import asyncssh
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.remote.ssh.flood_guard import Meter
from support.faults import fired
from support.floods import KINDS, flood_of, flooding
from support.house import Workstation
from support.lying import Liar, add_port, listening, settled
from support.surroundings import untouched
from support.waiting import events, until

pytestmark = pytest.mark.anyio

RUN = RunSpec()
MIB = 1024 * 1024


@pytest.fixture
def meters(monkeypatch: pytest.MonkeyPatch) -> list[Meter]:
    """Return the meters of all connections, in their order."""
    made: list[Meter] = []
    real = Meter.__init__

    def noted(self: Meter, cut: Callable[[], None], begun: Callable[[], None]) -> None:
        real(self, cut, begun)
        made.append(self)

    monkeypatch.setattr(Meter, "__init__", noted)
    return made


@pytest.mark.parametrize("kind", KINDS)
async def test_flood_is_cut_off(workstation: Workstation, tmp_path: Path, meters: list[Meter], kind: str) -> None:
    """The host is quarantined within five seconds, and another one beside it comes home."""
    honest = Liar(tmp_path / "honest")
    RunWriter(honest.root, RUN).start()
    settled(honest.root)
    async with listening(None, process_factory=flooding(flood_of(kind))) as port, listening(honest.script) as other:
        add_port(workstation, "hostile", port, tmp_path / "nowhere")
        add_port(workstation, "honest", other, honest.root)
        with untouched(workstation):
            began = anyio.current_time()
            async with workstation.running() as event_log:
                await until(lambda: events(event_log, "host.quarantined", host="hostile"))
                took = anyio.current_time() - began
                await until(workstation.stands(RUN.name, "config.yaml"))
    (event,) = events(event_log, "host.quarantined")
    assert "far more than it was asked for" in str(event["error"])
    fired(58)
    assert took < 30  # without a limit: for ever
    (flooded,) = (meter for meter in meters if meter.exceeded)
    # Cut off by its time or, on a fast machine, by its bytes: 4 MiB and one reading of the socket.
    assert flooded.total < (8 * MIB if kind == "large ignore" else 5 * MIB)
    workstation.audit()


class _BeforeLogIn(asyncssh.SSHServer):
    """Floods who has not logged in yet."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    async def begin_auth(self, username: str) -> bool:  # noqa: ARG002  (asyncssh's signature)
        while not self._connection.is_closed():
            for _ in range(100):
                self._connection.send_debug("x")
            await asyncio.sleep(0)
        return True


async def test_flood_before_the_log_in(workstation: Workstation, tmp_path: Path) -> None:
    """It is no lost connection that is tried again at once: the host is quarantined."""
    async with listening(None, server_factory=_BeforeLogIn) as port:
        add_port(workstation, "hostile", port, tmp_path / "nowhere")
        with untouched(workstation):
            (outcome,) = (await workstation.outcomes()).values()
    assert "far more than it was asked for" in str(outcome.error)
    fired(58)
    workstation.audit()
