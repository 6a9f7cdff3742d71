"""Who is asked whether anything runs on GPUs, how often, and what is made of the answers."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from harvestd.catalogue.open import open_catalogue
from harvestd.convention.scan.model import ScanResult
from harvestd.errors import HostQuarantined, Retry
from harvestd.harvest.context import Context
from harvestd.harvest.host import health
from harvestd.harvest.host.health import LivenessMonitor, shown
from harvestd.harvest.metrics import NullListener
from harvestd.inventory.host import Host
from harvestd.remote.api import Box
from harvestd.settings import Settings

pytestmark = pytest.mark.anyio

NOTHING = ScanResult((), (), ())

Answer = int | Retry | HostQuarantined | None


class Counting:
    """A box that says how many processes run, and counts how often it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.queried = 0

    async def gpu_processes(self) -> int | None:
        """Answer."""
        self.queried += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def host(number: int) -> Host:
    """Return a host of a storage that several share."""
    return Host(f"static:gpu-{number}", f"gpu-{number}", "127.0.0.1", "static", storage="nfs")


async def told(tmp_path: Path, answers: Sequence[Answer]) -> int | None:
    """Return what is known once the first of these boxes was asked beside the others."""
    context = Context.of(Settings(), NullListener())
    with ExitStack() as stack:
        context.catalogue = open_catalogue(tmp_path, "root")
        stack.callback(context.catalogue.close)
        boxes = [cast("Box", Counting(answer)) for answer in answers]
        for number, box in enumerate(boxes):
            stack.enter_context(shown(context, host(number), box))
        liveness = await LivenessMonitor(host(0), context, boxes[0]).queried(NOTHING)
    assert not any(state.box for state in context.states.all())
    assert liveness is not None
    return liveness.gpu_processes


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([0], 0),
        ([None], None),
        ([2, 3], 5),
        ([0, 0, 0], 0),
        ([0, None], None),
        ([0, Retry("lost")], None),
        ([0, HostQuarantined("it lies")], None),
    ],
)
async def test_all_boxes_of_a_storage_are_asked(
    tmp_path: Path, answers: Sequence[Answer], expected: int | None
) -> None:
    """Any of them may write the run; one that does not answer leaves it unknown, and troubles nobody else."""
    assert await told(tmp_path, answers) == expected


async def test_our_own_box_may_be_lost(tmp_path: Path) -> None:
    """That ends our session, as everywhere."""
    with pytest.raises(Retry, match="lost"):
        await told(tmp_path, [Retry("lost"), 0])


async def test_nobody_is_asked_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer counts for a while; then it is known no more, and asked for anew."""
    context = Context.of(Settings(), NullListener())
    context.catalogue = open_catalogue(tmp_path, "root")
    box = Counting(3)
    known = LivenessMonitor(host(0), context, cast("Box", box))
    try:
        assert known.known().gpu_processes is None
        assert await known.queried(NOTHING) is not None
        assert known.known().gpu_processes == 3
        assert await known.queried(NOTHING) is None
        assert box.queried == 1
        monkeypatch.setattr(health, "GOOD_FOR", 0.0)
        assert known.known().gpu_processes is None
        assert await known.queried(NOTHING) is not None
        assert box.queried == 2
    finally:
        context.catalogue.close()
