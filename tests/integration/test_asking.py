"""`harvestd fetch` and `harvestd ignore` on a real box, beside a running daemon and without one."""

from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode
from harvestd.store.lock import DataRootLock, HolderKind
from harvestd.store.root import DataRoot
from support.changing import RUN, at_home, write_eval, write_run
from support.command import Ended, harvestd_command
from support.house import Workstation, until
from support.large_checkpoints import is_absent, is_home, journalled, write_large_checkpoint
from support.waiting import events, holds
from support.wanted import temporaries_left

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def asking(workstation: Workstation, *arguments: str) -> Ended:
    """Run a command with the workstation's configuration, beside a daemon in this process."""
    return await anyio.to_thread.run_sync(lambda: harvestd_command("-c", workstation.config, *arguments))


def records_of(workstation: Workstation, step: int = 2) -> Path:
    """Write an eval with its records; gives these on the box."""
    return write_eval(workstation.boxes["gpu-a"].root, step).leaf(step) / "records.jsonl.gz"


@pytest.fixture
def writer(workstation: Workstation) -> RunWriter:
    """Return the writer of a run with two checkpoints beside the final one, and an eval with records."""
    writer = write_run(workstation.add_box().root)
    writer.checkpoint(2)
    writer.checkpoint(3)
    records_of(workstation)
    return writer


async def test_fetch_without_a_daemon_brings_it_itself(workstation: Workstation, writer: RunWriter) -> None:
    """The command makes the pass: records stand beside their metrics, the checkpoint is whole, and both say why."""
    await workstation.once()
    records = writer.directory.parents[1] / "eval_runs"
    (records,) = records.rglob("records.jsonl.gz")
    offered = (await asking(workstation, "fetch", RUN.name, "--json")).document
    assert {each["what"]: (each["files"], each["hosts"]) for each in offered["offers"]} == {
        "records": (1, ["gpu-a"]),
        "step_2": (6, ["gpu-a"]),
        "step_3": (6, ["gpu-a"]),
    }
    done = await asking(workstation, "fetch", RUN.name, "--records", "--checkpoint", "2", "--json")
    assert (done.code, done.err) == (ExitCode.OK, "")
    assert [(each["what"], each["state"]) for each in done.document["requests"]] == [
        ("records", "settled"),
        ("step_2", "settled"),
    ]
    assert at_home(workstation, records).read_bytes() == records.read_bytes()
    marker = writer.directory / "training_state" / "step_2" / "training_info.json"
    assert at_home(workstation, marker).read_bytes() == marker.read_bytes()
    assert not workstation.stands(RUN.name, "training_state", "step_3")()
    shown = (await asking(workstation, "show", RUN.name, "--json")).document
    reasons = {each["reason"][:19] for each in shown["files"] if each["kind"] in {"records", "checkpoint"}}
    assert reasons == {"asked for by hand o"}
    assert not [each for each in shown["left_out"] if "step_2" in each["from"] or "records" in each["from"]]
    explained = await asking(workstation, "explain", f"gpu-a:{records}")
    assert "because    asked for by hand on " in explained.out
    manifest = (at_home(workstation, writer.directory).parent / "manifest.json").read_text()
    assert "asked for by hand on " in manifest
    workstation.audit()


@pytest.mark.parametrize("kind", HolderKind)
async def test_no_daemon_is_claimed_where_a_command_works(
    workstation: Workstation, writer: RunWriter, kind: HolderKind
) -> None:
    """A command that holds the data root may not take it any more: it stays asked for, and that is said."""
    assert writer.directory.is_dir()
    await workstation.once()
    with DataRoot.open(workstation.data) as root, DataRootLock.take(root, kind):
        done = await asking(workstation, "fetch", RUN.name, "--records")
        document = (await asking(workstation, "fetch", RUN.name, "--json")).document
    assert done.code == ExitCode.OK, done.err
    is_daemon = kind is not HolderKind.COMMAND
    assert document["daemon"]["running"] is is_daemon
    assert ("the next daemon or pass" in done.out) is not is_daemon
    assert [each["state"] for each in document["requests"]] == ["not_taken_yet"]


