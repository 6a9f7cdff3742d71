"""A single pass: the same tree by every way, what is waited for and what is not, a crash or an end at any point."""

import asyncio
import json
import threading

import anyio
import pytest
import structlog.testing

from harvestd import failpoints
from harvestd.cli.one_pass import pass_exit_code
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run, write_convention_example
from harvestd.errors import ExitCode, HostFailed
from harvestd.harvest.host.observer import Observer
from harvestd.harvest.host.passes import hosts_of, plan
from harvestd.planning.plan import Plan
from support.data_root import descriptors
from support.house import Moved, Workstation
from support.openssh import OpenSSHFactory
from support.relay import relayed
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
LOG = ("logs", "train_log.jsonl")
MIB = 1024 * 1024


async def test_sftp_alone_gives_the_same_tree_as_the_probe(
    workstation: Workstation, openssh_factory: OpenSSHFactory
) -> None:
    """A box that allows SFTP alone is harvested into the same files with the same bytes as one with Python."""
    root = workstation.data.with_name("example")
    write_convention_example(root)
    workstation.add_box("gpu-a", root=root)
    other = Workstation(workstation.data.with_name("other"), openssh_factory)
    other.data.parent.mkdir()
    other.add_box("gpu-b", root=root, sftp_only=True)
    results = {**await workstation.once(), **await other.once()}
    assert not any(result.failed or result.conflicts or result.waiting for result in results.values())
    assert [row[0] for row in workstation.catalogue("SELECT DISTINCT inode != 0 FROM files")] == [1]
    assert [row[0] for row in other.catalogue("SELECT DISTINCT inode FROM files")] == [0]
    assert workstation.filed() == other.filed()
    assert len(workstation.filed()) == 25
    manifests = [
        json.loads((each.training(RUN.name).with_name("manifest.json")).read_text()) for each in (workstation, other)
    ]
    first, second = ({file["path"]: file["sha256"] for file in manifest["files"]} for manifest in manifests)
    assert first == second
    workstation.audit()
    other.audit()


@pytest.mark.parametrize("sftp_only", [False, True], ids=["probe", "sftp"])
async def test_second_pass_moves_nothing(workstation: Workstation, *, sftp_only: bool) -> None:
    """What is here is not asked for again."""
    box = workstation.add_box(sftp_only=sftp_only)
    write_convention_example(box.root)
    (first,) = (await workstation.once()).values()
    assert first.files == 24
    before = workstation.filed()
    moved = Moved()
    (second,) = (await workstation.once(moved)).values()
    assert (second.files, second.bytes, moved.bytes) == (0, 0, {})
    assert workstation.filed() == before
    workstation.audit()


async def test_what_only_has_to_settle_is_waited_for(workstation: Workstation) -> None:
    """A config.yaml that was written just now, with nothing after it, is home when the pass ends; it was waited for."""
    box = workstation.add_box()
    (box.root / "training_runs").mkdir()
    source = RunWriter(workstation.data.with_name("elsewhere"), RUN)
    source.start()
    directory = box.root / "training_runs" / RUN.name
    directory.mkdir()
    (directory / "config.yaml").write_bytes((source.directory / "config.yaml").read_bytes())
    started = anyio.current_time()
    (result,) = (await workstation.once(poll={"settle": "1s"})).values()
    assert anyio.current_time() - started > 0.9
    assert not result.waiting
    assert workstation.stands(RUN.name, "config.yaml")()


