"""Verdicts on real boxes: drained once all is at home and quiet, and not for one reason after the other."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from msgspec.structs import replace

from harvestd.convention.kinds import LossKind
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.convention.scan.snapshot import Snapshot
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.remote.probe.client import ProbeBox
from harvestd.safety.inputs import Carrier, CarrierState, Checkout, Outside
from harvestd.safety.verdict import ReasonKind, VerdictAnswer
from support.account import Account
from support.command import harvestd_command
from support.house import Workstation
from support.judging import ReportedCircumstances, Watch, comes_true, watching
from support.waiting import DEADLINE, events

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=4)
SOON = {"idle_for": "300ms", "accept_loss": ["records"]}
"""A verdict whose time comes soon; what evals record is given up."""
R = ReasonKind
L = LossKind


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> ReportedCircumstances:
    """Return what the boxes say of themselves: that nobody works there."""
    reported = ReportedCircumstances()
    reported.play(monkeypatch)
    return reported


def finished(root: Path) -> RunWriter:
    """Write a finished run, and an eval of its final checkpoint."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(4)
    writer.finish()
    evals = evals_of_run(root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate("final")
    return writer


async def test_drained_once_all_is_home(workstation: Workstation, reported: ReportedCircumstances) -> None:
    """A finished run that came home makes the box safe, which is told once; a new file takes that back, for a while."""
    box = workstation.add_box()
    writer = finished(box.root)
    async with watching(workstation.settings(verdict=SOON)) as watch:
        await comes_true(watch.is_safe)
        assert workstation.has(writer.train_log, RUN.name, "logs", "train_log.jsonl")()
        (event,) = events(watch.event_log, "host.drained", host="gpu-a")
        assert event["verdict"] == "safe_except"
        state = watch.context.states.of(watch.host().identity)
        judged_at = state.verdict
        assert judged_at is not None
        assert judged_at.idle_since is not None
        assert judged_at.idle_since <= judged_at.at
        verdict = await watch.asked()
        assert verdict.answer is VerdictAnswer.SAFE_EXCEPT
        assert {loss.kind for loss in verdict.losses} == {LossKind.RECORDS}
        evals_of_run(box.root, EvalSpec(RUN, questions=5)).evaluate(2)
        await comes_true(lambda: not watch.is_safe())
        await comes_true(watch.is_safe)
        assert len(events(watch.event_log, "host.drained")) == 2
        assert reported.asked
    assert state.verdict is not None
    assert not state.verdict.verdict.is_safe
    workstation.audit()


async def test_one_reason_after_the_other(workstation: Workstation, reported: ReportedCircumstances) -> None:
    """What the box says of itself, what is on it and what is at home each stand in the way, and no longer than that."""
    box = workstation.add_box()
    finished(box.root)
    nobody = reported.all
    async with watching(workstation.settings(verdict=SOON | {"ignore_programs": ["rclone"]})) as watch:
        await comes_true(watch.is_safe)
        for words, reason in (
            ({"gpu_processes": 1}, R.GPU_BUSY),
            ({"log_ins": 1}, R.LOGGED_IN),
            ({"transfers": None}, R.TRANSFERS),
            ({"checkouts": None}, R.LOSSES_UNKNOWN),
        ):
            reported.all = replace(nobody, **words)
            assert await watch.reasons() == {reason}
        rclone = Carrier("rclone", 412, CarrierState.UNKNOWN)
        reported.all = replace(nobody, transfers=2, carriers=(rclone, Carrier("mirror", 413, CarrierState.UNKNOWN)))
        assert await watch.reasons() == {R.TRANSFERS}
        reported.all = replace(nobody, transfers=1, carriers=(rclone,))
        assert (await watch.asked()).is_safe, "verdict.ignore_programs names it"
        reported.all = replace(nobody, outside=Outside(1, 7), checkouts=(Checkout("/home/u/code", 1, 0),))
        verdict = await watch.asked()
        assert not verdict.is_safe
        assert {loss.kind for loss in verdict.losses} == {L.RECORDS, L.OUTSIDE_FILES, L.UNCOMMITTED_WORK}
        reported.all = nobody
        assert (await watch.asked()).is_safe
        metrics = next(workstation.data.glob("*/eval_results/*/*/*/*/metrics.csv"))
        content = metrics.read_bytes()
        metrics.unlink()
        assert await watch.reasons() == {R.MISSING_AT_HOME}
        metrics.write_bytes(content[:-1])
        assert await watch.reasons() == {R.MISSING_AT_HOME}
        metrics.write_bytes(content)
        assert (await watch.asked()).is_safe
        away = box.root.rename(box.root.with_name("away"))
        assert R.ROOT_MISSING in await watch.reasons()
        box.root.mkdir()
        assert R.ROOT_EMPTY in await watch.reasons()
        box.root.rmdir()
        away.rename(box.root)
        await comes_true(watch.is_safe)


async def test_what_rests_is_looked_at_for_a_verdict(workstation: Workstation, reported: ReportedCircumstances) -> None:  # noqa: ARG001
    """A change that no look in passing finds, in a file that has long been at rest, is found for the verdict."""
    box = workstation.add_box()
    writer = finished(box.root)
    async with watching(workstation.settings(verdict=SOON, poll={"push": False})) as watch:
        await comes_true(watch.is_safe)
        assert (await watch.asked()).is_safe
        config = writer.directory / "config.yaml"
        with config.open("ab") as file:
            file.write(b"# a person's note\n")
        reasons = await watch.reasons()
        assert reasons & {R.NOT_QUIET, R.OUTSTANDING, R.WAITING}
        await comes_true(watch.is_safe)
        assert workstation.has(config, RUN.name, "config.yaml")()


async def test_where_links_lead_is_asked_before_the_last_look(
    workstation: Workstation,
    reported: ReportedCircumstances,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """However long that takes: the look that a verdict rests on would be too old after it. New links are asked then."""
    box = workstation.add_box()
    writer = finished(box.root)
    for name in ("before", "meanwhile"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"123")
    (writer.directory / "before").symlink_to(tmp_path / "before")
    asked: list[str] = []
    whole, targets = ProbeBox.scan_whole, ProbeBox.link_targets

    async def scan_whole(box: ProbeBox) -> Snapshot:
        asked.append("look")
        if not (writer.directory / "meanwhile").is_symlink():
            (writer.directory / "meanwhile").symlink_to(tmp_path / "meanwhile")
        return await whole(box)

    async def link_targets(box: ProbeBox, links: Sequence[SymbolicLink]) -> Mapping[str, LinkTarget]:
        asked.extend(link.path.name for link in links)
        return await targets(box, links)

    async with watching(workstation.settings(verdict={**SOON, "idle_for": "1h"})) as watch:
        await comes_true(lambda: list(watch.context.states.last_scans()))
        monkeypatch.setattr(ProbeBox, "scan_whole", scan_whole)
        monkeypatch.setattr(ProbeBox, "link_targets", link_targets)
        verdict = await watch.asked()
        assert asked == ["before", "look", "meanwhile"]
        assert [loss.size for loss in verdict.losses if loss.kind is L.LINKS] == [3, 3]
        asked.clear()
        await watch.asked()
        assert asked == ["before", "meanwhile", "look"]


async def test_nobody_knows_a_box_that_is_away(workstation: Workstation, reported: ReportedCircumstances) -> None:  # noqa: ARG001
    """A box that was safe is not once its link is lost, and whoever asks hears that at once."""
    box = workstation.add_box()
    finished(box.root)
    async with watching(workstation.settings(verdict=SOON)) as watch:
        await comes_true(watch.is_safe)
        host = watch.host()
        box.server.stop()
        state = watch.context.states.of(host.identity)
        await comes_true(lambda: state.verdict is not None and not state.verdict.verdict.is_safe)
        (reason,) = state.verdict.verdict.reasons if state.verdict else ()
        assert reason.kind is R.NOT_CONNECTED


async def test_a_fresh_box_is_not_drained(workstation: Workstation, reported: ReportedCircumstances) -> None:  # noqa: ARG001
    """However quiet it is: nothing was ever seen there."""
    box = workstation.add_box()
    (box.root / "training_runs").mkdir()
    async with watching(workstation.settings(verdict=SOON)) as watch:
        await comes_true(lambda: list(watch.context.states.last_scans()))
        assert {R.ROOT_EMPTY, R.NOTHING_SEEN} <= await watch.reasons()
        assert not events(watch.event_log, "host.drained")


async def test_the_first_device_is_remembered(workstation: Workstation, reported: ReportedCircumstances) -> None:  # noqa: ARG001
    """Another file system at a root is noticed although the daemon was started anew in between."""
    box = workstation.add_box()
    finished(box.root)
    settings = workstation.settings(verdict=SOON)
    async with watching(settings) as watch:
        await comes_true(watch.is_safe)
        identity = watch.host().identity
        devices = await watch.context.catalogue.devices.of(identity)
        assert set(devices) == {str(box.root / "training_runs"), str(box.root / "eval_runs")}
        await watch.context.catalogue.devices.save(identity, {place: number + 1 for place, number in devices.items()})
    for path in [each for each in box.root.rglob("*") if each.is_file()]:
        shutil.copy2(path, path.with_name("copy"))
        path.with_name("copy").rename(path)
    async with watching(settings) as watch:
        await comes_true(lambda: list(watch.context.states.last_scans()))
        assert R.ROOT_CHANGED in await watch.reasons()
        ended = await anyio.to_thread.run_sync(
            lambda: harvestd_command("-c", workstation.config, "accept-root", "gpu-a", "--json")
        )
        assert ended.document == {"host": "gpu-a", "identity": identity, "accepted": True}
        with anyio.fail_after(2 * DEADLINE):
            while await watch.context.catalogue.devices.of(identity) != devices:  # noqa: ASYNC110  (the daemon notes them)
                await anyio.sleep(0.01)
        await comes_true(watch.is_safe)


async def test_a_file_system_with_another_number_is_known_by_its_files(
    workstation: Workstation,
    reported: ReportedCircumstances,  # noqa: ARG001
) -> None:
    """A new mount or a reboot may change the number of a device; inodes and change times of known files prove it."""
    box = workstation.add_box()
    finished(box.root)
    settings = workstation.settings(verdict=SOON)
    async with watching(settings) as watch:
        await comes_true(watch.is_safe)
        identity = watch.host().identity
        devices = await watch.context.catalogue.devices.of(identity)
        await watch.context.catalogue.devices.save(identity, {place: number + 1 for place, number in devices.items()})
    async with watching(settings) as watch:
        await comes_true(watch.is_safe)
        assert await watch.context.catalogue.devices.of(identity) == devices


def _is(watch: Watch, name: str, answer: VerdictAnswer) -> Callable[[], bool]:
    def holds() -> bool:
        verdict = watch.known(name)
        return verdict is not None and verdict.answer is answer

    return holds


async def test_what_another_box_shows_survives(account: Account, reported: ReportedCircumstances) -> None:  # noqa: ARG001
    """On storage of the cloud that two boxes show, a checkpoint is lost with neither; with the last of them it is."""
    writer = finished(account.root)
    writer.checkpoint(2)
    account.rent("a" * 32, "gpu-a", "127.0.0.2")
    account.rent("b" * 32, "gpu-b", "127.0.0.3")
    sections = account.sections()
    async with watching(account.workstation.settings(**sections, verdict=SOON)) as watch:
        await comes_true(lambda: watch.is_safe("gpu-a") and watch.is_safe("gpu-b"))
        for name, other in (("gpu-a", "gpu-b"), ("gpu-b", "gpu-a")):
            verdict = await watch.asked(name)
            assert verdict.answer is VerdictAnswer.SAFE
            assert {each.loss.kind for each in verdict.survives} == {LossKind.CHECKPOINTS, LossKind.RECORDS}
            assert {each.through for each in verdict.survives} == {other}
        account.cloud.end("b" * 32)
        await comes_true(_is(watch, "gpu-a", VerdictAnswer.SAFE_EXCEPT), 60.0)
        verdict = await watch.asked("gpu-a")
        assert {loss.kind for loss in verdict.losses} == {LossKind.CHECKPOINTS, LossKind.RECORDS}
        assert not verdict.is_safe


async def test_a_box_is_blocked_by_its_own_runs_alone(
    account: Account, reported: ReportedCircumstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one box writes a run to the storage that both show, the other one may go, and only that one."""
    reported.name_machines(monkeypatch)
    account.rent("a" * 32, "gpu-a", "127.0.0.2")
    account.rent("b" * 32, "gpu-b", "127.0.0.3")
    finished(account.root)
    writer = RunWriter(account.root, RunSpec(timestamp="2025-08-22_12-00-00", hostname="gpu-b", total_steps=8))
    writer.start()
    writer.log_until(1)

    async def write() -> None:
        while True:
            with writer.train_log.open("ab") as log:
                log.write(b'{"step": 1}\n')
            await anyio.sleep(0.1)

    idle = {**SOON, "idle_for": "2s"}
    settings = account.workstation.settings(**account.sections(), verdict=idle)
    async with watching(settings) as watch, anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await comes_true(lambda: watch.is_safe("gpu-a"), 60.0)
        assert not watch.is_safe("gpu-b")
        assert await watch.reasons("gpu-b") & {R.NOT_QUIET, R.RUNNING}
        assert not events(watch.event_log, "host.drained", host="gpu-b")
        tasks.cancel_scope.cancel()