async def test_a_running_daemon_fetches_it_at_once(workstation: Workstation, writer: RunWriter) -> None:
    """The command only writes it down; with --wait it returns when all is here. Later records come by themselves."""
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        (records,) = (writer.directory.parents[1] / "eval_runs").rglob("records.jsonl.gz")
        await until((at_home(workstation, records).with_name("metrics.csv")).exists)
        assert not at_home(workstation, records).exists()
        done = await asking(workstation, "fetch", RUN.name, "--records")
        assert (done.code, done.err) == (ExitCode.OK, "")
        assert "The daemon, process " in done.out
        await until(holds(at_home(workstation, records), records.read_bytes()))
        waited = await asking(workstation, "fetch", RUN.name, "--checkpoint", "step_3", "--wait", "--json")
        assert waited.code == ExitCode.OK, waited.err
        assert [each["state"] for each in waited.document["requests"]] == ["settled"]
        assert workstation.stands(RUN.name, "training_state", "step_3", "training_info.json")()
        await until(lambda: len(events(event_log, "request.settled")) == 2)
        assert [each["what"] for each in events(event_log, "request.taken")] == ["records", "step_3"]
        later = records_of(workstation, 3)
        await until(holds(at_home(workstation, later), later.read_bytes()))
    workstation.audit()


async def test_what_was_asked_survives_a_restart(workstation: Workstation, writer: RunWriter) -> None:
    """A checkpoint that is not whole yet stays asked for, through a restart, until it is."""
    writer.begin_checkpoint(4)
    async with workstation.running():
        await until(workstation.follows(writer))
        waited = await asking(workstation, "fetch", RUN.name, "--checkpoint", "4", "--wait", "--timeout", "1500ms")
        assert waited.code == ExitCode.PARTIAL
        assert "outstanding" in waited.out
        explained = await asking(workstation, "explain", f"{writer.directory}/training_state/step_4/optimizer.pt")
        assert "asked for by hand on " in explained.out
        assert "not here yet" in explained.out
        status = (await asking(workstation, "status", "--json")).document
        assert status["requests_outstanding"] == 1
    writer.seal_checkpoint(4)
    async with workstation.running() as event_log:
        await until(workstation.stands(RUN.name, "training_state", "step_4", "training_info.json"))
        await until(lambda: events(event_log, "request.settled", what="step_4"))
        assert (await asking(workstation, "status", "--json")).document["requests_outstanding"] == 0
    workstation.audit()


async def test_ignored_run_is_left_alone_until_that_is_taken_back(workstation: Workstation, writer: RunWriter) -> None:
    """Nothing more of it comes, what is here stays, its manifest says who said so; --undo brings what was missed."""
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        before = at_home(workstation, writer.train_log).read_bytes()
        done = await asking(workstation, "ignore", RUN.name)
        assert (done.code, done.err) == (ExitCode.OK, "")
        await until(lambda: events(event_log, "request.settled", what="ignore"))
        writer.log_until(6)
        ignored = "SELECT count(*) FROM left_out WHERE reason LIKE 'asked: ignored by hand on %'"
        await until(lambda: workstation.catalogue(ignored) == [(2,)])
        polled = len(event_log)
        await until(lambda: sum(each["event"] == "host.polled" for each in event_log[polled:]) >= 3)
        assert at_home(workstation, writer.train_log).read_bytes() == before
        refused = await asking(workstation, "fetch", RUN.name, "--records")
        assert (refused.code, refused.out) == (ExitCode.CONFIGURATION, "")
        assert "--undo" in refused.err
        assert (await asking(workstation, "ignore", RUN.name)).out == f"{RUN.name} is ignored already\n"
        assert (await asking(workstation, "ignore", RUN.name, "--undo")).code == ExitCode.OK
        await until(workstation.follows(writer))
    assert workstation.catalogue(ignored) == [(0,)]
    workstation.audit()


