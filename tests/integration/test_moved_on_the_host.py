"""Files that get another name or place on their host, one by one or with their directory: not downloaded again."""

import gzip
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec, tfrecord
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, base_evals, evals_of_run
from support.house import Workstation
from support.large_checkpoints import MIB, RUN, staging_is_empty
from support.relay import Relay, relayed
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

SIZE = 12 * MIB


@pytest.fixture
async def relay(workstation: Workstation) -> AsyncIterator[Relay]:
    """Provide the relay before a box, which counts the bytes that come from there."""
    box = workstation.add_box()
    async with relayed(box.port) as made:
        workstation.reach("gpu-a", made.port)
        yield made


def started(workstation: Workstation) -> RunWriter:
    """Return the writer of a run that has begun on the box."""
    writer = RunWriter(workstation.boxes["gpu-a"].root, RUN)
    writer.start()
    writer.log_until(2)
    return writer


def large(path: Path, size: int = SIZE) -> bytes:
    """Write a file that no compressor makes smaller; return its content."""
    content = os.urandom(size)
    path.write_bytes(content)
    return content


def final(workstation: Workstation, name: str) -> Path:
    """Return the place at home of a file of the final checkpoint; its experiment has another name by then."""
    (found,) = workstation.data.glob(f"*/training_run/training_state/step_final/{name}")
    return found


async def test_a_renamed_checkpoint_is_not_downloaded_again(workstation: Workstation, relay: Relay) -> None:
    """step_2 becomes step_final: its large files are made from those at home, once the host's hash says the same."""
    writer = started(workstation)
    state = writer.directory / "training_state"
    content = large(writer.begin_checkpoint(2) / "optimizer.pt")
    writer.seal_checkpoint(2)
    select = {"checkpoint": "final+latest"}
    await workstation.once(select=select)
    assert workstation.stands(RUN.name, "training_state", "step_2", "training_info.json")()
    received = relay.received
    (state / "step_latest").unlink()
    (state / "step_2").rename(state / "step_final")
    await workstation.once(select=select)
    assert final(workstation, "optimizer.pt").read_bytes() == content
    assert relay.received - received < SIZE / 8
    assert staging_is_empty(workstation)
    workstation.audit()


async def test_a_file_with_two_names_comes_once(workstation: Workstation, relay: Relay) -> None:
    """A hard link shows the same inode: both names are at home, each as a file of its own."""
    writer = started(workstation)
    content = large(writer.begin_checkpoint(2) / "optimizer.pt")
    writer.seal_checkpoint(2)
    await workstation.once(select={"checkpoint": "all"})
    received = relay.received
    directory = writer.begin_checkpoint("final")
    (directory / "optimizer.pt").unlink()
    (directory / "optimizer.pt").hardlink_to(directory.with_name("step_2") / "optimizer.pt")
    writer.seal_checkpoint("final")
    await workstation.once(select={"checkpoint": "all"})
    assert relay.received - received < SIZE / 8
    copies = [path for path in workstation.data.rglob("optimizer.pt") if ".harvestd" not in path.parts]
    assert [copy.read_bytes() for copy in copies] == [content, content]
    assert copies[0].stat().st_ino != copies[1].stat().st_ino
    workstation.audit()


async def test_shards_of_one_size_and_time_are_told_apart(workstation: Workstation, relay: Relay) -> None:
    """Files that were unpacked have whole seconds: the host's hash says which of those at home each is."""
    writer = started(workstation)
    directory = writer.begin_checkpoint(2)
    contents = {name: large(directory / name) for name in ("optimizer.pt", "a.bin", "b.bin")}
    for name in contents:
        os.utime(directory / name, (1_700_000_000, 1_700_000_000))
    writer.seal_checkpoint(2)
    select = {"checkpoint": "final+latest"}
    await workstation.once(select=select)
    received = relay.received
    moved = directory.rename(directory.with_name("step_final"))
    (moved / "a.bin").rename(moved / "c.bin")
    await workstation.once(select=select)
    assert final(workstation, "optimizer.pt").read_bytes() == contents["optimizer.pt"]
    assert final(workstation, "c.bin").read_bytes() == contents["a.bin"]
    assert final(workstation, "b.bin").read_bytes() == contents["b.bin"]
    assert relay.received - received < SIZE / 8
    workstation.audit()


