"""Remote eval jobs on real boxes: what their launcher calls, `harvestd sync`, and the daemon that does it by itself."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import EvalWriter, RunWriter, base_evals, evals_of_run
from harvestd.errors import ExitCode
from harvestd.harvest.host import loop
from harvestd.harvest.host.executor import Executor
from harvestd.harvest.host.loop import HostLoop
from harvestd.harvest.host.observer import Observer
from harvestd.lambda_eval import LambdaEvaluationManager, SyncFailed, syncing, watching
from harvestd.lambda_eval.job_files import Job, read_job
from harvestd.planning.plan import Plan
from support.command import harvestd_command
from support.house import Workstation
from support.jobs import JOB, read_document, write_job
from support.waiting import EventLog, events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=8)
OTHER = RunSpec(timestamp="2025-08-21_10-00-00", total_steps=8)
DIRECTORY = "gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps"


def evaluated(root: Path, run: RunSpec, *, steps: tuple[int, ...] = (4, 8)) -> EvalWriter:
    """Write a finished run, and evals of it."""
    writer = RunWriter(root, run)
    writer.start()
    writer.log_until(8)
    writer.finish()
    evals = evals_of_run(root, EvalSpec(run, questions=5))
    evals.write_config()
    for step in steps:
        evals.evaluate(step)
    return evals


def manager(workstation: Workstation, *, raise_on_error: bool = False) -> LambdaEvaluationManager:
    """Return the manager with the workstation's job files and configuration."""
    return LambdaEvaluationManager(jobs_dir=workstation.jobs, config=workstation.config, raise_on_error=raise_on_error)


async def synced(workstation: Workstation, job_id: str = JOB) -> bool:
    """Sync a job in a thread, as a program without an event loop does."""
    return await anyio.to_thread.run_sync(manager(workstation).sync_results, job_id, None)


async def why_not(workstation: Workstation, job_id: str = JOB) -> SyncFailed:
    """Return the error with which syncing ends; without errors asked for, the answer is False for it."""
    assert await synced(workstation, job_id) is False
    with pytest.raises(SyncFailed) as caught:
        await manager(workstation, raise_on_error=True).sync_results_async(job_id, None)
    return caught.value


async def test_manager_brings_exactly_the_run_and_evals_of_its_job(workstation: Workstation) -> None:
    """Of a box with two runs one comes home, named and with its base eval; the job file says when and where."""
    root = workstation.add_box().root
    evaluated(root, RUN)
    evaluated(root, OTHER)
    base_evals(root, EvalSpec(RUN, questions=5)).evaluate("base_full")
    workstation.settings()
    file = write_job(workstation.jobs, RUN, zebra=[1, {"b": None, "a": 2.5}], note="größer")
    file.chmod(0o640)
    before = read_document(file)
    assert await synced(workstation) is True
    after = read_document(file)
    assert list(after) == [*before, "synced_at", "local_results_dir"]
    assert {key: after[key] for key in before} == before
    assert file.stat().st_mode & 0o777 == 0o640
    assert after["local_results_dir"] == str(workstation.data / DIRECTORY)
    assert datetime.fromisoformat(str(after["synced_at"])).utcoffset() == timedelta(0)
    assert sorted(path.name for path in workstation.data.iterdir()) == [".harvestd", DIRECTORY, "index.md"]
    filed = workstation.filed()
    assert f"{DIRECTORY}/training_run/training_state/step_final/training_info.json" in filed
    assert sum(path.endswith("/metrics.csv") for path in filed) == 3
    assert f"{DIRECTORY}/base_eval/temp0.7_p1.0_r8/metrics.csv" in filed
    assert not any(OTHER.name in path for path in filed)
    assert list(workstation.jobs.iterdir()) == [file]
    workstation.audit()
    assert await synced(workstation) is True
    (rest,) = (await workstation.once()).values()
    assert rest.files > 0
    assert any(OTHER.name in path for path in workstation.filed())
    question = "SELECT place, reason FROM left_out ORDER BY place"
    left_out = workstation.catalogue(question)
    assert any(OTHER.name in str(place) for place, _ in left_out)
    assert await synced(workstation) is True
    assert workstation.catalogue(question) == left_out
    workstation.audit()


