"""Changes get numbers, and each view is rendered once for all who request it since the last one."""

from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from harvestd.harvest.metrics import FleetMetrics
from harvestd.page import live
from harvestd.page.live import Changes, Renderings

pytestmark = pytest.mark.anyio


def source(tally: FleetMetrics) -> Any:  # noqa: ANN401  (stands for a daemon)
    """Return as much of a daemon as changes are seen by."""
    context = SimpleNamespace(
        fleet=SimpleNamespace(is_paused=False),
        settings=object(),
        states=SimpleNamespace(all=list),
        transfers=SimpleNamespace(all=tuple),
    )
    return SimpleNamespace(context=context, tally=tally, ready=anyio.Event())


async def test_a_state_is_a_change_at_once_and_growth_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is lost has a number at once; files that come one after another share one."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: clock.now))
    tally = FleetMetrics()
    changes = Changes(source(tally))
    first = changes.number()
    assert changes.number() == first
    tally.settled("gpu-a", 1)
    assert changes.number() == first
    clock.now += 2.1
    assert changes.number() == first + 1
    tally.set_state("gpu-a", "lost", "No route to host")
    assert changes.number() == first + 2


async def test_a_view_is_rendered_once_for_each_change() -> None:
    """Twenty requests at once cost one rendering; equal text has the same tag, other text another one."""
    tally = FleetMetrics()
    tally.set_state("gpu-a", "connecting")
    renderings = Renderings(Changes(source(tally)))
    made: list[int] = []

    async def render() -> str:
        made.append(len(made))
        await anyio.lowlevel.checkpoint()
        return f"{tally.of('gpu-a').state}"

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(renderings.get, "/", render)
    assert len(made) == 1
    first = await renderings.get("/", render)
    tally.set_state("gpu-a", "lost")
    second = await renderings.get("/", render)
    assert (len(made), first.etag == second.etag) == (2, False)
    tally.set_state("gpu-a", "connecting")
    assert (await renderings.get("/", render)).etag == first.etag


async def test_few_views_are_kept() -> None:
    """Any number of addresses costs a bounded number of renderings in memory."""
    renderings = Renderings(Changes(source(FleetMetrics())))

    async def render() -> str:
        return "text"

    for number in range(500):
        await renderings.get(f"/events?event={number}", render)
    assert len(renderings._kept) <= 32
    assert renderings._locks == {}