async def test_checkpoint_without_marker_is_reported_as_waiting(workstation: Workstation) -> None:
    """A checkpoint that nobody sealed is not fetched and not waited for; the pass says so."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    directory = writer.begin_checkpoint("final")
    with anyio.fail_after(60):
        (result,) = (await workstation.once()).values()
    (waiting,) = result.waiting
    assert waiting.place == str(directory)
    assert "training_info.json" in waiting.reason
    assert waiting.size == sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    assert not workstation.stands(RUN.name, "training_state")()
    assert not result.failed


@pytest.mark.parametrize(
    "point", ["publish.renamed", "publish.renamed_all", "publish.directories_synced", "growing.synced"]
)
async def test_crash_before_the_row_is_adopted(workstation: Workstation, point: str) -> None:
    """Killed between a rename and its row: the next start knows the file by its intent, and fetches it not again."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate(2)
    workstation.settings()
    with workstation.program(point) as process:
        await until(lambda: process.poll() is not None)
    assert process.returncode == -9
    there = {str(row[0]) for row in workstation.catalogue("SELECT target FROM files")}
    stranded = {path: content for path, content in workstation.filed().items() if path not in there}
    assert stranded, "nothing stood without its row"
    (result,) = (await workstation.once()).values()
    assert not result.conflicts
    assert not result.failed
    here = workstation.filed()
    # What grows stands from its first byte on, as a prefix; what is published stands whole.
    growing = {path: content for path, content in stranded.items() if "/logs/" in path or "tfevents" in path}
    assert all(str(here[path]).startswith(str(content)[:-1]) for path, content in growing.items())
    sealed = stranded.items() - growing.items()
    assert bool(growing if point == "growing.synced" else sealed)
    assert sealed <= here.items()
    if point != "growing.synced":
        assert result.files <= 6 - len(sealed)
    assert workstation.has(writer.train_log, RUN.name, *LOG)()
    assert workstation.catalogue("SELECT * FROM intents") == []
    workstation.audit()


@pytest.mark.parametrize("point", ["publish.staged_synced", "publish.renamed_all", "growing.synced"])
async def test_end_in_the_middle_of_publishing(workstation: Workstation, point: str) -> None:
    """A daemon that is stopped while files move into place leaves neither a file without its row nor a temporary."""
    box = workstation.add_box()
    write_convention_example(box.root)
    reached, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        reached.set()
        go_on.wait(timeout=10)

    with failpoints.armed(point, stop):
        async with workstation.running():
            await until(reached.is_set)
            # The daemon is told to stop when the body ends; the store goes on only after that.
            asyncio.get_running_loop().call_later(0.2, go_on.set)
    rows = {row[0] for row in workstation.catalogue("SELECT target FROM files")}
    here = {path for path, content in workstation.filed().items() if content}
    assert here == rows
    assert rows
    assert workstation.catalogue("SELECT * FROM intents") == []
    assert list((workstation.data / ".harvestd" / "staging").iterdir()) == []
    workstation.audit()


async def test_pass_leaks_no_descriptor_and_no_connection(workstation: Workstation) -> None:
    """Passes over a box leave no open file, no task and no connection behind."""
    box = workstation.add_box()
    write_convention_example(box.root)
    await workstation.once()
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        before = descriptors()
        for _ in range(3):
            await workstation.once()
        await until(lambda: relay.open == 0)
        await until(lambda: len(descriptors()) <= len(before))


async def test_a_defect_at_one_box_costs_that_box_alone(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass over three boxes brings home what the others have, says what failed, and exits with 3; so does a plan."""
    runs = {name: RunSpec(timestamp=f"2025-08-20_03-31-0{n}") for n, name in enumerate(("gpu-a", "gpu-b", "gpu-c"))}
    for name, run in runs.items():
        writer = RunWriter(workstation.add_box(name).root, run)
        writer.start()
        writer.log_until(3)
        writer.finish()
    look = Observer.scan

    async def fail(self: Observer) -> Plan:
        plan = await look(self)
        if self._host.name == "gpu-b":
            raise KeyError("a defect")
        return plan

    monkeypatch.setattr(Observer, "scan", fail)
    with structlog.testing.capture_logs() as event_log:
        outcomes = await workstation.outcomes()
        settings = workstation.settings()
        planned = await plan(settings, await hosts_of(settings))
    assert [outcome.host.name for outcome in planned if outcome.error] == ["gpu-b"]
    assert [name for name, outcome in outcomes.items() if outcome.error] == ["gpu-b"]
    assert isinstance(outcomes["gpu-b"].error, HostFailed)
    assert pass_exit_code(list(outcomes.values())) == pass_exit_code(planned) == ExitCode.PARTIAL
    assert {str(one["host"]) for one in events(event_log, "host.failed")} == {"gpu-b"}
    assert workstation.catalogue("SELECT name FROM hosts WHERE state = 'failed'") == [("gpu-b",)]
    assert {name: bool(workstation.experiment(run.name)) for name, run in runs.items()} == {
        "gpu-a": True,
        "gpu-b": True,
        "gpu-c": True,
    }
    for name in ("gpu-a", "gpu-c"):
        assert workstation.stands(runs[name].name, "logs", "train_log.jsonl")()
