"""Every single call that writes fails once, with EIO and with ENOSPC: a later pass converges, and nothing is torn."""

import errno
from itertools import count
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.errors import HarvestError
from support.failing_calls import CALLS, failing
from support.house import Workstation
from support.wanted import missing, temporaries_left

pytestmark = [pytest.mark.anyio, pytest.mark.openssh, pytest.mark.slow]

RUN = RunSpec()
LAST = 60
"""No pass of this size makes so many calls of one kind."""


def change(root: Path, writer: RunWriter, turn: int) -> None:
    """Let the log grow, a leaf be new, another be evaluated again, and a log of its own begin anew."""
    writer.log_step(writer.last_step + 1)
    evals = evals_of_run(root, EvalSpec(RUN, questions=turn + 4))
    evals.evaluate(0)
    evals.evaluate(turn)
    begun = RunWriter(root, RunSpec(timestamp=f"2025-08-21_00-{turn:02}-00"))
    begun.start()
    begun.log_until(2)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", CALLS)
async def test_each_call_fails_once(workstation: Workstation, call: str, code: int) -> None:
    """The n-th call fails for n = 1, 2, 3 … until a pass makes fewer; after each a further pass puts all in order."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=4))
    evals.write_config()
    evals.evaluate(0)
    await workstation.once()
    for turn in count(1):
        change(box.root, writer, turn)
        with failing(call, turn, code, workstation.data) as nth:
            try:
                await workstation.outcomes()
            except HarvestError:
                assert nth.fired
        results = await workstation.once()
        assert not any(result.failed or result.conflicts for result in results.values())
        assert missing(workstation) == []
        assert temporaries_left(workstation) == []
        workstation.audit()
        if not nth.fired:
            break
        assert turn < LAST
    assert turn > 1, f"no pass makes a call of {call}"
