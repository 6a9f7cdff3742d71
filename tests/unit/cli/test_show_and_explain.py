"""Finding and explaining from a catalogue: names, files, what was left out, and what nobody knows."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection

from harvestd.catalogue import queries
from harvestd.catalogue.open import open_catalogue
from harvestd.cli import explain_details, show_details
from harvestd.cli.explain_details import LocalPlace, RemotePlace
from harvestd.cli.output import hosts_runs
from harvestd.cli.output.page import Styled
from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.scan.snapshot import Version
from harvestd.documents import stored
from harvestd.documents.stored import RunStatuses
from harvestd.errors import ExitCode, Fatal
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
from harvestd.settings import HostSettings, Settings

ODD = "caf\udce9"
"""A name whose bytes are Latin-1."""
VERSION = Version(10, 1_755_660_703_000_000_000)


def experiment(name: str, identifier: str) -> ExperimentRecord:
    """Return an experiment called `name`."""
    parts = ExperimentName(Part(name, "test"), Part("d", "t"), Part("m", "t"), Part("h", "t"), Part("8", "t"))
    return ExperimentRecord(identifier, parts)


ONE, TWO = experiment("one", "aaaaaaaa1"), experiment("two", "bbbbbbbb2")


def run(identifier: str, host: str, name: str, of: ExperimentRecord | None) -> RunRecord:
    """Return a run on `host`."""
    place = f"/box/training_runs/{name}"
    config = ConfigFacts(total_steps=8)
    return RunRecord(identifier, f"static:{host}", place, host, name, config, VERSION, of.id if of else None, step=3)


def file(target: str, place: str, host: str = "gpu-a", of: ExperimentRecord = ONE) -> FileRecord:
    """Return a file at home."""
    return FileRecord(
        f"static:{host}", place, LocalPath.parse(target), host, of.id, Kind.CONFIG, VERSION, 10, "f" * 64, 1.0, "why"
    )


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """Return the state directory of a catalogue with two experiments, three runs and some files."""
    catalogue = open_catalogue(tmp_path, "root")
    await catalogue.save_discovery(ONE, run("1", "gpu-a", "run_1", ONE))
    await catalogue.save_discovery(TWO, run("2", "gpu-b", "run_2", TWO))
    await catalogue.add_run(run("3", "gpu-c", "run_2", None))
    await catalogue.add_run(run("4", "gpu-c", "run_3", None))
    await catalogue.save_files(
        [
            file(f"{ONE.directory}/a", "/box/r/a"),
            file(f"{ONE.directory}/sub/{ODD}", f"/box/r/{ODD}"),
            file(f"{TWO.directory}/a", "/box/r/a", "gpu-b", TWO),
        ]
    )
    await catalogue.save_link(LocalPath.parse(f"{ONE.directory}/latest"), "step_final")
    left_out: dict[str | None, tuple[LeftOut, ...]] = {
        ONE.id: (LeftOut("/box/r/step_10", 5, 2, "rule: step"), LeftOut("/box/r/x", None, 1, "rule: x"))
    }
    await catalogue.left_out.save("gpu-a", "i-gpu-a", left_out)
    catalogue.close()
    return tmp_path


@pytest.fixture
def connection(state: Path) -> Iterator[Connection]:
    """Provide that catalogue, open for questions."""
    with queries.questions(state) as opened:
        yield opened


pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", [ONE.directory, f"{ONE.directory}/", ONE.id, ONE.id[:6], "run_1", "1"])
async def test_experiment_is_found_by_its_names(connection: Connection, name: str) -> None:
    """An experiment is found by directory, by id or the beginning of it, and by its run."""
    shown = show_details.find(connection, name)
    assert shown.experiment == ONE
    assert [each.name for each in shown.runs] == ["run_1"]
    assert len(shown.files) == 2
    assert len(shown.left_out) == 2


async def test_run_without_an_experiment_is_shown(connection: Connection) -> None:
    """A run that has no experiment yet is shown by itself."""
    shown = show_details.find(connection, "run_3")
    assert (shown.experiment, [each.id for each in shown.runs], shown.files) == (None, ["4"], ())


async def test_ambiguous_run_is_listed(connection: Connection) -> None:
    """A name that two runs have is no answer: both are listed, with exit code 4."""
    with pytest.raises(Fatal, match=r"2 runs are called run_2(.|\n)*gpu-b:(.|\n)*gpu-c:") as caught:
        show_details.find(connection, "run_2")
    assert caught.value.exit_code == ExitCode.UNKNOWN_NAME


@pytest.mark.parametrize(("name", "hint"), [("run_11", "did you mean run_1?"), ("zzz", "`harvestd runs` lists")])
async def test_unknown_name_has_a_way_out(connection: Connection, name: str, hint: str) -> None:
    """A name that nobody has ends with 4, and names a similar one where there is one."""
    with pytest.raises(Fatal) as caught:
        show_details.find(connection, name)
    assert caught.value.exit_code == ExitCode.UNKNOWN_NAME
    assert caught.value.hint.startswith(hint)


async def test_local_file_has_its_source(connection: Connection) -> None:
    """A file at home is explained by the file that it came from; one that was deleted here as well."""
    found = explain_details.explain_local(connection, LocalPlace(f"{ONE.directory}/a", exists=True))
    assert [(each.host, each.place) for each in found.files] == [("gpu-a", "/box/r/a")]
    assert not found.note
    gone = explain_details.explain_local(connection, LocalPlace(f"{ONE.directory}/a", exists=False))
    assert gone.files == found.files
    assert "not on the disk" in gone.note


@pytest.mark.parametrize(
    ("path", "files"), [("", 3), (ONE.directory, 2), (f"{ONE.directory}/sub", 1)], ids=["root", "experiment", "deeper"]
)
async def test_local_directory_has_a_total(connection: Connection, path: str, files: int) -> None:
    """A directory is explained by all files below it, those with names that are no UTF-8 among them."""
    found = explain_details.explain_local(connection, LocalPlace(path, exists=True))
    assert found.is_directory
    assert len(found.files) == files


@pytest.mark.parametrize(
    ("path", "note"),
    [
        (".harvestd/lock", "harvestd's own"),
        (f"{ONE.directory}/manifest.json", "written by harvestd"),
        (f"{ONE.directory}/latest", "a link that harvestd made, to step_final"),
    ],
)
async def test_what_harvestd_made_is_said(connection: Connection, path: str, note: str) -> None:
    """What harvestd made itself came from no box, and that is said."""
    assert explain_details.explain_local(connection, LocalPlace(path, exists=True)).note.startswith(note)


@pytest.mark.parametrize(("exists", "given"), [(True, "was not filed by harvestd"), (False, "does not exist")])
async def test_strangers_file_is_unknown(connection: Connection, given: str, *, exists: bool) -> None:
    """A file that nobody filed is unknown (4), there or not; a name's beginning is no directory."""
    path = ONE.directory[:-1]
    with pytest.raises(Fatal, match=given) as caught:
        explain_details.explain_local(connection, LocalPlace(path, exists=exists))
    assert caught.value.exit_code == ExitCode.UNKNOWN_NAME


