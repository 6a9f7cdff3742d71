"""`harvestd safe` and `harvestd wait` on a real box, beside a running daemon and without one."""

import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from msgspec.structs import replace

from harvestd.catalogue import queries
from harvestd.catalogue.entries import VerdictRecord
from harvestd.catalogue.requests import record_request
from harvestd.cli import ask_verdict
from harvestd.cli.ask_verdict import attended, subject_of, verdict_now, verdict_when_safe
from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode, unwrapped
from harvestd.planning.requests import RequestKind
from harvestd.remote.probe.client import ProbeBox
from harvestd.safety.inputs import Checkout, Circumstances
from harvestd.safety.verdict import ReasonKind
from support.command import Ended, harvestd_command, on_terminal, running_command
from support.house import Workstation, until
from support.judging import NOBODY, ReportedCircumstances
from support.waiting import events

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=4)
SOON: Mapping[str, object] = {"idle_for": "300ms", "accept_loss": ["checkpoints", "records"]}
LATER: Mapping[str, object] = {**SOON, "idle_for": "10m"}
VERDICT = {
    "answer",
    "answer_then",
    "fresh",
    "age_seconds",
    "safe",
    "reasons",
    "losses",
    "survives",
    "accepted",
    "bytes_outstanding",
    "seconds_left",
}
ANSWER = {
    "host",
    "identity",
    "daemon",
    "verdict",
    "judged",
    "idle_since",
    "cents_per_hour",
    "cents_since_idle",
}
LONG = 60.0
"""Seconds for what a command does beside a daemon in this process."""


async def asking(workstation: Workstation, *arguments: str) -> Ended:
    """Run a command with the workstation's configuration, beside a daemon in this process."""
    return await anyio.to_thread.run_sync(lambda: harvestd_command("-c", workstation.config, *arguments))


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> ReportedCircumstances:
    """Return what boxes say of themselves to this process: that nobody works there."""
    reported = ReportedCircumstances()
    reported.play(monkeypatch)
    return reported


@pytest.fixture
def writer(workstation: Workstation) -> RunWriter:
    """Return the writer of a run that has not ended."""
    writer = RunWriter(workstation.add_box().root, RUN)
    writer.start()
    writer.log_until(3)
    return writer


def finish(writer: RunWriter) -> None:
    """End the run as it should."""
    writer.log_until(4)
    writer.finish()


class _Lines:
    """What would be shown on a terminal."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Keep it."""
        self.lines.append(text)


def kinds(document: Any) -> set[str]:  # noqa: ANN401  (JSON may be anything)
    """Return why a verdict says no."""
    return {reason["kind"] for reason in document["verdict"]["reasons"]}


async def test_a_running_daemon_is_asked(
    workstation: Workstation, writer: RunWriter, reported: ReportedCircumstances
) -> None:
    """It looks at once and answers: no with reasons, then yes with the price of waiting; lists show the same."""
    async with workstation.running(verdict=SOON) as lines:
        reported.all = replace(NOBODY, gpu_processes=2)
        await until(workstation.follows(writer))
        no = await asking(workstation, "safe", "gpu-a", "--json")
        assert (no.code, no.err) == (ExitCode.NOT_SAFE, "")
        assert no.document.keys() == ANSWER
        assert no.document["verdict"].keys() == VERDICT
        assert "gpu_busy" in kinds(no.document)
        assert no.document["identity"] == "static:gpu-a"
        assert no.document["daemon"]["running"] is True
        assert no.document["cents_per_hour"] is None
        assert events(lines, "request.settled", host="gpu-a", what="judge", reason="not_safe")
        finish(writer)
        reported.all = NOBODY
        with workstation.config.open("a") as config:
            config.write("cents_per_hour = 360000\n")
        await until(lambda: events(lines, "config.reloaded"))
        await until(lambda: events(lines, "host.drained"), LONG)
        yes = await asking(workstation, "safe", "gpu-a", "--json")
        assert yes.code == ExitCode.OK, yes.out
        assert yes.document["verdict"]["safe"] is True
        assert yes.document["idle_since"] is not None
        assert yes.document["cents_per_hour"] == 360_000
        assert yes.document["cents_since_idle"] > 0
        page = await asking(workstation, "safe", "gpu-a")
        assert page.code == ExitCode.OK
        assert page.out.startswith("gpu-a: safe")
        assert "$3,600.00/h, $" in page.out
        (listed,) = (await asking(workstation, "status", "--json")).document["hosts"]
        assert listed["verdict"].keys() == VERDICT
        assert listed["verdict"]["safe"] is True
        assert listed["cents_per_hour"] == 360_000
        assert len(events(lines, "host.connected")) == 1
        drawn = on_terminal(["-c", workstation.config, "hosts"])
        assert "safe" in drawn
        assert "$3,600.00/h, $" in drawn
        assert max(map(len, drawn.splitlines())) < 200  # with colours; the text itself fits 80 columns
        reported.all = replace(NOBODY, checkouts=(Checkout("/home/u/\x1b[2Jcode", 3, 1),))
        lossy = await asking(workstation, "safe", "gpu-a")
        assert lossy.code == ExitCode.NOT_SAFE
        assert "\x1b" not in lossy.out
        assert "/home/u/\\x1b[2Jcode" in lossy.out
    stale = await asking(workstation, "hosts")
    assert "not known (" in stale.out
    workstation.audit()