@pytest.mark.parametrize("where", ["on the host", "at home", "gone at home"])
async def test_other_content_is_downloaded(workstation: Workstation, relay: Relay, where: str) -> None:
    """Neither size, time and inode nor a damaged copy at home stands for the content."""
    writer = started(workstation)
    directory = writer.begin_checkpoint(2)
    content = large(directory / "optimizer.pt")
    writer.seal_checkpoint(2)
    await workstation.once(select={"checkpoint": "all"})
    moved = directory.rename(directory.with_name("step_final")) / "optimizer.pt"
    home = workstation.training(RUN.name) / "training_state" / "step_2" / "optimizer.pt"
    if where == "on the host":
        times = (moved.stat().st_atime_ns, moved.stat().st_mtime_ns)
        with moved.open("r+b") as file:
            file.write(bytes(16))
        content = bytes(16) + content[16:]
        os.utime(moved, ns=times)
    elif where == "at home":
        with home.open("r+b") as file:
            file.write(bytes(16))
    else:
        home.unlink()
    received = relay.received
    await workstation.once(select={"checkpoint": "all"})
    assert final(workstation, "optimizer.pt").read_bytes() == content
    assert relay.received - received > SIZE
    assert staging_is_empty(workstation)


async def test_a_daemon_says_that_it_copied(workstation: Workstation) -> None:
    """The event names both places, so that nobody looks for bytes that never came."""
    workstation.add_box()
    writer = started(workstation)
    directory = writer.begin_checkpoint(2)
    large(directory / "optimizer.pt")
    writer.seal_checkpoint(2)
    await workstation.once(select={"checkpoint": "all"})
    directory.rename(directory.with_name("step_final"))
    async with workstation.running(select={"checkpoint": "all"}) as event_log:
        await until(lambda: events(event_log, "checkpoint.completed"))
    (copied,) = events(event_log, "file.copied")
    assert (copied["bytes"], copied["host"]) == (SIZE, "gpu-a")
    assert str(copied["path"]).endswith("step_final/optimizer.pt")
    assert str(copied["old"]).endswith("step_2/optimizer.pt")


def evaluated(workstation: Workstation) -> Path:
    """Write two evals of the run, one with large records; return their directory on the host."""
    evals = evals_of_run(workstation.boxes["gpu-a"].root, EvalSpec(RUN, questions=5))
    evals.write_config()
    for step in (2, 4):
        evals.evaluate(step)
    records = evals.begin(4) / "records.jsonl.gz"
    records.write_bytes(gzip.compress(os.urandom(SIZE), 0))
    evals.seal(4)
    return evals.directory


def results(workstation: Workstation) -> dict[str, bytes]:
    """Return what stands at home of evals, by the path below eval_results."""
    (above,) = workstation.data.glob("*/eval_results")
    return {str(path.relative_to(above)): path.read_bytes() for path in above.rglob("*") if path.is_file()}


def shown(directory: Path) -> dict[str, bytes]:
    """Return what a host shows of an eval, as it is to stand at home."""
    return {
        str(each.relative_to(directory.parent)): each.read_bytes() for each in directory.rglob("*") if each.is_file()
    }


def rename_all(directory: Path) -> Path:
    """Rename an eval directory."""
    return directory.rename(directory.with_name(f"{RUN.name}_second"))


def rename_leaf(directory: Path) -> Path:
    """Rename the directory of one step in it, that of the large records."""
    (step,) = directory.glob("*_finetuned/step_4_*")
    step.rename(step.with_name(step.name.replace("step_4", "step_8")))
    return directory


def copy_all(directory: Path) -> Path:
    """Move it as from one disk to another: times are kept, inodes are not."""
    new = directory.with_name(f"{RUN.name}_second")
    shutil.copytree(directory, new)
    shutil.rmtree(directory)
    return new


@pytest.mark.parametrize("rename", [rename_all, rename_leaf, copy_all])
async def test_a_renamed_eval_moves_at_home(
    workstation: Workstation, relay: Relay, rename: Callable[[Path], Path]
) -> None:
    """It stands there once, under the name that it has on its host, and README counts it once; no byte comes again."""
    started(workstation)
    directory = evaluated(workstation)
    await workstation.once(select={"records": True})
    assert results(workstation) == shown(directory)
    (readme,) = workstation.data.glob("*/README.md")
    rows = readme.read_text().count("gsm8k_r1_template")
    received = relay.received
    new = rename(directory)
    (result,) = (await workstation.once(select={"records": True})).values()
    assert (result.files, result.bytes) == (0, 0)
    assert results(workstation) == shown(new)
    assert relay.received - received < SIZE / 8
    assert readme.read_text().count("gsm8k_r1_template") == rows
    assert not (readme.parent / "eval_results" / directory.name).exists() or new == directory
    await workstation.once(select={"records": True})
    assert not workstation.catalogue("SELECT place FROM files WHERE ctime_ns = 0")
    workstation.audit()