async def test_ignoring_stops_what_is_on_its_way(workstation: Workstation) -> None:
    """A checkpoint that is half here is given up, and nothing of it stays in staging; undone, it comes whole."""
    writer = write_large_checkpoint(workstation.add_box().root)
    slow = {"bandwidth": "2MiB/s"}
    async with workstation.running(limits=slow) as event_log:
        await until(lambda: journalled(workstation) > 0)
        assert (await asking(workstation, "ignore", RUN.name)).code == ExitCode.OK
        await until(lambda: events(event_log, "request.settled", what="ignore"))
        await until(lambda: not temporaries_left(workstation))
        assert is_absent(workstation)
    workstation.audit()
    assert (await asking(workstation, "ignore", RUN.name, "--undo")).code == ExitCode.OK
    await workstation.once(limits={"bandwidth": "unlimited"})
    assert is_home(workstation, writer)()


async def test_what_nobody_knows_is_refused(workstation: Workstation, writer: RunWriter) -> None:
    """An unknown run, a beginning that two have, a checkpoint that no box shows: each ends with 4, and says more."""
    other = RunWriter(writer.directory.parents[1], RunSpec(timestamp="2025-08-21_03-31-43"))
    other.start()
    other.log_until(1)
    await workstation.once()
    unknown = await asking(workstation, "fetch", "run_2024", "--records")
    assert (unknown.code, unknown.out) == (ExitCode.UNKNOWN_NAME, "")
    ambiguous = await asking(workstation, "ignore", "run_2025-08-2")
    assert ambiguous.code == ExitCode.UNKNOWN_NAME
    assert {RUN.name, other.run.name} <= set(ambiguous.err.split())
    for step in ("40", "step_base", "../.."):
        refused = await asking(workstation, "fetch", "run_2025-08-20", "--checkpoint", step)
        assert refused.code == ExitCode.UNKNOWN_NAME
        assert "hint: left out there: step_2, step_3" in refused.err
    assert workstation.catalogue("SELECT * FROM requests") == []
    page = (await asking(workstation, "fetch", "run_2025-08-20")).out
    assert "--checkpoint step_3" in page


async def test_a_box_that_is_gone_keeps_it_asked_for(workstation: Workstation, writer: RunWriter) -> None:
    """What was asked for of a box that does not answer is not forgotten: it comes once the box is back."""
    await workstation.once()
    workstation.boxes["gpu-a"].server.stop()
    done = await asking(workstation, "fetch", RUN.name, "--checkpoint", "2", "--json")
    assert done.code == ExitCode.NO_HOST
    assert [each["state"] for each in done.document["requests"]] == ["outstanding"]
    workstation.boxes["gpu-a"].server.start()
    await workstation.once()
    assert workstation.stands(RUN.name, "training_state", "step_2", "training_info.json")()
    assert writer.directory.exists()
    shown = (await asking(workstation, "show", RUN.name, "--json")).document
    assert [each["state"] for each in shown["requests"]] == ["settled"]


async def test_a_lost_catalogue_does_not_lose_what_was_asked(workstation: Workstation, writer: RunWriter) -> None:
    """What came by hand is kept level, and who is ignored stays so, by what the manifests say of both."""
    other = RunWriter(writer.directory.parents[1], RunSpec(timestamp="2025-08-21_03-31-43"))
    other.start()
    other.log_until(1)
    await workstation.once()
    assert (await asking(workstation, "fetch", RUN.name, "--records", "--checkpoint", "2")).code == ExitCode.OK
    assert (await asking(workstation, "ignore", other.run.name)).code == ExitCode.OK
    await workstation.once()
    for part in workstation.state.glob("catalogue.sqlite*"):
        part.unlink()
    later = records_of(workstation, 3)
    other.log_until(2)
    await workstation.once()
    assert holds(at_home(workstation, later), later.read_bytes())()
    assert not workstation.has(other.train_log, other.run.name, "logs", "train_log.jsonl")()
    asked = workstation.catalogue("SELECT kind, detail FROM requests ORDER BY detail")
    assert asked == [("fetch", '{"thing": "records"}'), ("fetch", '{"thing": "step_2"}'), ("ignore", "{}")]
    workstation.audit()