def _is_kept_as_safe(workstation: Workstation) -> bool:
    with queries.questions(workstation.state) as connection:
        record = queries.verdict_on(connection, "static:gpu-a")
    return record is not None and record.verdict.is_safe


async def test_without_the_daemon_its_verdict_is_not_fresh(
    workstation: Workstation, writer: RunWriter, reported: ReportedCircumstances
) -> None:
    """What a real daemon left on record is neither connected nor safe once it has ended."""
    finish(writer)
    async with workstation.running(verdict=SOON) as lines:
        assert reported.all == NOBODY
        await until(lambda: events(lines, "host.drained"), LONG)
        (drained,) = events(lines, "host.drained")
        # The one form of a verdict, as in --json and over HTTP.
        assert drained["verdict_document"]["safe"] is True
        assert drained["verdict_document"].keys() == VERDICT - {"fresh", "age_seconds", "answer_then"}
        await until(lambda: _is_kept_as_safe(workstation), LONG)
    document = (await asking(workstation, "hosts", "--json")).document
    (listed,) = document["hosts"]
    assert document["daemon"] == {"running": False, "pid": None}
    assert listed["state"] == "not_watched"
    verdict = listed["verdict"]
    assert (verdict["safe"], verdict["fresh"], verdict["answer"]) == (False, False, "not_safe")
    assert verdict["age_seconds"] > 0


async def test_a_daemon_that_starts_connects_before_it_answers(
    workstation: Workstation, writer: RunWriter, reported: ReportedCircumstances
) -> None:
    """What was asked while nobody was there is answered by a look at the box, and not by its being unknown yet."""
    finish(writer)
    await workstation.once(verdict=LATER)
    record_request(workstation.state, RequestKind.JUDGE, ("static:gpu-a", "gpu-a"), {})
    async with workstation.running(verdict=LATER) as lines:
        await until(lambda: events(lines, "request.settled", what="judge"), LONG)
        with queries.questions(workstation.state) as connection:
            record = queries.verdict_on(connection, "static:gpu-a")
    assert record is not None
    assert {reason.kind for reason in record.verdict.reasons} == {ReasonKind.NOT_QUIET}
    assert reported.asked


class _Clock:
    """The clock of a command that waits, which a test can set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        """Return the seconds that passed, by this clock."""
        return time.monotonic() + self.ahead

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return time.time()


async def test_an_answer_may_take_as_long_as_the_limits_allow_a_host(
    workstation: Workstation, writer: RunWriter, reported: ReportedCircumstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks waits for the daemon, which knows what took too long: a verdict of ten minutes is a verdict."""
    clock, lines, slow, free = _Clock(), _Lines(), anyio.Event(), anyio.Event()
    quick = ProbeBox.circumstances

    async def circumstances(box: ProbeBox, lately: timedelta) -> Circumstances:
        slow.set()
        await free.wait()
        return await quick(box, lately)

    async with workstation.running(verdict=LATER):
        await until(workstation.follows(writer))
        monkeypatch.setattr(ProbeBox, "circumstances", circumstances)
        monkeypatch.setattr(ask_verdict, "time", clock)
        subject = subject_of(workstation.settings(), "gpu-a")
        found: list[VerdictRecord] = []

        async def question() -> None:
            found.append(await verdict_now(subject, lines))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(question)
            await slow.wait()
            clock.ahead = 600.0
            heard = len(lines.lines)
            await until(lambda: len(lines.lines) > heard + 1 or found)
            free.set()
    assert reported.asked
    reasons = [reason.detail for reason in found[0].verdict.reasons]
    assert not any("no answer came" in each for each in reasons)
    assert ReasonKind.NOT_QUIET in {reason.kind for reason in found[0].verdict.reasons}


