"""A daemon's inside in a test: hosts watched for good in a house that a test can ask.

Their boxes say of themselves what the test wants.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import pytest
import structlog.testing
from msgspec.structs import replace

from harvestd.errors import unwrapped
from harvestd.harvest.context import Context
from harvestd.harvest.fleet.fleet import Fleet
from harvestd.harvest.metrics import FleetMetrics
from harvestd.harvest.startup import open_context
from harvestd.harvest.sync import Broadcast
from harvestd.harvest.verdict.service import full_verdict
from harvestd.inventory.host import Host
from harvestd.remote.api import BoxFacts
from harvestd.remote.probe.client import ProbeBox
from harvestd.safety.inputs import Circumstances, Outside
from harvestd.safety.verdict import ReasonKind, Verdict
from harvestd.settings import Settings
from support.waiting import DEADLINE, EventLog

NOBODY = Circumstances(gpu_processes=0, log_ins=0, transfers=0, outside=Outside(0, 0), checkouts=())
"""Nobody works there."""


@dataclass
class ReportedCircumstances:
    """What boxes say of themselves, by the user's name for them … all the same, unless a test says otherwise."""

    all: Circumstances = NOBODY
    asked: int = 0
    """How often one was asked."""

    def play(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every box that runs the probe say it, and have no GPU at work."""

        async def circumstances(_box: ProbeBox, _lately: timedelta) -> Circumstances:
            self.asked += 1
            return self.all

        async def gpu_processes(_box: ProbeBox) -> int | None:
            return self.all.gpu_processes

        monkeypatch.setattr(ProbeBox, "circumstances", circumstances)
        monkeypatch.setattr(ProbeBox, "gpu_processes", gpu_processes)

    @staticmethod
    def name_machines(monkeypatch: pytest.MonkeyPatch) -> None:
        """Let each box call itself as we call it: the machine below all of them is one."""
        asked = ProbeBox.facts

        async def facts(box: ProbeBox) -> BoxFacts:
            return replace(await asked(box), hostname=box._connection.target.name)

        monkeypatch.setattr(ProbeBox, "facts", facts)


@dataclass
class Watch:
    """Hosts that are being watched."""

    context: Context
    event_log: EventLog = field(default_factory=list)

    def host(self, name: str = "gpu-a") -> Host:
        """Return a host that was looked at, by its name."""
        return next(each.host for each in self.context.states.last_scans() if each.host.name == name)

    def known(self, name: str = "gpu-a") -> Verdict | None:
        """Return the verdict that the daemon keeps."""
        looked = [each.host.identity for each in self.context.states.last_scans() if each.host.name == name]
        found = [self.context.states.of(each).verdict for each in looked]
        return found[0].verdict if found and found[0] is not None else None

    def is_safe(self, name: str = "gpu-a") -> bool:
        """Return whether it is safe by that."""
        verdict = self.known(name)
        return verdict is not None and verdict.is_safe

    async def asked(self, name: str = "gpu-a") -> Verdict:
        """Ask for a verdict made now."""
        return await full_verdict(self.host(name), self.context)

    async def reasons(self, name: str = "gpu-a") -> set[ReasonKind]:
        """Ask, and give why it is not safe."""
        return {reason.kind for reason in (await self.asked(name)).reasons}


async def comes_true(condition: Callable[[], object], seconds: float = 2 * DEADLINE) -> None:
    """Return when `condition` holds; fails after `seconds`, which are more than usual."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  (what is waited for happens outside this task)
            await anyio.sleep(0.01)


@asynccontextmanager
async def watching(settings: Settings) -> AsyncIterator[Watch]:
    """Watch the hosts of these settings for the body, looking more often than they say."""
    often: Mapping[str, object] = {"interval": timedelta(milliseconds=100)}
    quick = settings.model_copy(
        update={
            "poll": settings.poll.model_copy(update=often),
            "lambda_cloud": settings.lambda_cloud.model_copy(update=often),
        }
    )
    with ExitStack() as stack, unwrapped():
        event_log = stack.enter_context(structlog.testing.capture_logs())
        tally = FleetMetrics()
        async with open_context(quick, tally) as (context, root), anyio.create_task_group() as tasks:
            await context.catalogue_opened.wait()
            await tasks.start(Fleet(context, root, Broadcast(), tally).run)
            yield Watch(context, event_log)
            tasks.cancel_scope.cancel()