async def test_remote_file_has_its_places_here(connection: Connection) -> None:
    """A path on boxes is explained by every file that came from it; with a host's name, by that host's alone."""
    assert len(explain_details.explain_remote(connection, RemotePlace("/box/r/a")).files) == 2
    found = explain_details.explain_remote(connection, RemotePlace("/box/r/a", "gpu-b"))
    assert [str(each.target) for each in found.files] == [f"{TWO.directory}/a"]


async def test_remote_file_below_what_is_left_out(connection: Connection) -> None:
    """What lies in a directory that is left out is left out for the same reason."""
    found = explain_details.explain_remote(connection, RemotePlace("/box/r/step_10/model/x", "gpu-a"))
    assert [each.reason for _, each in found.left_out] == ["rule: step"]
    with pytest.raises(Fatal, match="nothing is known of gpu-b:/box/r/step_10"):
        explain_details.explain_remote(connection, RemotePlace("/box/r/step_10", "gpu-b"))


async def test_remote_directory_has_both(connection: Connection) -> None:
    """A directory on a box is explained by what is here of it and by what is not."""
    found = explain_details.explain_remote(connection, RemotePlace("/box/r", "gpu-a"))
    assert found.is_directory
    assert (len(found.files), len(found.left_out)) == (2, 2)


async def test_hosts_are_merged_with_the_configuration(connection: Connection) -> None:
    """A host that was configured and never seen is there; its row says so."""
    settings = Settings(hosts=(HostSettings(name="new", address="192.0.2.1"),))
    (host,) = stored.hosts(connection, settings)
    assert hosts_runs.host_row(host, watched=True)[:2] == ("new", Styled("never seen", ""))
    assert host.document(watched=True)["state"] == "never_seen"


async def test_no_catalogue_is_an_empty_one(tmp_path: Path) -> None:
    """Where nothing was ever fetched there is no catalogue, and no question makes one."""
    with queries.questions(tmp_path / "none") as opened:
        assert queries.runs(opened) == []
        assert queries.files_below(opened, "a") == []
    assert not (tmp_path / "none").exists()


async def test_a_short_list_has_all_living_runs_and_the_newest_others(connection: Connection) -> None:
    """Runs that are not over are all shown, first; of the others the newest, and a number."""
    over = [replace(run(str(n), "gpu-a", f"run_{n}", ONE), final=TrainingInfo(step=8)) for n in range(40, 20, -1)]
    living = [run(str(n), "gpu-a", f"run_{n}", ONE) for n in range(20, 10, -1)]
    shown, hidden = hosts_runs.living_and_newest([*over, *living], RunStatuses(connection))
    assert [each.name for each in shown] == [each.name for each in (*living, *over[:5])]
    assert hidden == 15


async def test_running_and_finished_runs(connection: Connection) -> None:
    """A run that is under way shows its newest step of how many."""
    (shown,) = show_details.find(connection, "run_1").runs
    row = hosts_runs.run_row(shown, {ONE.id: ONE}, RunStatuses(connection))
    assert row[:4] == ("run_1", "gpu-a", "3/8", "-")
    assert row[-1] == ONE.directory
    (document,) = stored.run_documents([shown], {}, RunStatuses(connection))
    assert (document["step"], document["total_steps"], document["finished"]) == (3, 8, False)
