"""A person changes what was filed: noticed by `verify`, never overwritten, put right only where that is asked for."""

import json
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import Connection

from harvestd import failpoints
from harvestd.catalogue import queries
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import EvalWriter, RunWriter, evals_of_run, write_convention_example
from harvestd.errors import ExitCode
from harvestd.harvest import verification
from harvestd.harvest.audit import Finding, FindingKind
from harvestd.planning.records import FileRecord
from harvestd.settings import load
from support.command import Ended, harvestd_command, on_terminal
from support.faults import fired
from support.house import Workstation
from support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=8)


async def filed(workstation: Workstation) -> Path:
    """Bring the convention's example home; gives the experiment's directory."""
    write_convention_example(workstation.add_box().root)
    await workstation.once()
    (experiment,) = [path for path in workstation.data.iterdir() if path.is_dir() and path.name != ".harvestd"]
    return experiment


def verify(workstation: Workstation, *arguments: str) -> Ended:
    """Run `harvestd verify`."""
    return harvestd_command("-c", workstation.config, "verify", *arguments)


def found(done: Ended) -> dict[str, str]:
    """Return what was found, by the last part of its path."""
    return {finding["path"].rpartition("/")[2]: finding["kind"] for finding in done.document["findings"]}


async def test_all_is_well(workstation: Workstation) -> None:
    """Nothing was changed: 0, and how much was read; a person's own notes are told and are no damage."""
    experiment = await filed(workstation)
    (experiment / "notes.txt").write_text("promising")
    done = verify(workstation, "--json")
    assert done.code == ExitCode.OK
    assert found(done) == {"notes.txt": "foreign"}
    sizes = [len(content) for path, content in workstation.filed().items() if isinstance(content, bytes)]
    assert done.document["bytes"] == sum(sizes) - len("promising")
    assert "all as it was filed" in verify(workstation).out
    workstation.audit()


def flip(path: Path) -> None:
    """Change one bit of a file, and not its size or its time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def shorten(path: Path) -> None:
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def link(path: Path) -> None:
    """Put a link in a file's place."""
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("change", "kind"), [(flip, "changed"), (shorten, "changed"), (Path.unlink, "missing"), (link, "in the way")]
)
async def test_change_is_noticed_and_left_alone(
    workstation: Workstation, change: Callable[[Path], None], kind: str
) -> None:
    """Another pass leaves alone what a person changed or deleted; `verify` ends with 4 and names it."""
    experiment = await filed(workstation)
    config = experiment / "training_run" / "config.yaml"
    change(config)
    fired(28)
    changed = config.read_bytes() if config.exists() else None
    await workstation.once()
    assert (config.read_bytes() if config.exists() else None) == changed
    done = verify(workstation, "--json")
    assert done.code == ExitCode.UNKNOWN_NAME
    assert found(done) == {"config.yaml": kind}
    assert "config.yaml" in verify(workstation, experiment.name).out


async def test_repair_fetches_anew_and_deletes_nothing(workstation: Workstation) -> None:
    """--repair puts what was changed among the versions and forgets what is gone; the next pass brings both home."""
    experiment = await filed(workstation)
    before = workstation.filed()
    run = experiment / "training_run"
    flip(run / "config.yaml")
    edited = (run / "config.yaml").read_bytes()
    (run / "training_state" / "step_final" / "training_info.json").unlink()
    (run / "training_state" / "step_latest").unlink()
    (workstation.data / ".harvestd" / "staging" / "transfer-stray").write_bytes(b"x")
    fired(28)
    done = verify(workstation, "--repair", "--json")
    assert (done.code, done.document["damaged"], done.document["repaired"]) == (ExitCode.OK, 4, 4)
    kept = workstation.data / ".harvestd" / "versions" / experiment.name / "training_run" / "config.yaml"
    assert [version.read_bytes() for version in kept.iterdir()] == [edited]
    await workstation.once()
    assert workstation.filed() == before
    assert verify(workstation).code == ExitCode.OK
    workstation.audit()


async def test_damaged_manifest_is_written_anew(workstation: Workstation) -> None:
    """A manifest that a person broke is damage, and --repair writes it from the catalogue."""
    experiment = await filed(workstation)
    manifest = experiment / "manifest.json"
    whole = json.loads(manifest.read_text())
    manifest.write_text("{")
    assert found(verify(workstation, "--json")) == {"manifest.json": "manifest"}
    assert verify(workstation, "--repair").code == ExitCode.OK
    assert json.loads(manifest.read_text())["files"] == whole["files"]
    workstation.audit()


