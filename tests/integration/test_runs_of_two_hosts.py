"""A run whose ranks write to the disks of two hosts: the parts of both come home into one experiment."""

import json
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from harvestd.catalogue.state_dir import FILE_NAME
from harvestd.demo import content
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.safety.verdict import ReasonKind
from support.faults import fired
from support.house import Workstation
from support.judging import ReportedCircumstances, Watch, comes_true, watching
from support.shared_trees import own_view
from support.waiting import until
from support.wanted import temporaries_left

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=64)
QUICK = {"idle_for": "300ms", "accept_loss": ["records"]}
ALL = {"checkpoint": "all"}
STEP = "step_64"
MARKER = "training_info.json"


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> ReportedCircumstances:
    """Let the hosts report no activity."""
    reported = ReportedCircumstances()
    reported.play(monkeypatch)
    return reported


def write_ranks(root: Path, ranks: Iterable[int], step: str = STEP) -> dict[str, bytes]:
    """Write the parts of some ranks; return their contents by name."""
    directory = root / "training_runs" / RUN.name / "training_state" / step
    directory.mkdir(parents=True, exist_ok=True)
    parts = {f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt": f"state of {rank}\n".encode() * 50 for rank in ranks}
    for name, data in parts.items():
        (directory / name).write_bytes(data)
    return parts


def write_whole(root: Path, step: str = STEP) -> dict[str, bytes]:
    """Write what the first host of a run has: its log, and the checkpoint with the marker."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(64)
    parts = write_ranks(root, range(8), step)
    writer.checkpoint(int(step.removeprefix("step_")) if step != "step_final" else "final")
    return parts


def write_part(root: Path, step: str = STEP) -> dict[str, bytes]:
    """Write what the second host of a run has: config.yaml and the parts of its ranks."""
    parts = write_ranks(root, range(8, 16), step)
    (root / "training_runs" / RUN.name / "config.yaml").write_bytes(content.config_yaml(RUN))
    return parts


async def both_safe(watch: Watch) -> None:
    """Wait until both hosts are safe; show the verdicts where one is not."""
    try:
        await comes_true(lambda: watch.is_safe("gpu-a") and watch.is_safe("gpu-b"), 60)
    except TimeoutError:
        raise AssertionError(watch.known("gpu-a"), watch.known("gpu-b")) from None


def parts_here(workstation: Workstation, step: str) -> dict[str, bytes]:
    """Return the ranks' parts in the one experiment that there is, by name."""
    found = workstation.training(RUN.name) / "training_state" / step
    return {path.name: path.read_bytes() for path in found.glob("zero_*")}


@pytest.mark.parametrize(("step", "policy"), [(STEP, "all"), ("step_final", "final")])
async def test_parts_of_two_hosts_are_side_by_side(
    workstation: Workstation, reported: ReportedCircumstances, step: str, policy: str
) -> None:
    """The second host has no log and no marker; both become safe, and nothing is sent again."""
    first, second = workstation.add_box("gpu-a"), workstation.add_box("gpu-b")
    parts = write_whole(first.root, step) | write_part(second.root, step)
    settings = workstation.settings(verdict=QUICK, select={"checkpoint": policy})
    async with watching(settings) as watch:
        await both_safe(watch)
        assert reported.asked
    assert parts_here(workstation, step) == parts
    assert (workstation.training(RUN.name) / "training_state" / step / MARKER).exists()
    results = await workstation.once(select={"checkpoint": policy})
    assert [result.files for result in results.values()] == [0, 0]
    workstation.audit()


def shown(workstation: Workstation) -> list[tuple[object, ...]]:
    """Return by host which experiment its record of the run belongs to, and how many files came from it."""
    return workstation.catalogue(
        "SELECT runs.host, runs.experiment, COUNT(files.place)"
        " FROM runs LEFT JOIN files ON files.storage = runs.storage"
        " GROUP BY runs.host, runs.experiment ORDER BY runs.host"
    )


async def test_two_disks_at_one_path_are_two_disks(workstation: Workstation, reported: ReportedCircumstances) -> None:
    """Real hosts of one image use the same paths: parts, configs and evals of both come, as they differ."""
    place = workstation.data.with_name("localfs")
    place.mkdir()
    disks = {name: workstation.data.with_name(f"disk of {name}") for name in ("gpu-a", "gpu-b")}
    for disk in disks.values():
        disk.mkdir()
    parts = write_whole(disks["gpu-a"]) | write_part(disks["gpu-b"])
    for questions, disk in zip((5, 7), disks.values(), strict=True):
        evals = evals_of_run(disk, EvalSpec(RUN, questions=questions))
        evals.write_config()
        evals.evaluate(2)
    for name, disk in disks.items():
        workstation.add_box(name, root=place, within=own_view(disk, place))
    async with watching(workstation.settings(verdict=QUICK, select=ALL)) as watch:
        await both_safe(watch)
        assert reported.asked
    assert parts_here(workstation, STEP) == parts
    found = workstation.training(RUN.name).with_name("eval_results").glob("**/metrics.csv")
    assert sorted(path.read_bytes() for path in found) == sorted(
        path.read_bytes() for disk in disks.values() for path in disk.glob("eval_runs/**/metrics.csv")
    )
    workstation.audit()


async def test_part_that_is_seen_first_waits_for_the_log(
    workstation: Workstation, reported: ReportedCircumstances
) -> None:
    """Its verdict names the missing marker until the other host appears; the run is named by the log's host."""
    second = workstation.add_box("gpu-b")
    parts = write_part(second.root)
    await workstation.once(select=ALL)
    first = workstation.add_box("gpu-a")
    async with watching(workstation.settings(verdict=QUICK, select=ALL)) as watch:
        await comes_true(lambda: watch.known("gpu-b") is not None)
        verdict = await watch.asked("gpu-b")
        waiting = [reason for reason in verdict.reasons if reason.kind is ReasonKind.WAITING]
        assert [MARKER in reason.detail for reason in waiting] == [True]
        parts |= write_whole(first.root)
        await both_safe(watch)
        assert reported.asked
    assert parts_here(workstation, STEP) == parts
    assert len({experiment for _, experiment, _ in shown(workstation)}) == 1
    workstation.audit()


async def test_part_joins_a_run_whose_host_is_gone(workstation: Workstation, reported: ReportedCircumstances) -> None:
    """What the first host brought tells enough; a catalogue made from the manifests knows both hosts."""
    first = workstation.add_box("gpu-a")
    parts = write_whole(first.root)
    await workstation.once(select=ALL)
    first.server.stop()
    del workstation.boxes["gpu-a"]
    parts |= write_part(workstation.add_box("gpu-b").root)
    async with watching(workstation.settings(verdict=QUICK, select=ALL)) as watch:
        await comes_true(lambda: watch.is_safe("gpu-b"), 60)
        assert reported.asked
    assert parts_here(workstation, STEP) == parts
    before = shown(workstation)
    assert [host for host, _, files in before if files] == ["gpu-a", "gpu-b"]
    for each in workstation.state.glob(f"{FILE_NAME}*"):
        each.unlink()
    (result,) = (await workstation.once(select=ALL)).values()
    assert (result.files, result.waiting) == (0, ())
    assert shown(workstation) == before
    (manifest,) = workstation.data.glob("*/manifest.json")
    assert {run["host"] for run in json.loads(manifest.read_text())["runs"]} == {"gpu-a", "gpu-b"}
    workstation.audit()


async def test_same_names_with_other_content_are_filed_beside(
    workstation: Workstation, reported: ReportedCircumstances
) -> None:
    """What is equal is here once; of what differs the second host's is below its name, and the rest stays together."""
    first, second = workstation.add_box("gpu-a"), workstation.add_box("gpu-b")
    parts = write_whole(first.root) | write_part(second.root)
    for number, box in enumerate((first, second)):
        state = box.root / "training_runs" / RUN.name / "training_state" / STEP
        (state / "latest").write_text(f"{STEP}\n")
        (state / "rng_state.pth").write_text(f"random {number}\n")
    async with watching(workstation.settings(verdict=QUICK, select=ALL)) as watch:
        await both_safe(watch)
        assert reported.asked
    home = workstation.training(RUN.name)
    assert parts_here(workstation, STEP) == parts
    found = {path.read_text() for path in home.glob(f"**/training_state/{STEP}/rng_state.pth")}
    assert found == {"random 0\n", "random 1\n"}
    assert len(list(home.glob("on_gpu-*"))) == 1
    assert len(list(home.glob("**/latest"))) == 1
    results = await workstation.once(select=ALL)
    assert [result.files for result in results.values()] == [0, 0]
    workstation.audit()


async def test_disks_without_a_log_between_equal_runs_join_neither(workstation: Workstation) -> None:
    """Two equal runs that began in the same second stay two; a part that may be of either waits and names one."""
    for number, name in enumerate(("gpu-a", "gpu-c")):
        writer = RunWriter(workstation.add_box(name).root, RUN)
        writer.start()
        writer.train_log.write_text(f'{{"step": 1, "loss": {number}.5}}\n')
    await workstation.once()
    await workstation.once()
    write_part(workstation.add_box("gpu-b").root)
    results = await workstation.once()
    assert len({experiment for _, experiment, _ in shown(workstation)}) == 2
    assert "gpu-b" not in {host for host, *_ in shown(workstation)}
    assert ["no log" in wait.reason for wait in results["gpu-b"].waiting] == [True]
    workstation.audit()


@pytest.mark.parametrize("point", ["publish.started", "publish.renamed", "publish.directories_synced"])
async def test_daemon_killed_while_parts_are_filed_converges(workstation: Workstation, point: str) -> None:
    """The next start files the rest: nothing is lost, doubled or left over."""
    first = workstation.add_box("gpu-a")
    parts = write_whole(first.root)
    await workstation.once(select=ALL)
    second = workstation.add_box("gpu-b")
    parts |= write_part(second.root)
    workstation.settings(select=ALL)
    with workstation.program(point, "1") as process:
        await until(lambda: process.poll() is not None, seconds=60)
    assert process.returncode == -signal.SIGKILL
    fired(31)
    await workstation.once(select=ALL)
    assert parts_here(workstation, STEP) == parts
    assert temporaries_left(workstation) == []
    results = await workstation.once(select=ALL)
    assert [(result.files, result.waiting) for result in results.values()] == [(0, ()), (0, ())]
    workstation.audit()