async def test_local_dir_names_the_data_root(
    workstation: Workstation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands before {experiment_name} is the data root, below the working directory where it is relative."""
    evaluated(workstation.add_box().root, RUN)
    workstation.settings()
    file = write_job(workstation.jobs, RUN)
    monkeypatch.chdir(tmp_path)
    relative = "data/downloaded_runs/{experiment_name}"
    assert await anyio.to_thread.run_sync(manager(workstation).sync_results, JOB, relative) is True
    here = tmp_path / "data" / "downloaded_runs" / DIRECTORY
    assert read_document(file)["local_results_dir"] == str(here)
    assert (here / "training_run" / "config.yaml").is_file()
    for wrong in ("x/{experiment_name}/y", "x/{run}", "pre_{experiment_name}"):
        with pytest.raises(SyncFailed, match="no place for experiments") as caught:
            await manager(workstation, raise_on_error=True).sync_results_async(JOB, wrong)
        assert caught.value.exit_code == ExitCode.CONFIGURATION


async def test_the_configuration_says_where_all_is(
    workstation: Workstation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without arguments, job files and data root are those of the configuration, wherever the program was started."""
    evaluated(workstation.add_box().root, RUN)
    workstation.settings()
    file = write_job(workstation.jobs, RUN)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HARVESTD_CONFIG", str(workstation.config))
    assert await anyio.to_thread.run_sync(LambdaEvaluationManager().sync_results, JOB) is True
    assert read_document(file)["local_results_dir"] == str(workstation.data / DIRECTORY)
    assert not list((tmp_path / "elsewhere").iterdir())


async def test_a_job_that_runs_is_brought_and_not_noted(workstation: Workstation) -> None:
    """What it has written so far comes; its file is left for the daemon, which notes it when it has finished."""
    evals = evaluated(workstation.add_box().root, RUN)
    workstation.settings()
    file = write_job(workstation.jobs, RUN, status="RUNNING")
    error = await why_not(workstation)
    assert error.exit_code == ExitCode.PARTIAL
    assert "synced_at" not in read_document(file)
    assert workstation.stands(RUN.name, "training_state", "step_final", "training_info.json")()
    evals.evaluate(7)
    async with workstation.running():
        write_job(workstation.jobs, RUN)
        await until(lambda: "synced_at" in read_document(file))
        assert any("/step_7_" in path for path in workstation.filed())
    workstation.audit()


async def test_a_job_whose_host_is_not_watched_is_said_to_wait(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no host is watched at all, or where the host is not reached: once for each reason, and no flood."""
    monkeypatch.setattr(watching, "UNSEEN", 0.1)
    monkeypatch.setattr(watching, "BACKSTOP", 0.2)
    write_job(workstation.jobs, RUN, lambda_ip="192.0.2.7")
    nowhere = "eval_20250821_120000_0123abcd"
    write_job(workstation.jobs, RUN, nowhere, lambda_ip=None)
    async with workstation.running() as event_log:
        await until(lambda: len(events(event_log, "job.waiting")) >= 2)
        (waiting,) = events(event_log, "job.waiting", job_id=JOB)
        assert waiting["error"] == "no host at 192.0.2.7 is watched"
        (waiting,) = events(event_log, "job.waiting", job_id=nowhere)
        assert "lambda_ip" in waiting["error"]
        (workstation.jobs / "eval_20250101_000000_00000001.json").write_text("no job")
        await until(lambda: events(event_log, "job.rejected"))
        assert len(events(event_log, "job.waiting")) == 2
    box = workstation.add_box()
    box.server.stop()
    async with workstation.running() as event_log:
        write_job(workstation.jobs, RUN)
        await until(lambda: any("gpu-a" in str(each["error"]) for each in events(event_log, "job.waiting", job_id=JOB)))


async def test_box_that_nobody_configured_is_reached_by_its_address(workstation: Workstation) -> None:
    """The address of the job and the keys of [ssh] and [remote] are enough."""
    box = workstation.add_box()
    evaluated(box.root, RUN)
    workstation.boxes.clear()
    key = [str(box.server.client_key)]
    ssh = {"port": box.port, "user": box.server.user, "identity_files": key}
    workstation.settings(ssh=ssh, remote={"roots": [str(box.root)]})
    file = write_job(workstation.jobs, RUN)
    assert await synced(workstation) is True
    assert Path(str(read_document(file)["local_results_dir"])).name.startswith("gns_test_2025-08-20_qwen2_5_1_5b_")
    workstation.audit()


async def test_sync_results_says_what_to_call_inside_a_loop(workstation: Workstation) -> None:
    """Who has an event loop already is told so, and of the way out."""
    with pytest.raises(RuntimeError, match="sync_results_async"):
        manager(workstation).sync_results(JOB)


@pytest.mark.parametrize(
    "job_id", ["eval_20250820_120000_ffffffff", "../secret", "", "eval_20250820_120000_0123abcd/../x", "eval_1\x1b[2J"]
)
async def test_wrong_ids(workstation: Workstation, job_id: str) -> None:
    """An id that nobody has, or that is none, ends with 4: it is never a path."""
    workstation.settings()
    write_job(workstation.jobs, RUN)
    (workstation.jobs.parent / "secret.json").write_text("{}")
    error = await why_not(workstation, job_id)
    assert error.exit_code == ExitCode.UNKNOWN_NAME
    assert "\x1b" not in str(error)


async def test_box_that_is_gone(workstation: Workstation) -> None:
    """A box that does not answer, and a job that names none, end with 5; the job file stays as it is."""
    box = workstation.add_box()
    workstation.settings()
    box.server.stop()
    file = write_job(workstation.jobs, RUN)
    content = file.read_bytes()
    assert (await why_not(workstation)).exit_code == ExitCode.NO_HOST
    assert file.read_bytes() == content
    for address in (None, 7, "-oProxyCommand=x"):
        write_job(workstation.jobs, RUN, lambda_ip=address)
        assert (await why_not(workstation)).exit_code == ExitCode.NO_HOST


async def test_partial_results(workstation: Workstation) -> None:
    """An eval that is not sealed, a step that was asked for, a run that is not there: False, and told which it is."""
    root = workstation.add_box().root
    evals = evaluated(root, RUN)
    evals.begin(6)
    workstation.settings()
    file = write_job(workstation.jobs, RUN)
    error = await why_not(workstation)
    assert error.exit_code == ExitCode.PARTIAL
    assert "step_6_gsm8k_r1_template/temp0.7_p1.0_r8: its run_meta.json is not there yet" in str(error)
    assert "synced_at" not in read_document(file)
    evals.seal(6)
    write_job(workstation.jobs, RUN, steps=[4, 7])
    assert "no box shows an eval of step 7" in str(await why_not(workstation))
    write_job(workstation.jobs, RUN, eval_dataset="math")
    assert "on math" in str(await why_not(workstation))
    write_job(workstation.jobs, OTHER)
    assert f"{OTHER.name} has no experiment" in str(await why_not(workstation))
    write_job(workstation.jobs, RUN, steps=[4, 6])
    assert await synced(workstation) is True


async def test_what_a_person_put_in_the_way_is_missing(workstation: Workstation) -> None:
    """A result whose place is taken at home was not brought: the job is not synced."""
    evaluated(workstation.add_box().root, RUN)
    workstation.settings()
    write_job(workstation.jobs, RUN)
    assert await synced(workstation) is True
    config = workstation.data / DIRECTORY / "training_run" / "config.yaml"
    config.unlink()
    config.write_text("mine\n")
    (workstation.boxes["gpu-a"].root / "training_runs" / RUN.name / "config.yaml").write_text("total_steps: 9\n")
    assert (await why_not(workstation)).exit_code == ExitCode.PARTIAL
    assert config.read_text() == "mine\n"


async def test_command(workstation: Workstation) -> None:
    """`harvestd sync` brings a job home, says where it is, and ends as its help says."""
    evals = evaluated(workstation.add_box().root, RUN)
    workstation.settings()
    write_job(workstation.jobs, RUN)

    def sync(*arguments: str) -> tuple[int, str, str]:
        done = harvestd_command("-c", workstation.config, "sync", *arguments)
        return done.code, done.out, done.err

    evals.begin(6)
    code, out, err = await anyio.to_thread.run_sync(sync, JOB)
    assert (code, out) == (ExitCode.PARTIAL, "")
    assert "run_meta.json is not there yet" in err
    evals.seal(6)
    code, out, err = await anyio.to_thread.run_sync(sync, JOB, "--json")
    assert (code, err) == (ExitCode.OK, "")
    document = json.loads(out)
    assert (document["job_id"], document["run"], document["by_daemon"]) == (JOB, RUN.name, False)
    assert document["local_results_dir"] == str(workstation.data / DIRECTORY)
    assert document["files"] > 0
    code, out, err = await anyio.to_thread.run_sync(sync, JOB)
    assert (code, out) == (ExitCode.OK, f"{JOB} is in {workstation.data / DIRECTORY}: 0 files came, 0 B\n")
    assert sync("eval_20250820_120000_ffffffff")[0] == ExitCode.UNKNOWN_NAME


async def test_daemon_syncs_jobs_by_itself(workstation: Workstation) -> None:
    """A job is noted once it has finished and all of it is here, not before; a directory may come later."""
    root = workstation.add_box().root
    evals = evaluated(root, RUN)
    evals.begin(6)
    async with workstation.running() as event_log:
        file = write_job(workstation.jobs, RUN, status="RUNNING")
        await until(workstation.stands(RUN.name, "config.yaml"))
        write_job(workstation.jobs, RUN)
        await until(lambda: events(event_log, "job.waiting", job_id=JOB))
        assert "synced_at" not in read_document(file)
        evals.seal(6)
        await until(lambda: "synced_at" in read_document(file))
        assert read_document(file)["local_results_dir"] == str(workstation.data / DIRECTORY)
        leaf = evals.leaf(6).relative_to(root / "eval_runs")
        assert (workstation.data / DIRECTORY / "eval_results" / leaf / "run_meta.json").is_file()
        await until(lambda: len(events(event_log, "job.synced", job_id=JOB)) == 1)
        evals.evaluate(7)
        second = write_job(workstation.jobs, RUN, "eval_20250821_120000_0123abcd")
        await until(lambda: "synced_at" in read_document(second))
        leaf = evals.leaf(7).relative_to(root / "eval_runs")
        assert (workstation.data / DIRECTORY / "eval_results" / leaf / "run_meta.json").is_file()
    workstation.audit()


async def test_jobs_wait_for_each_other(workstation: Workstation) -> None:
    """Two jobs that are synced at once are both brought."""
    root = workstation.add_box().root
    evaluated(root, RUN)
    evaluated(root, OTHER)
    workstation.settings()
    second = "eval_20250821_120000_0123abcd"
    files = [write_job(workstation.jobs, RUN), write_job(workstation.jobs, OTHER, second)]
    answers: list[bool] = []

    async def one(job_id: str) -> None:
        answers.append(await synced(workstation, job_id))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, JOB)
        tasks.start_soon(one, second)
    assert answers == [True, True]
    assert len({read_document(file)["local_results_dir"] for file in files}) == 2
    workstation.audit()


async def test_daemon_does_not_go_by_what_it_saw_before(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written after the last look, anew or again, is not taken for here."""
    root = workstation.add_box().root
    evals = evaluated(root, RUN)
    may_look, may_work = anyio.Event(), anyio.Event()
    may_look.set()
    may_work.set()
    look, work = Observer.scan, Executor.do

    async def held(observer: Observer) -> Plan:
        await may_look.wait()
        return await look(observer)

    async def work_held(working: Executor, plan: Plan) -> None:
        await may_work.wait()
        await work(working, plan)

    async def all_files_were_read(event_log: EventLog, marker: str) -> None:
        (workstation.jobs / f"{marker}.json").write_text("no job")
        await until(lambda: events(event_log, "job.rejected", job_id=marker))

    monkeypatch.setattr(Observer, "scan", held)
    monkeypatch.setattr(Executor, "do", work_held)
    async with workstation.running(poll={"push": False}) as event_log:
        first = write_job(workstation.jobs, RUN)
        await until(lambda: "synced_at" in read_document(first))
        may_look = anyio.Event()
        evals.evaluate(7)
        second = write_job(workstation.jobs, RUN, "eval_20250821_120000_0123abcd")
        await all_files_were_read(event_log, "eval_20250101_000000_00000001")
        # What was read is judged before the files are read the next time.
        await all_files_were_read(event_log, "eval_20250101_000000_00000002")
        assert "synced_at" not in read_document(second)
        may_look.set()
        await until(lambda: "synced_at" in read_document(second))
        assert any("/step_7_" in path for path in workstation.filed())
        may_look = anyio.Event()
        again = evals_of_run(root, EvalSpec(RUN, questions=500))
        again.evaluate(4)
        third = write_job(workstation.jobs, RUN, "eval_20250822_120000_0123abcd")
        await all_files_were_read(event_log, "eval_20250101_000000_00000003")
        may_work = anyio.Event()
        may_look.set()
        await until(lambda: events(event_log, "job.waiting", job_id="eval_20250822_120000_0123abcd"))
        assert "synced_at" not in read_document(third)
        may_work.set()
        await until(lambda: "synced_at" in read_document(third))
        metrics = again.leaf(4) / "metrics.csv"
        here = workstation.data / DIRECTORY / "eval_results" / metrics.relative_to(root / "eval_runs")
        assert here.read_bytes() == metrics.read_bytes()


async def test_box_that_tells_without_end_is_looked_at_for_its_job(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a box tells by itself may not be all: however often it does, a finished job has it looked at as a whole."""
    evaluated(workstation.add_box().root, RUN)
    looks: list[str] = []
    hear = Observer.take_reports

    async def heard(observer: Observer) -> Plan:
        looks.append("heard")
        return await hear(observer)

    async def reported(_session: HostLoop, _scan_now: object, _asked_before: int, _plan: Plan) -> loop.WakeReason:
        await anyio.sleep(0.01)
        return loop.WakeReason.PUSHED

    monkeypatch.setattr(Observer, "take_reports", heard)
    monkeypatch.setattr(HostLoop, "_wait_for_reason", reported)
    async with workstation.running():
        await until(lambda: len(looks) > 3)
        file = write_job(workstation.jobs, RUN)
        await until(lambda: "synced_at" in read_document(file))


async def test_manager_leaves_it_to_the_daemon(workstation: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a daemon holds the data root, the answer waits for what that one notes."""
    evaluated(workstation.add_box().root, RUN)
    async with workstation.running():
        file = write_job(workstation.jobs, RUN, status="RUNNING")
        with monkeypatch.context() as patched:
            patched.setattr(syncing, "TIMEOUT", 0.5)
            with pytest.raises(SyncFailed, match="its status is RUNNING") as caught:
                await manager(workstation, raise_on_error=True).sync_results_async(JOB, None)
        assert caught.value.exit_code == ExitCode.LOCKED
        write_job(workstation.jobs, RUN)
        assert await manager(workstation).sync_results_async(JOB, None) is True
        assert "synced_at" in read_document(file)
    workstation.audit()


async def test_daemon_survives_what_lies_in_the_directory(workstation: Workstation) -> None:
    """Files that can't be used are told once, by name; the job beside them is synced."""
    evaluated(workstation.add_box().root, RUN)
    workstation.jobs.mkdir()
    names = [f"eval_20250820_12000{number}_ffffffff" for number in range(6)]
    for name, content in zip(names, (b"{", b"[" * 100_000, b" " * 300_000, b"[]", b"\xff"), strict=False):
        (workstation.jobs / f"{name}.json").write_bytes(content)
    (workstation.jobs / f"{names[5]}.json").mkdir()
    (workstation.jobs / "notes.json").write_text("{}")
    async with workstation.running() as event_log:
        file = write_job(workstation.jobs, RUN)
        await until(lambda: "synced_at" in read_document(file))
        assert sorted(str(each["job_id"]) for each in events(event_log, "job.rejected")) == names


async def test_a_defect_at_one_job_keeps_no_other_from_being_synced(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception costs its own job: it is told once, and the job is read again later."""
    broken = f"{JOB[:-1]}0"
    failing = [True]

    def read_or_fail(directory: Path, job_id: str) -> Job:
        if job_id == broken and failing:
            raise KeyError("a defect")
        return read_job(directory, job_id)

    monkeypatch.setattr(watching, "read_job", read_or_fail)
    monkeypatch.setattr(watching, "BACKSTOP", 0.2)
    evaluated(workstation.add_box().root, RUN)
    workstation.jobs.mkdir()
    async with workstation.running() as event_log:
        first = write_job(workstation.jobs, RUN, broken)
        await until(lambda: events(event_log, "service.failed", service="jobs", job_id=broken))
        second = write_job(workstation.jobs, RUN)
        await until(lambda: "synced_at" in read_document(second))
        assert "synced_at" not in read_document(first)
        failing.clear()
        await until(lambda: "synced_at" in read_document(first))
        (reported,) = events(event_log, "service.failed")
        assert isinstance(reported["exc_info"], KeyError)