async def test_no_repair_beside_a_daemon(workstation: Workstation) -> None:
    """Looking is allowed beside a running daemon; repairing is not, and ends with 7."""
    await filed(workstation)
    async with workstation.running():
        assert verify(workstation).code == ExitCode.OK
        assert verify(workstation, "--repair").code == ExitCode.LOCKED


async def test_hostile_names_are_shown_escaped(workstation: Workstation) -> None:
    """A file's name that plays with the terminal is told in a form that does not."""
    experiment = await filed(workstation)
    (experiment / "notes\x1b[2J\n").write_text("x")
    shown = on_terminal(["-c", workstation.config, "verify"])
    assert "\x1b[2J" not in shown
    assert "notes" in shown


def verifying_beside(workstation: Workstation, checked: Callable[[FileRecord], None]) -> list[Finding]:
    """Audit everything, in a thread beside a daemon of this process."""
    settings = load(workstation.config, env={})
    with queries.questions(settings.state) as connection:
        subject = verification.everything(connection)
        return list(verification.findings(settings, connection, subject, checked))


class Held:
    """A moment at which a thread waits until the test goes on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, *_: object) -> None:
        """Wait, the first time."""
        if not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(60)


def evaluated(workstation: Workstation, questions: int) -> EvalWriter:
    """Write, or write anew, an eval on the box."""
    evals = evals_of_run(workstation.boxes["gpu-a"].root, EvalSpec(RUN, questions=questions))
    evals.write_config()
    evals.evaluate(2)
    return evals


def here(workstation: Workstation, evals: EvalWriter, step: int) -> Callable[[], bool]:
    """Return the condition that an eval's metrics are here as they are on the box."""
    remote = (evals.leaf(step) / "metrics.csv").read_bytes()
    return lambda: remote in workstation.filed().values()


async def begun(workstation: Workstation) -> None:
    """Bring a run and an eval home."""
    RunWriter(workstation.add_box().root, RUN).start()
    evaluated(workstation, 5)
    await workstation.once()


async def audited_beside(
    workstation: Workstation, checked: Callable[[FileRecord], None], meanwhile: Callable[[], Awaitable[None]]
) -> list[Finding]:
    """Audit in a thread while something happens; return what is damaged, or taken for somebody else's."""
    found: list[Finding] = []

    async def audit() -> None:
        found.extend(await anyio.to_thread.run_sync(verifying_beside, workstation, checked))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(audit)
        await meanwhile()
    return [finding for finding in found if finding.is_damage or finding.kind is FindingKind.FOREIGN]


async def test_what_a_daemon_writes_meanwhile_is_no_damage(workstation: Workstation) -> None:
    """Files that are replaced and new ones that come while others are hashed are all right; the log can be cut."""
    await begun(workstation)
    async with workstation.running():
        held = Held()

        async def meanwhile() -> None:
            await until(held.reached.is_set)
            try:
                evals = evaluated(workstation, 7)
                evals.evaluate(4)
                await until(here(workstation, evals, 2))
                await until(here(workstation, evals, 4))
                with closing(sqlite3.connect(workstation.state / "catalogue.sqlite")) as database:
                    await until(lambda: database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
                fired(28)
            finally:
                held.go_on.set()

        assert await audited_beside(workstation, held, meanwhile) == []
    workstation.audit()


async def test_what_is_at_its_place_and_not_on_record_yet_is_no_damage(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a file's rename and its record the disk is ahead: the audit waits for the record."""
    await begun(workstation)
    held, waited = Held(), threading.Event()
    is_under_way = queries.is_under_way

    def noted(connection: Connection, file: FileRecord) -> bool:
        answer = is_under_way(connection, file)
        if answer:
            waited.set()
        return answer

    monkeypatch.setattr(queries, "is_under_way", noted)
    async with workstation.running():
        with failpoints.armed("publish.renamed_all", held):
            evals = evaluated(workstation, 7)
            await until(held.reached.is_set)

            async def meanwhile() -> None:
                try:
                    await until(waited.is_set)
                finally:
                    held.go_on.set()

            assert await audited_beside(workstation, lambda _: None, meanwhile) == []
            fired(28)
        await until(here(workstation, evals, 2))
    workstation.audit()
