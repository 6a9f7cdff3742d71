"""How long a host that failed is left alone, and what of its ups and downs is news."""

import pytest

from harvestd.errors import HostQuarantined, Retry
from harvestd.harvest.fleet.supervisor import ReconnectPolicy
from harvestd.remote.ssh.errors import AuthenticationRefused

LOST = Retry("lost")
REFUSED = AuthenticationRefused("refused")


class Clock:
    """Seconds, as a test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return them."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Make a clock that stands still."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> ReconnectPolicy:
    """Make a host's breaker."""
    return ReconnectPolicy(clock)


def test_pauses_double_up_to_five_minutes(breaker: ReconnectPolicy) -> None:
    """A host that can't be reached is tried again after a second, then ever less often; chance takes half at most."""
    pauses = [breaker.failed(LOST) for _ in range(14)]
    for pause, whole in zip(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, *[300] * 5], strict=True):
        assert whole / 2 <= pause <= whole


def test_success_forgets_failures(breaker: ReconnectPolicy) -> None:
    """After a look that went well the first pause is short again."""
    for _ in range(5):
        breaker.failed(LOST)
    breaker.connected()
    breaker.passed()
    assert breaker.failed(LOST) <= 1


def test_refusals_count_for_themselves(breaker: ReconnectPolicy) -> None:
    """However long a box took to boot, its first refusal of our key costs half a minute; further ones cost more."""
    for _ in range(10):
        breaker.failed(LOST)
    assert 15 <= breaker.failed(REFUSED) <= 30
    assert 30 <= breaker.failed(REFUSED) <= 60
    for _ in range(10):
        breaker.failed(REFUSED)
    assert 450 <= breaker.failed(REFUSED) <= 900


def test_broken_rules_cost_a_quarter_of_an_hour(breaker: ReconnectPolicy) -> None:
    """A host that breaks a rule is left alone for long, the first time too."""
    assert 450 <= breaker.failed(HostQuarantined("garbage")) <= 900


def flap(breaker: ReconnectPolicy, times: int) -> list[float]:
    """Let a link stand and be lost so many times; gives the pauses."""
    pauses = []
    for _ in range(times):
        breaker.connected()
        breaker.passed()
        pauses.append(breaker.failed(LOST))
    return pauses


def test_host_that_comes_and_goes_is_tried_less_often(breaker: ReconnectPolicy) -> None:
    """A link that is lost again and again costs growing pauses, although every look went well."""
    assert [round(pause) <= 2**n and pause >= 2**n / 2 for n, pause in enumerate(flap(breaker, 6))] == [True] * 6


def test_host_that_comes_and_goes_is_settled_after_a_while(breaker: ReconnectPolicy, clock: Clock) -> None:
    """After three losses nobody counts on it, until ten minutes went by without more of them."""
    flap(breaker, 2)
    seen = [breaker.settled]
    flap(breaker, 1)
    for seconds in (0, 599, 2):
        clock.now += seconds
        seen.append(breaker.settled)
    assert seen == [True, False, False, True]


def test_host_that_stays_down_loses_nothing_more(breaker: ReconnectPolicy) -> None:
    """Attempts that never came to a link are no losses of one."""
    for _ in range(10):
        breaker.failed(LOST)
    assert breaker.settled


def test_sleep_forgets_failures(breaker: ReconnectPolicy) -> None:
    """What failed before the workstation slept says nothing of the network that it woke in."""
    for _ in range(5):
        breaker.failed(LOST)
    breaker.forget_failures()
    assert breaker.failed(LOST) <= 1


def test_same_state_is_news_once(breaker: ReconnectPolicy) -> None:
    """A state is told when it is another one than was told last."""
    assert [breaker.is_new_state(state) for state in ("a", "a", "b", "a", "a")] == [True, False, True, True, False]
