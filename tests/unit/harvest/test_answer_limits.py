"""How long a host may take, from the configuration to what is asked of it."""

from datetime import timedelta

from harvestd.harvest.context import Context
from harvestd.harvest.metrics import NullListener
from harvestd.remote.api import Limits
from support.house import Workstation


def test_limits_come_from_the_configuration_and_follow_it(workstation: Workstation) -> None:
    """Those that are not written are the defaults; a reload counts for connections that are made after it."""
    context = Context.of(workstation.settings(), NullListener())
    assert context.limits == Limits()
    changed = workstation.settings(limits={"scan_time": "2h", "inspect_time": "20m", "answer_time": "5m"})
    context.adopt(changed)
    assert context.limits.scan_time == timedelta(hours=2)
    assert context.limits.inspect_time == timedelta(minutes=20)
    assert context.limits.answer_time == timedelta(minutes=5)