async def test_an_eval_moves_to_another_root(workstation: Workstation, relay: Relay, tmp_path: Path) -> None:
    """From one root of a host to another it has the same place at home, and nothing happens there."""
    started(workstation)
    directory = evaluated(workstation)
    second = tmp_path / "second"
    (second / "eval_runs").mkdir(parents=True)
    workstation.keys["gpu-a"] = {"roots": [str(workstation.boxes["gpu-a"].root), str(second)]}
    await workstation.once(select={"records": True})
    filed, received = workstation.filed(), relay.received
    new = directory.rename(second / "eval_runs" / directory.name)
    (result,) = (await workstation.once(select={"records": True})).values()
    assert (result.files, result.bytes) == (0, 0)
    assert workstation.filed() == filed
    assert relay.received - received < SIZE / 8
    places = [
        str(place) for (place,) in workstation.catalogue("SELECT place FROM files WHERE target LIKE '%eval_res%'")
    ]
    assert places
    assert all(place.startswith(f"{new}/") for place in places)
    workstation.audit()


async def test_a_daemon_follows_a_renamed_eval(workstation: Workstation, relay: Relay) -> None:
    """While it runs, and where the new name is that of another run: the eval is filed with that one."""
    started(workstation)
    directory = evaluated(workstation)
    (directory / "eval_config.yaml").unlink()
    other = RunWriter(workstation.boxes["gpu-a"].root, RunSpec(timestamp="2025-08-23_01-02-03"))
    other.start()
    async with workstation.running(select={"records": True}) as event_log:
        await until(lambda: len(events(event_log, "eval.completed")) >= 2)
        await until(lambda: len(list(workstation.data.glob("*/eval_results/**/records.jsonl.gz"))) == 2)
        await until(workstation.stands(other.run.name, "config.yaml"))
        received = relay.received
        new = directory.rename(directory.with_name(other.run.name))
        await until(lambda: events(event_log, "eval.renamed", path=str(new), old=str(directory)))
        await until(lambda: results_of(workstation, other.run.name) == shown(new))
        await until(lambda: not workstation.catalogue("SELECT place FROM files WHERE ctime_ns = 0"))
        assert not events(event_log, "file.conflict")
        assert relay.received - received < SIZE / 8
    assert not list(workstation.data.glob(f"*/eval_results/{directory.name}"))
    workstation.audit()


def results_of(workstation: Workstation, run: str) -> dict[str, bytes]:
    """Return what stands at home of the evals of one run."""
    above = workstation.training(run).with_name("eval_results")
    return {str(path.relative_to(above)): path.read_bytes() for path in above.rglob("*") if path.is_file()}


async def test_a_copied_eval_is_one_of_its_own(workstation: Workstation) -> None:
    """As long as the first is there nothing was renamed: both are at home."""
    workstation.add_box()
    started(workstation)
    directory = evaluated(workstation)
    await workstation.once()
    before = results(workstation)
    shutil.copytree(directory, directory.with_name(f"{RUN.name}_second"))
    await workstation.once()
    assert len(results(workstation)) == 2 * len(before)
    assert before.items() <= results(workstation).items()
    workstation.audit()


async def test_another_eval_takes_no_renamed_ones_place(workstation: Workstation) -> None:
    """A new eval that has only the size and the time of one that was deleted: what came of that stays at home."""
    workstation.add_box()
    started(workstation)
    directory = evaluated(workstation)
    await workstation.once()
    before = results(workstation)
    new = directory.rename(directory.with_name(f"{RUN.name}_second"))
    for metrics in new.rglob("metrics.csv"):
        times = (metrics.stat().st_atime_ns, metrics.stat().st_mtime_ns)
        metrics.write_bytes(metrics.read_bytes().replace(b"0", b"1"))
        os.utime(metrics, ns=times)
    await workstation.once()
    assert before.items() <= results(workstation).items()
    changed = {path: content for path, content in shown(new).items() if path.endswith("metrics.csv")}
    assert changed.items() <= results(workstation).items()
    workstation.audit()


