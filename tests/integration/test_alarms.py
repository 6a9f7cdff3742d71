"""What becomes an alarm on real boxes, and what of it is repeated: nothing, over scans and restarts."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from harvestd.convention.metadata import progress
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.store.root import DataRoot
from support.alarm_receivers import HttpReceiver, http_receiver
from support.house import Workstation
from support.judging import ReportedCircumstances
from support.waiting import EventLog, events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=4)
LONG = 60.0


@pytest.fixture
def hook() -> Iterator[HttpReceiver]:
    """Provide a webhook."""
    with http_receiver() as receiver:
        yield receiver


async def test_a_box_that_may_be_switched_off_is_an_alarm_until_more_comes(
    workstation: Workstation, hook: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the price; not again after a restart, but again after new results came from it."""
    ReportedCircumstances().play(monkeypatch)
    box = workstation.add_box()
    workstation.keys["gpu-a"] = {"cents_per_hour": 249}
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(4)
    writer.finish()
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate("final")
    sections = {
        "verdict": {"idle_for": "300ms", "accept_loss": ["records"]},
        "notify": {"webhook": hook.url, "events": ["host.drained"]},
    }
    async with workstation.running(**sections):
        await until(lambda: hook.of("host.drained"), LONG)
    text = hook.got[0].document["data"]["text"]
    assert "the verdict is safe" in text
    assert "which you accept: records: " in text
    assert "It costs $2.49/h" in text
    async with workstation.running(**sections) as event_log:
        await until(lambda: events(event_log, "host.drained"), LONG)
        evals.evaluate(2)
        await until(lambda: len(hook.got) == 2, LONG)
        assert len(events(event_log, "host.drained")) == 2
    first, second = (each.key for each in hook.got)
    assert (first[-2:], second[-2:]) == (":1", ":2")


async def test_a_refused_key_is_an_alarm_once(workstation: Workstation, hook: HttpReceiver) -> None:
    """The host is left alone until a person acts: told once over two starts, and again once it had been reached."""
    box = workstation.add_box()
    box.server.revoke()
    notify = {"webhook": hook.url}
    for _ in range(2):
        async with workstation.running(notify=notify) as event_log:
            await until(partial(events, event_log, "host.quarantined"), LONG)
            await until(lambda: hook.of("host.quarantined"), LONG)
    assert len(hook.got) == 1
    data = hook.got[0].document["data"]
    assert (data["urgent"], data["command"]) == (True, "harvestd doctor gpu-a")
    assert "Nothing of it is fetched" in data["text"]


async def test_a_full_disk_is_an_alarm_each_time(
    workstation: Workstation, hook: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once while it lasts, also over a restart; again when it is full again."""
    free = [1024]
    monkeypatch.setattr(DataRoot, "free_bytes", lambda _: free[-1])
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    notify = {"webhook": hook.url, "events": ["disk.low"]}
    ended = "SELECT ended IS NOT NULL FROM notifications WHERE event = 'disk.low' ORDER BY id"
    async with workstation.running(notify=notify):
        await until(lambda: hook.of("disk.low"), LONG)
    async with workstation.running(notify=notify) as event_log:
        await until(lambda: events(event_log, "disk.low"), LONG)
        free.append(10 * 1024**3)
        await until(lambda: events(event_log, "disk.recovered"), LONG)
        await until(lambda: workstation.catalogue(ended) == [(1,)], LONG)
        assert len(hook.got) == 1
        free.append(1024)
        writer.log_until(4)
        await until(lambda: len(hook.got) == 2, LONG)
    assert "1024 B are free" not in hook.got[0].document["data"]["title"]
    assert "limits.free_space is 1.0 MiB" in hook.got[0].document["data"]["text"]


async def test_a_burst_comes_as_a_digest(workstation: Workstation, hook: HttpReceiver) -> None:
    """Thirty runs that end at once are a few messages, in which each is once."""
    box = workstation.add_box()
    async with workstation.running(notify={"webhook": hook.url, "events": ["run.finished"]}) as event_log:
        await until(lambda: events(event_log, "host.connected"), LONG)
        for minute in range(30):
            writer = RunWriter(box.root, RunSpec(timestamp=f"2025-08-20_03-{minute:02}-43", total_steps=1))
            writer.start()
            writer.log_until(1)
            writer.finish()

        def keys() -> list[str]:
            found = []
            for got in hook.got:
                data = got.document["data"]
                found += [part["data"]["key"] for part in data.get("notifications", [])] or [data["key"]]
            return found

        await until(lambda: len(keys()) >= 30, LONG * 2)
    assert len(set(keys())) == len(keys()) == 30
    assert hook.of("digest")
    assert len(hook.got) <= 21


async def step(event_log: EventLog, writer: RunWriter, number: int) -> None:
    """Let a run take a step, and wait until that came home."""
    before = len(events(event_log, "file.downloaded", kind="train_log"))
    with writer.train_log.open("ab") as log:
        log.write(b'{"step": %d, "loss": 0.5}\n' % number)
    await until(lambda: len(events(event_log, "file.downloaded", kind="train_log")) > before, LONG)


@pytest.mark.parametrize(("processes", "event"), [("", "run.died"), ("echo 4000", "run.stalled")])
async def test_a_run_that_goes_on_no_more_is_an_alarm(
    workstation: Workstation,
    hook: HttpReceiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: str,
    event: str,
) -> None:
    """It has died where nothing works there any more, and has stalled where a process lives."""
    monkeypatch.setattr(progress, "LEAST", 1.0)
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(f"#!/bin/sh\ncase $1 in *compute-apps*) {processes};; *) echo NVIDIA H100;; esac\n")
    smi.chmod(0o755)
    with_path = f'ForceCommand export PATH="{smi.parent}:$PATH"; eval "$SSH_ORIGINAL_COMMAND"'
    box = workstation.add_box(extra_config=[with_path])
    workstation.keys["gpu-a"] = {"cents_per_hour": 249}
    writer = RunWriter(box.root, RunSpec())
    writer.start()
    writer.log_until(3)
    async with workstation.running(notify={"webhook": hook.url}) as event_log:
        for number in range(4, 10):
            await step(event_log, writer, number)
        await until(lambda: hook.of(event), LONG)
    data = hook.of(event)[0].document["data"]
    assert "step 9" in data["text"]
    assert "gpu-a costs $2.49/h" in data["text"]
    assert (data["urgent"], data["command"]) == (False, f"harvestd show {writer.run.name}")
    assert len(hook.of(event)) == 1
