"""The daemon on several real boxes at once: what is written on them arrives, as it is written, and only whole."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from harvestd.convention.scan.completeness import whole_lines, whole_records
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from support.house import Workstation
from support.waiting import Growth, events, holds, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

BOXES = tuple(f"gpu-{letter}" for letter in "abcdefgh")
RUNS = {name: RunSpec(timestamp=f"2025-08-2{number}_03-31-43") for number, name in enumerate(BOXES)}


@asynccontextmanager
async def watched(growth: Growth) -> AsyncIterator[None]:
    """Watch a growing file for the body."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(growth.run)
        yield
        tasks.cancel_scope.cancel()


def is_whole_at_home(workstation: Workstation, writer: RunWriter) -> bool:
    """Return whether all that is wanted of a finished run is at home, byte for byte."""
    here = workstation.training(writer.run.name)
    wanted = [writer.directory / "config.yaml", writer.train_log, writer.events]
    wanted += [path for path in (writer.directory / "training_state" / "step_final").rglob("*") if path.is_file()]
    return all(holds(here / path.relative_to(writer.directory), path.read_bytes())() for path in wanted)


async def test_eight_boxes_are_harvested_while_they_write(workstation: Workstation) -> None:
    """Runs and evals that appear on eight boxes while the daemon runs all arrive, and the trees are the sources."""
    for name in BOXES:
        workstation.add_box(name)
    async with workstation.running() as event_log:
        await until(lambda: len(events(event_log, "host.connected")) == len(BOXES))
        writers = [RunWriter(workstation.boxes[name].root, RUNS[name]) for name in BOXES]
        for name, writer in zip(BOXES, writers, strict=True):
            writer.start()
            writer.log_until(3)
            evals = evals_of_run(workstation.boxes[name].root, EvalSpec(writer.run, questions=5))
            evals.write_config()
            evals.evaluate(2)
            writer.finish()
        for name, writer in zip(BOXES, writers, strict=True):
            remote = workstation.boxes[name].root / "eval_runs"
            await until(partial(is_whole_at_home, workstation, writer))
            for path in (path for path in remote.rglob("*.*") if path.suffix in {".csv", ".json", ".yaml"}):
                here = workstation.training(writer.run.name).with_name("eval_results") / path.relative_to(remote)
                await until(holds(here, path.read_bytes()))
    assert len({workstation.experiment(writer.run.name) for writer in writers}) == len(BOXES)
    assert {str(one["host"]) for one in events(event_log, "run.finished")} == set(BOXES)
    workstation.audit()


def seen(workstation: Workstation, remote: Path) -> bool:
    """Return whether the box's file was read as it is now."""
    size = remote.stat().st_size
    return (str(remote), size) in workstation.catalogue("SELECT place, remote_size FROM files")


async def test_log_and_events_grow_in_place_by_whole_lines_and_records(workstation: Workstation) -> None:
    """At home a growing file is one file, always a prefix of its source, and ends with a whole line or record."""
    writer = RunWriter(workstation.add_box().root, RunSpec())
    writer.start()
    writer.log_until(2)
    async with workstation.running():
        await until(workstation.stands(writer.run.name, "logs", "train_log.jsonl"))
        here = workstation.training(writer.run.name)
        log = Growth(writer.train_log, here / "logs" / "train_log.jsonl", whole_lines)
        events_file = Growth(writer.events, here / "tensorboard" / writer.events.name, whole_records)
        async with watched(log), watched(events_file):
            for step in range(3, 8):
                whole_log, whole_events = writer.train_log.read_bytes(), writer.events.read_bytes()
                writer.log_step(step)
                line = writer.train_log.read_bytes()[len(whole_log) :]
                record = writer.events.read_bytes()[len(whole_events) :]
                # The same step, as a writer's buffer may reach the disk: in two halves.
                writer.train_log.write_bytes(whole_log)
                writer.events.write_bytes(whole_events)
                with writer.train_log.open("ab") as lines, writer.events.open("ab") as records:
                    lines.write(line[:-3])
                    lines.flush()
                    records.write(record[:-3])
                    records.flush()
                    # The catalogue remembers how much of the source it saw, however much of it is whole.
                    await until(partial(seen, workstation, writer.train_log))
                    lines.write(line[-3:])
                    records.write(record[-3:])
                await until(holds(here / "logs" / "train_log.jsonl", writer.train_log.read_bytes()))
                await until(holds(here / "tensorboard" / writer.events.name, writer.events.read_bytes()))
    for growth in (log, events_file):
        assert growth.faults == []
        assert len(growth.inodes) == 1
        assert len(growth.sizes) >= 5
    workstation.audit()


