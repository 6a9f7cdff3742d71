"""Releasing by hand a real box behind a real API: it goes only where the verdict, the box and the cloud agree."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count

import pytest

from harvestd.catalogue.entries import ReleaseOutcome
from harvestd.convention.kinds import LossKind
from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.harvest.host.passes import hosts_of
from harvestd.harvest.release.release import Examined, examined, release
from harvestd.inventory.host import Host
from harvestd.remote.probe.client import ProbeBox
from harvestd.safety.inputs import Circumstances
from harvestd.safety.verdict import Loss, Reason, ReasonKind, Verdict, VerdictAnswer
from harvestd.settings import Settings
from support.account import Account
from support.openssh import OpenSSHServer

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

BOX, OTHER = "a" * 32, "b" * 32
SAFE = Verdict(VerdictAnswer.SAFE)
Says = Callable[[int], Circumstances]


@pytest.fixture
def server(account: Account) -> OpenSSHServer:
    """Return a box that holds a run, beside another one."""
    RunWriter(account.root, RunSpec()).start()
    account.rent(OTHER, "gpu-b", "127.0.0.3")
    return account.rent(BOX, "gpu-a", "127.0.0.2")


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Says], None]:
    """Let boxes say of themselves what is given for the first, second … time that they are asked."""

    def let(says: Says) -> None:
        turns: Iterator[int] = count()

        async def circumstances(_: ProbeBox, lately: timedelta) -> Circumstances:
            assert lately == timedelta()
            return says(next(turns))

        monkeypatch.setattr(ProbeBox, "circumstances", circumstances, raising=False)

    let(lambda _: Circumstances(machine="f" * 32, hostname="box", gpu_processes=0, log_ins=0, transfers=0))
    return let


async def _examined(account: Account, verdict: Verdict) -> tuple[Settings, Host, Examined]:
    settings = account.workstation.settings(**account.sections())
    await account.workstation.once(None, **account.sections())
    (host,) = await hosts_of(settings, ["gpu-a"])

    async def judge(asked: Host) -> Verdict:
        assert asked == host
        return verdict

    return settings, host, await examined(host, settings, judge)


@pytest.mark.usefixtures("server", "saying")
async def test_a_box_that_is_safe_and_itself_is_terminated(account: Account) -> None:
    """It alone; that it was done by hand is on record."""
    settings, host, found = await _examined(account, SAFE)
    assert found == Examined(SAFE)
    assert account.cloud.terminated == []
    decision = await release(host, SAFE, settings)
    assert decision.outcome is ReleaseOutcome.RELEASED
    assert account.cloud.terminated == [[BOX]]
    question = "SELECT host, identity, outcome, by_hand FROM releases"
    assert account.workstation.catalogue(question) == [("gpu-a", f"lambda_cloud:{BOX}", "released", 1)]


@pytest.mark.usefixtures("server", "saying")
@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (
            Verdict(VerdictAnswer.NOT_SAFE, (Reason(ReasonKind.RUNNING, "a run is being written"),)),
            "a run is being written",
        ),
        (Verdict(VerdictAnswer.SAFE_EXCEPT, losses=(Loss(LossKind.RECORDS, "records", 3),)), "would lose records"),
    ],
)
async def test_what_is_not_safe_stays(account: Account, verdict: Verdict, why: str) -> None:
    """A reason, or a loss that nobody accepts, is said."""
    _, _, found = await _examined(account, verdict)
    assert found.verdict == verdict
    assert why in found.hindrance


@pytest.mark.usefixtures("server")
async def test_another_machine_stays(account: Account, saying: Callable[[Says], None]) -> None:
    """Who answers after the verdict is not who answered before it."""
    saying(lambda turn: Circumstances(machine=f"{turn:032x}", hostname="box"))
    _, _, found = await _examined(account, SAFE)
    assert "another machine" in found.hindrance


@pytest.mark.usefixtures("server", "saying")
async def test_a_box_that_the_cloud_calls_otherwise_stays(account: Account) -> None:
    """The cloud's hostname for the id is not what the box calls itself."""
    account.cloud.instances[-1]["hostname"] = "another"
    _, _, found = await _examined(account, SAFE)
    assert "the cloud calls it another" in found.hindrance


@pytest.mark.usefixtures("saying")
async def test_a_box_that_does_not_answer_stays(account: Account, server: OpenSSHServer) -> None:
    """What can't be asked is not known, and what is not known is not safe."""
    settings = account.workstation.settings(**account.sections())
    (host,) = await hosts_of(settings, ["gpu-a"])
    server.stop()

    async def judge(_: Host) -> Verdict:
        return SAFE

    found = await examined(host, settings, judge)
    assert found.verdict is None
    assert found.hindrance
    assert account.cloud.terminated == []