async def test_a_moved_tensorboard_file_goes_on_at_its_new_place(workstation: Workstation, relay: Relay) -> None:
    """Its writer has it open and appends to it, wherever it is: so it grows at home, and begins nowhere anew."""
    writer = started(workstation)
    with writer.events.open("ab") as file:
        for _ in range(SIZE // MIB):
            file.write(tfrecord(os.urandom(MIB)))
        async with workstation.running() as event_log:
            await until(workstation.has(writer.events, RUN.name, "tensorboard", writer.events.name))
            received = relay.received
            moved = writer.events.parent / "main" / writer.events.name
            moved.parent.mkdir()
            writer.events.rename(moved)
            file.write(tfrecord(os.urandom(100)))
            file.flush()
            await until(workstation.has(moved, RUN.name, "tensorboard", "main", moved.name))
            await until(lambda: not workstation.catalogue("SELECT place FROM files WHERE ctime_ns = 0"))
            assert not events(event_log, "file.conflict")
            assert relay.received - received < SIZE / 8
    assert not (workstation.training(RUN.name) / "tensorboard" / moved.name).exists()
    workstation.audit()


async def test_events_of_one_name_in_two_places_stay_apart(workstation: Workstation) -> None:
    """A directory that was deleted and another one that is new: what came from the first stays at home."""
    workstation.add_box()
    writer = started(workstation)
    old = writer.events.parent / "a" / writer.events.name
    old.parent.mkdir()
    shutil.copy2(writer.events, old)
    await workstation.once()
    content = old.read_bytes()
    new = writer.events.parent / "b" / writer.events.name
    new.parent.mkdir()
    new.write_bytes(content + tfrecord(os.urandom(100)))
    old.unlink()
    await workstation.once()
    home = workstation.training(RUN.name) / "tensorboard"
    assert (home / "a" / old.name).read_bytes() == content
    assert (home / "b" / new.name).read_bytes() == new.read_bytes()
    workstation.audit()


async def test_a_renamed_base_eval_stays_where_it_is(workstation: Workstation, relay: Relay) -> None:
    """Its place at home holds neither the directory's name nor the step's: nothing comes, and nothing moves."""
    started(workstation)
    evals = base_evals(workstation.boxes["gpu-a"].root, EvalSpec(RUN, questions=5))
    evals.evaluate("base")
    records = evals.begin("base") / "records.jsonl.gz"
    records.write_bytes(gzip.compress(os.urandom(SIZE), 0))
    evals.seal("base")
    await workstation.once(select={"records": True})
    filed, received = workstation.filed(), relay.received
    assert any("base_eval" in path for path in filed)
    (step,) = evals.directory.glob("*_finetuned/step_base_*")
    new = step.rename(step.with_name(step.name.replace("step_base", "step_base_full")))
    (result,) = (await workstation.once(select={"records": True})).values()
    assert (result.files, result.bytes) == (0, 0)
    assert workstation.filed() == filed
    assert relay.received - received < SIZE / 8
    places = [place for (place,) in workstation.catalogue("SELECT place FROM files WHERE target LIKE '%base_eval%'")]
    assert all(str(place).startswith(f"{new}/") for place in places)
    workstation.audit()


async def test_an_eval_waits_for_the_other_host_of_its_file_system(workstation: Workstation) -> None:
    """What another host still shows by the old name may be a copy: its next scan is waited for, or its end."""
    root = workstation.data.with_name("shared")
    root.mkdir()
    first, second = (workstation.add_box(name, root=root) for name in ("gpu-a", "gpu-b"))
    started(workstation)
    directory = evaluated(workstation)
    async with relayed(second.port) as relay:
        ports = {"gpu-a": first.port, "gpu-b": relay.port}
        labels = [{"name": name, "storage": "fs", "hardware": "h100"} for name in ports]
        groups = [{"targets": [f"127.0.0.1:{ports[each['name']]}"], "labels": each} for each in labels]
        workstation.config.with_name("targets.json").write_text(json.dumps(groups))
        workstation.boxes.clear()
        sections: dict[str, dict[str, object]] = {
            "ssh": {"user": first.server.user, "identity_files": [str(first.server.client_key)], "keepalive": "1s"},
            "remote": {"roots": [str(root)]},
            "targets": {"files": ["targets.json"]},
        }
        async with workstation.running(**sections) as event_log:
            await until(lambda: len(events(event_log, "host.connected")) == 2)
            await until(lambda: len(events(event_log, "eval.completed")) >= 2)
            count = len(list(workstation.data.glob("*/eval_results/**/metrics.csv")))
            both = directory.rename(directory.with_name(f"{RUN.name}_both"))
            await until(lambda: events(event_log, "eval.renamed", path=str(both)))
            # The records are left out: both hosts have shown them by the new name.
            shown_by = f"SELECT DISTINCT host FROM left_out WHERE place LIKE '{both}/%'"  # noqa: S608  (a path of ours)
            await until(lambda: len(workstation.catalogue(shown_by)) == 2)
            relay.silence()
            alone = both.rename(both.with_name(f"{RUN.name}_alone"))
            await until(lambda: events(event_log, "eval.renamed", path=str(alone)), 60)
            reported = [(str(each["event"]), each.get("path") or each.get("host")) for each in event_log]
            assert reported.index(("host.lost", "gpu-b")) < reported.index(("eval.renamed", str(alone)))
            await until(lambda: not workstation.catalogue("SELECT place FROM files WHERE ctime_ns = 0"))
    assert len(list(workstation.data.glob(f"*/eval_results/{alone.name}/**/metrics.csv"))) == count
    assert len(list(workstation.data.glob("*/eval_results/**/metrics.csv"))) == count
    workstation.audit()
