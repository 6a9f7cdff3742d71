"""How much a host may send unasked."""

from harvestd.remote.probe.program.wire import framed
from harvestd.remote.ssh.connection import CONTROL_WINDOW
from harvestd.remote.ssh.flood_guard import MessageRate, Meter

KIB = 1024


class Account:
    """A meter on a clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cuts = 0
        self.meter = Meter(self.cut, allowance=100 * KIB, clock=lambda: self.now)

    def cut(self) -> None:
        """Count."""
        self.cuts += 1


def test_what_is_used_is_never_too_much() -> None:
    """Any amount may come as long as it was asked for, with SSH's own bytes around it."""
    account = Account()
    for _ in range(10_000):
        account.meter.received(33 * KIB)
        account.meter.credit(32 * KIB)
    assert not account.meter.exceeded
    assert account.meter.total == 330_000 * KIB


def test_unasked_bytes_are_cut_off_once() -> None:
    """Beyond the allowance the connection is cut, once."""
    account = Account()
    for _ in range(100):
        account.meter.received(KIB)
    assert account.cuts == 0
    account.meter.received(1)
    account.meter.received(KIB)
    assert account.meter.exceeded
    assert account.cuts == 1


def test_time_allows_for_keepalives() -> None:
    """A few bytes a second go on for ever."""
    account = Account()
    for _ in range(10_000):
        account.now += 10
        account.meter.received(5 * KIB)
    assert not account.meter.exceeded


def test_credit_can_not_be_saved_up() -> None:
    """Time and credit settle what has come, and nothing that is yet to come."""
    account = Account()
    account.now = 10_000
    account.meter.credit(1000 * KIB)
    account.meter.received(101 * KIB)
    assert account.meter.exceeded


def test_channel_that_is_held_back_may_fill_its_window() -> None:
    """While we hold a channel back, its window's worth may lie there, and no longer than that."""
    account = Account()
    account.meter.expect(500 * KIB)
    account.meter.received(590 * KIB)
    assert account.cuts == 0
    account.meter.credit(590 * KIB)
    account.meter.expect(-500 * KIB)
    account.meter.received(101 * KIB)
    assert account.meter.exceeded


def test_closed_channel_is_forgiven_what_was_on_its_way() -> None:
    """What still comes for a channel that we closed is not held against the host."""
    account = Account()
    account.meter.forgive(200 * KIB)
    account.meter.received(290 * KIB)
    assert not account.meter.exceeded


def test_time_that_nothing_is_worth_is_cut_off() -> None:
    """Packets that cost time and bring nothing are cut off, however few bytes they have."""
    account = Account()
    for _ in range(3):
        account.meter.received(36)
        account.meter.worked(0.045)
    assert account.meter.is_suspicious
    assert account.cuts == 0
    account.meter.worked(0.045)
    assert account.cuts == 1


def test_time_for_what_was_asked_for_is_no_matter() -> None:
    """Bytes and answers are worth the time that they cost with an honest host."""
    account = Account()
    for _ in range(1000):
        account.meter.received(100 * KIB)
        account.meter.credit(100 * KIB)
        account.meter.worked(0.002)
        account.meter.answered(1000, 0)
        account.meter.worked(0.01)
    assert not account.meter.exceeded


def test_a_share_of_all_time_is_free_and_one_pause_counts_little() -> None:
    """Keepalives go on for ever, and a collection of garbage that falls into a host's time is not held against it."""
    account = Account()
    account.meter.received(1)
    for _ in range(1000):
        account.now += 10
        account.meter.received(100)
        account.meter.worked(5.0)
    assert not account.meter.exceeded


def test_host_that_does_not_read_is_cut_off() -> None:
    """What a host makes us send waits in our memory until it reads it."""
    account = Account()
    account.meter.unread(16 * KIB * KIB)
    assert account.cuts == 0
    account.meter.unread(16 * KIB * KIB + 1)
    assert account.cuts == 1


def test_messages_that_nobody_asked_for_are_limited_by_their_number() -> None:
    """Whatever they cost: a machine under load processes few in a second, each of which counts."""
    cut: list[bool] = []
    rate = MessageRate(Meter(lambda: cut.append(True), clock=lambda: 0.0))
    for second in range(10_000):
        for _ in range(30):
            rate.count(float(second))
    assert not cut
    for _ in range(10_001):
        rate.count(10_000.0)
    assert cut


def test_reports_that_waited_until_a_host_was_fetched_are_no_flood() -> None:
    """They are counted together once they are read: as many as the credit of their channel holds."""
    cut: list[bool] = []
    rate = MessageRate(Meter(lambda: cut.append(True), clock=lambda: 0.0))
    report = framed(b"U", b'{"id":0,"now":1764600000000000000,"trees":[],"at":1,"took":1}')
    for _ in range(CONTROL_WINDOW // 4 // len(report)):
        rate.count(100_000.0)
    assert not cut