async def test_checkpoint_appears_only_once_it_is_sealed(workstation: Workstation) -> None:
    """While a checkpoint is written part by part nothing of it is at home; when it is, its marker came last."""
    writer = RunWriter(workstation.add_box().root, RunSpec())
    writer.start()
    writer.log_until(2)
    async with workstation.running() as event_log:
        await until(workstation.stands(writer.run.name, "logs", "train_log.jsonl"))
        here = workstation.training(writer.run.name) / "training_state"
        final = writer.directory / "training_state" / "step_final"
        whole = RunWriter(workstation.data.parent / "elsewhere", writer.run)
        whole.start()
        whole.log_until(2)
        whole.checkpoint("final")
        source = whole.directory / "training_state" / "step_final"
        order = [path for name in ("model", "optimizer.pt", "scheduler.pt") for path in sorted(_files(source / name))]
        assert len(order) == 5
        for path in order:
            parts = path.relative_to(source)
            (final / parts).parent.mkdir(parents=True, exist_ok=True)
            (final / parts).write_bytes(path.read_bytes())
            # A log line that comes home shows that the box was looked at since, with the checkpoint half there.
            writer.log_step(writer.last_step + 1)
            log = here.with_name("logs") / "train_log.jsonl"
            await until(holds(log, writer.train_log.read_bytes()))
            assert not here.exists()
        absent: list[Path] = []
        async with anyio.create_task_group() as tasks:

            async def look_at_marker() -> None:
                while True:
                    if (here / "step_final" / "training_info.json").exists():
                        absent.extend(
                            path for path in order if not (here / "step_final" / path.relative_to(source)).exists()
                        )
                    await anyio.lowlevel.checkpoint()

            tasks.start_soon(look_at_marker)
            marker = (source / "training_info.json").read_bytes()
            (final / "training_info.json").write_bytes(marker)
            await until(holds(here / "step_final" / "training_info.json", marker))
            tasks.cancel_scope.cancel()
        assert absent == []
        assert all(holds(here / "step_final" / path.relative_to(source), path.read_bytes())() for path in order)
        await until(lambda: events(event_log, "checkpoint.completed"))
    workstation.audit()


def _files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else [place]


async def test_box_that_dies_disturbs_no_other_and_is_taken_up_again(workstation: Workstation) -> None:
    """With one of three boxes dead the others go on receiving; what it wrote meanwhile comes when it is back."""
    writers = {name: RunWriter(workstation.add_box(name).root, RUNS[name]) for name in BOXES[:3]}
    for writer in writers.values():
        writer.start()
        writer.log_until(1)
    dead, *alive = BOXES[:3]

    def logged(name: str) -> bool:
        log = workstation.training(writers[name].run.name) / "logs" / "train_log.jsonl"
        return holds(log, writers[name].train_log.read_bytes())()

    async with workstation.running() as event_log:
        await until(lambda: all(logged(name) for name in writers))
        before = writers[dead].train_log.read_bytes()
        await anyio.to_thread.run_sync(workstation.boxes[dead].server.kill)
        writers[dead].log_step(2)
        await until(lambda: events(event_log, "host.lost", host=dead))
        for step in (2, 3):
            for name in alive:
                writers[name].log_step(step)
            await until(lambda: all(logged(name) for name in alive))
        log = workstation.training(writers[dead].run.name) / "logs" / "train_log.jsonl"
        assert log.read_bytes() == before
        await anyio.to_thread.run_sync(workstation.boxes[dead].server.start)
        await until(lambda: logged(dead))
        assert len(events(event_log, "host.lost")) == 1
        assert len(events(event_log, "host.connected", host=dead)) == 2
        assert all(len(events(event_log, "host.connected", host=name)) == 1 for name in alive)
    workstation.audit()


async def test_sigterm_ends_the_daemon_in_time_with_clean_output(workstation: Workstation) -> None:
    """SIGTERM ends the program within five seconds with exit code 0; all it said is one JSON object a line."""
    writer = RunWriter(workstation.add_box().root, RunSpec())
    writer.start()
    writer.log_until(3)
    workstation.settings()
    with workstation.program() as process:
        await until(workstation.follows(writer))
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None, seconds=5)
    assert process.returncode == 0
    event_log = [json.loads(line) for line in workstation.output_file.read_text().splitlines()]
    assert event_log[0]["event"] == "service.started"
    assert event_log[-1]["event"] == "service.stopped"
    assert [one["event"] for one in event_log].count("service.stopping") == 1
    assert {"log.forwarded", "log.lost"}.isdisjoint(one["event"] for one in event_log)
    manifest = json.loads((workstation.training(writer.run.name).with_name("manifest.json")).read_text())
    assert {file["kind"] for file in manifest["files"]} == {"config", "train_log", "tensorboard"}
    workstation.audit()
