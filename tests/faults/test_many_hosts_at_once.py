"""Many hosts come and go together: they are not tried together again, and one that comes and goes is told of once."""

from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import HarvestError
from harvestd.harvest.fleet.supervisor import ReconnectPolicy
from support.faults import fired
from support.house import Workstation
from support.lying import Liar, add_port, listening, settled
from support.relay import relayed
from support.waiting import events, until

pytestmark = pytest.mark.anyio

HOSTS = 200
RUN = RunSpec()


@pytest.fixture
def firsts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the first pause of each host: a quick one may have its second before another's first."""
    made: list[float] = []
    real = ReconnectPolicy.failed

    def noted(self: ReconnectPolicy, error: HarvestError) -> float:
        first = self.attempt == 1
        pause = real(self, error)
        if first:
            made.append(pause)
        return pause

    monkeypatch.setattr(ReconnectPolicy, "failed", noted)
    return made


async def test_two_hundred_hosts_are_spread(workstation: Workstation, tmp_path: Path, firsts: list[float]) -> None:
    """Two hundred hosts that fail at once have pauses of their own: they don't all come back at once."""
    async with relayed(1) as relay:  # where nobody listens: every connection ends at once
        for number in range(HOSTS):
            add_port(workstation, f"gpu-{number:03}", relay.port, tmp_path / "nowhere")
        async with workstation.running() as event_log:
            await until(lambda: len(events(event_log, "host.lost")) == HOSTS)
            fired(13)
            await until(lambda: len(firsts) == HOSTS)
    assert 0.5 <= min(firsts) < 0.55
    assert 0.95 < max(firsts) <= 1.0
    tenths = [sum(low <= (pause - 0.5) * 20 < low + 1 for pause in firsts) for low in range(10)]
    assert max(tenths) <= HOSTS / 4
    assert len({str(one["host"]) for one in events(event_log, "host.lost")}) == HOSTS
    workstation.audit()


async def test_host_that_comes_and_goes_is_no_stream_of_events(
    workstation: Workstation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first losses are told, and no more; that it is back is told when it has settled, and nothing is missed."""
    monkeypatch.setattr("harvestd.harvest.fleet.supervisor.FIRST_PAUSE", 0.05)
    monkeypatch.setattr("harvestd.harvest.fleet.supervisor.LONGEST_PAUSE", 0.05)
    monkeypatch.setattr("harvestd.harvest.fleet.supervisor.REMEMBERED", 3.0)
    honest = Liar(tmp_path / "honest")
    writer = RunWriter(honest.root, RUN)
    writer.start()
    settled(honest.root)
    async with listening(honest.script) as port, relayed(port) as relay:
        add_port(workstation, "gpu-a", relay.port, honest.root)
        async with workstation.running() as event_log:
            for _ in range(8):
                honest.heard.clear()
                await until(lambda: honest.heard.count("scan") > 1)
                relay.cut()
                await until(lambda: relay.open == 0)
            assert len(events(event_log, "host.lost")) == 3
            assert len(events(event_log, "host.connected")) == 3
            writer.log_until(2)
            await until(workstation.follows(writer))
            await until(lambda: len(events(event_log, "host.connected")) == 4)
            assert workstation.catalogue("SELECT state FROM hosts") == [("connected",)]
            assert len(events(event_log, "host.lost")) == 3
    workstation.audit()