async def test_why_a_host_is_not_connected_is_in_the_verdict(
    workstation: Workstation, reported: ReportedCircumstances
) -> None:
    """Its own words in refusing reach whoever asks, escaped, and without waiting for the time of a connection."""
    box = workstation.add_box(extra_config=["ForceCommand printf 'Ask \\033[31mops\\041 '; exit 1"])
    assert reported.asked == 0
    async with workstation.running() as lines:
        await until(lambda: events(lines, "host.quarantined", host=box.server.name))
        (event,) = events(lines, "host.quarantined")
        asked = await asking(workstation, "safe", box.server.name, "--json")
        listed = (await asking(workstation, "hosts", "--json")).document["hosts"][0]
        state = await asking(workstation, "status", "--json")
    assert str(event["hint"]) in listed["error"]
    assert "Ask " in listed["error"]
    assert str(event["hint"]) in state.out
    (reason,) = asked.document["verdict"]["reasons"]
    assert reason["kind"] == "not_connected"
    assert "Ask " in reason["detail"]
    assert str(event["hint"]) in reason["detail"]
    assert "\x1b" not in reason["detail"]


async def test_wait_beside_a_daemon(
    workstation: Workstation, writer: RunWriter, reported: ReportedCircumstances
) -> None:
    """It returns when the time is over, and at once when the run has ended and all is home."""
    reported.all = replace(NOBODY, log_ins=1)
    async with workstation.running(verdict=SOON):
        await until(workstation.follows(writer))
        late = await asking(workstation, "wait", "gpu-a", "--timeout", "3s", "--json")
        assert late.code == ExitCode.NOT_SAFE
        assert late.document.keys() == ANSWER
        assert kinds(late.document) - {"not_looked_at"}
        codes: list[int] = []

        async def wait() -> None:
            codes.append((await asking(workstation, "wait", "gpu-a", "--timeout", "10m")).code)

        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                finish(writer)
                reported.all = NOBODY
        assert codes == [ExitCode.OK]
        assert workstation.stands(RUN.name, "training_state", "step_final", "training_info.json")()
    workstation.audit()


async def test_safe_without_a_daemon(workstation: Workstation, writer: RunWriter) -> None:
    """It looks for itself, fetches nothing, and can't know how long the box was quiet: never safe."""
    finish(writer)
    workstation.settings(verdict=LATER)
    done = await asking(workstation, "safe", "gpu-a", "--json")
    assert (done.code, done.err) == (ExitCode.NOT_SAFE, "")
    assert done.document["daemon"] == {"running": False, "pid": None}
    assert {"outstanding", "not_quiet"} <= kinds(done.document)
    assert done.document["verdict"]["bytes_outstanding"] > 0
    assert workstation.filed() == {}
    unknown = await asking(workstation, "safe", "gpu-x")
    assert (unknown.code, unknown.out) == (ExitCode.UNKNOWN_NAME, "")
    assert "hint: known: gpu-a" in unknown.err
    workstation.boxes["gpu-a"].server.stop()
    lost = await asking(workstation, "safe", "gpu-a", "--json")
    assert lost.code == ExitCode.NOT_SAFE
    assert kinds(lost.document) == {"not_connected"}


async def test_wait_without_a_daemon_is_one(workstation: Workstation, writer: RunWriter, tmp_path: Path) -> None:
    """It brings everything home by itself, and says after its time that the box is not safe yet."""
    finish(writer)
    workstation.settings(verdict=LATER)
    with running_command(
        "wait", "gpu-a", "--timeout", "10m", "-c", workstation.config, output=tmp_path / "output"
    ) as waiting:
        await until(workstation.stands(RUN.name, "training_state", "step_final", "training_info.json"), LONG)
        assert waiting.poll() is None
        waiting.terminate()
    late = await asking(workstation, "wait", "gpu-a", "--timeout", "1s", "--json")
    assert late.code == ExitCode.NOT_SAFE, late.err
    assert kinds(late.document)
    workstation.audit()


async def test_waiting_without_a_daemon_ends_once_it_is_safe(
    workstation: Workstation, writer: RunWriter, reported: ReportedCircumstances
) -> None:
    """It watches until the box has been quiet for long enough, and says meanwhile what it waits for."""
    finish(writer)
    subject = subject_of(workstation.settings(verdict={**SOON, "idle_for": "3s"}), "gpu-a")
    line = _Lines()
    with unwrapped(), anyio.fail_after(LONG):
        async with attended(subject, line, timedelta(seconds=LONG)):
            record = await verdict_when_safe(subject, line, timedelta(seconds=LONG))
    assert record.verdict.is_safe
    assert reported.asked
    assert any("not safe: " in text for text in line.lines)
    assert workstation.stands(RUN.name, "training_state", "step_final", "training_info.json")()
    workstation.audit()
