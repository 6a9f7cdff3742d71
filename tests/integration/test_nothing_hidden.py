"""What is on a host and not at home, on real hosts: no rule, no link and no unsynced W&B run is hidden from `safe`."""

from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from msgspec.structs import replace

from harvestd.convention.kinds import LossKind
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.errors import ExitCode
from harvestd.safety.verdict import ReasonKind, Verdict, VerdictAnswer
from support.account import Account
from support.command import harvestd_command
from support.house import Workstation
from support.judging import NOBODY, ReportedCircumstances, Watch, comes_true, watching

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=4)
OTHER = RunSpec(timestamp="2025-08-21_10-00-00", total_steps=4)
SOON = {"idle_for": "300ms"}
OFFLINE = "wandb/offline-run-20250820_033150-ab12cd34/run-ab12cd34.wandb"
L = LossKind


@pytest.fixture(autouse=True)
def reported(monkeypatch: pytest.MonkeyPatch) -> ReportedCircumstances:
    """Return what the hosts say of themselves: that nobody works there."""
    reported = ReportedCircumstances()
    reported.play(monkeypatch)
    return reported


def finished(root: Path, run: RunSpec = RUN) -> RunWriter:
    """Write a finished run."""
    writer = RunWriter(root, run)
    writer.start()
    writer.log_until(4)
    writer.finish()
    return writer


def put(path: Path, content: bytes) -> Path:
    """Write a file, with the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def judged(watch: Watch, answer: VerdictAnswer, *losses: LossKind) -> Callable[[], bool]:
    """Return the condition that the daemon's own verdict gives this answer for these losses."""

    def is_so() -> bool:
        verdict = watch.known()
        return (
            verdict is not None and verdict.answer is answer and {each.kind for each in verdict.losses} == set(losses)
        )

    return is_so


def named(verdict: Verdict) -> dict[str, int | None]:
    """Return what would be lost, with sizes."""
    return {loss.what: loss.size for loss in verdict.losses}


async def test_an_offline_run_of_wandb_is_lost_until_it_is_synced(workstation: Workstation) -> None:
    """Everything else is home and the host idle: its directory and bytes are named, and no longer once it is synced."""
    box = workstation.add_box()
    writer = finished(box.root)
    history = put(writer.directory / OFFLINE, b"x" * 4321)
    async with watching(workstation.settings(verdict=SOON)) as watch:
        await comes_true(judged(watch, VerdictAnswer.SAFE_EXCEPT, L.WANDB))
        verdict = await watch.asked()
        assert named(verdict) == {str(history.parent): 4321}
        assert not verdict.is_safe
        put(Path(f"{history}.synced"), b"")
        await comes_true(judged(watch, VerdictAnswer.SAFE))
    workstation.audit()


async def test_a_tree_behind_a_link_comes_home(workstation: Workstation, tmp_path: Path) -> None:
    """`training_runs -> /ephemeral/training_runs`: its run is found and fetched, and its evals go to it."""
    box = workstation.add_box()
    writer = finished(tmp_path / "ephemeral")
    (box.root / "training_runs").symlink_to(tmp_path / "ephemeral/training_runs")
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate("final")
    async with watching(workstation.settings(verdict=SOON)) as watch:
        await comes_true(judged(watch, VerdictAnswer.SAFE_EXCEPT, L.RECORDS))
        assert workstation.has(writer.train_log, RUN.name, "logs", "train_log.jsonl")()
        assert list(workstation.data.glob("*/eval_results/*/*/*/*/metrics.csv"))
        (tmp_path / "ephemeral").rename(tmp_path / "away")
        assert ReasonKind.ROOT_MISSING in await watch.reasons()
    doctor = await anyio.to_thread.run_sync(lambda: harvestd_command("-c", workstation.config, "doctor", "gpu-a"))
    assert doctor.code == ExitCode.PARTIAL
    assert f"{box.root}/training_runs is a link that leads to no directory" in " ".join(doctor.out.split())
    workstation.audit()


async def test_a_run_behind_a_link_is_never_plain_safe(workstation: Workstation, tmp_path: Path) -> None:
    """It is named with its target and its bytes; nothing is lost with a link to what is watched anyway."""
    box = workstation.add_box()
    finished(box.root)
    (box.root / "training_runs/latest").symlink_to(RUN.name)
    (box.root / "training_runs/real").symlink_to((box.root / "training_runs").resolve() / RUN.name)
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate("final")
    (box.root / "eval_runs/of").symlink_to(f"../training_runs/{RUN.name}")
    elsewhere = finished(tmp_path / "ephemeral", OTHER).directory
    size = sum(path.stat().st_size for path in elsewhere.rglob("*") if path.is_file() and not path.is_symlink())
    link = box.root / "training_runs" / OTHER.name
    async with watching(workstation.settings(verdict=SOON, select={"records": True})) as watch:
        await comes_true(judged(watch, VerdictAnswer.SAFE))
        link.symlink_to(elsewhere)
        await comes_true(judged(watch, VerdictAnswer.SAFE_EXCEPT, L.LINKS))
        assert named(await watch.asked()) == {f"{link} -> {elsewhere.resolve()}": size}
        elsewhere.rename(tmp_path / "away")
        assert named(await watch.asked()) == {f"{link} -> {elsewhere}, which is not there now": None}
    workstation.audit()


async def test_what_lies_on_another_disk_than_its_root_survives_nowhere(
    account: Account, reported: ReportedCircumstances
) -> None:
    """A link leads from storage that two hosts show to a disk of the one: what is lost there is lost with it."""
    finished(account.root).checkpoint(2)
    account.rent("a" * 32, "gpu-a", "127.0.0.2")
    account.rent("b" * 32, "gpu-b", "127.0.0.3")
    reported.all = replace(NOBODY, devices={str(account.root): account.root.stat().st_dev + 1})
    async with watching(account.workstation.settings(**account.sections(), verdict=SOON)) as watch:
        await comes_true(judged(watch, VerdictAnswer.SAFE_EXCEPT, L.CHECKPOINTS))
        assert not (await watch.asked()).survives


async def test_a_link_to_the_newest_checkpoint_is_made_however_it_is_written(workstation: Workstation) -> None:
    """`step_latest` with an absolute path leads to its sibling: at home it is a relative link."""
    box = workstation.add_box()
    writer = finished(box.root)
    latest = writer.directory / "training_state/step_latest"
    latest.unlink()
    latest.symlink_to(writer.directory / "training_state/step_final")
    async with watching(workstation.settings(verdict=SOON)) as watch:
        await comes_true(judged(watch, VerdictAnswer.SAFE))
    here = workstation.training(RUN.name) / "training_state/step_latest"
    assert str(here.readlink()) == "step_final"
    workstation.audit()


async def test_what_rules_leave_out_is_named_until_the_operator_gives_it_up(workstation: Workstation) -> None:
    """Rollouts, core dumps and a module called core.py are named with their bytes; litter never is."""
    box = workstation.add_box()
    run = finished(box.root).directory
    put(run / "logs/rollouts_0.jsonl", b"x" * 700)
    put(run / "logs/ratios.jsonl", b"x" * 30)
    put(run / "core.4242", b"x" * 50)
    put(run / "core.py", b"x" * 5)
    put(run / "x.tmp", b"x")
    put(run / ".config.yaml.swp", b"x")
    put(run / "__pycache__/core.pyc", b"x")
    put(run / ".ipynb_checkpoints/a.ipynb", b"x")
    async with watching(workstation.settings(verdict=SOON)) as watch:
        await comes_true(judged(watch, VerdictAnswer.SAFE_EXCEPT, L.ROLLOUTS, L.OUTSIDE_FILES))
        assert named(await watch.asked()) == {
            str(run / "logs/rollouts_0.jsonl"): 700,
            str(run / "logs/ratios.jsonl"): 30,
            str(run / "core.4242"): 50,
            str(run / "core.py"): 5,
        }
    accepting = {**SOON, "accept_loss": ["rollouts"]}
    async with watching(workstation.settings(verdict=accepting, select={"exclude": ["core.*"]})) as watch:
        await comes_true(watch.is_safe)
    workstation.audit()


async def test_what_is_included_comes_home(workstation: Workstation) -> None:
    """`select.include` brings what no convention names, under the same relative path; then nothing is lost with it."""
    box = workstation.add_box()
    run = finished(box.root).directory
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate("final")
    rollouts = put(run / "logs/rollouts_0.jsonl", b"x" * 700)
    history = put(run / OFFLINE, b"y" * 70)
    head = put(run / ".cache/head", b"z" * 7)
    table = put(evals.directory / "logs/worker.txt", b"t" * 9)
    select = {"include": ["logs/*", "wandb/*.wandb", ".cache/*"], "records": True}
    async with watching(workstation.settings(verdict=SOON, select=select)) as watch:
        await comes_true(judged(watch, VerdictAnswer.SAFE))
    for path in (rollouts, history, head):
        assert workstation.has(path, RUN.name, *path.relative_to(run).parts)()
    (here,) = workstation.data.glob("*/eval_results/*/logs/worker.txt")
    assert here.read_bytes() == table.read_bytes()
    workstation.audit()
