"""Reports: README, scripts and pictures appear, follow what changes, and leave alone what a person made."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from harvestd.cli.app import app
from harvestd.cli.errors import ended
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.harvest.experiments import reports
from harvestd.report import analysis, small_files
from harvestd.report.small_files import Figures, figures_of
from support.command import harvestd_command
from support.house import Workstation
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=12, adapter_bytes=1024)
SCRIPTS = Path(__file__).parents[1] / "support" / "analysis"
DRAWN = {"pictures": True}
SCRIPTS_AND_PICTURES = ("shade.py", "shared.py", "troubled.py", "shade.png", "troubled.png")
NOTE = b"# Mine\r\n\xff"


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scripts stand in that need no matplotlib, and that can be made to fail."""
    monkeypatch.setattr(analysis, "SOURCE", SCRIPTS)
    monkeypatch.setattr(analysis, "SHARED_NAMES", ())
    monkeypatch.setattr(analysis, "can_draw", lambda: True)


@pytest.fixture
def writer(workstation: Workstation) -> RunWriter:
    """Return a run of a box, with one eval, that goes on."""
    box = workstation.add_box()
    made = RunWriter(box.root, RUN)
    made.start()
    made.log_until(4)
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate(4)
    return made


def home_of(workstation: Workstation) -> Path:
    """Return the run's experiment."""
    home = workstation.experiment(RUN.name)
    assert home is not None
    return home


def identities(home: Path) -> dict[str, tuple[int, int]]:
    """Return what tells a file that was written again from one that was not, of all of the report."""
    paths = [home / "README.md", *(home / "analysis").iterdir()]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def is_alive(process: int) -> bool:
    """Return whether there is a process of this id, a dead one that nobody waited for too."""
    return Path("/proc", str(process)).exists()


async def test_a_pass_leaves_a_report(workstation: Workstation, writer: RunWriter) -> None:
    """README, scripts and pictures are there after a pass; one that changes nothing writes none of them again."""
    await workstation.once(report=DRAWN)
    home = home_of(workstation)
    readme = (home / "README.md").read_text()
    assert f"`{RUN.name}`" in readme
    assert "not finished: step 4 of 12" in readme
    assert "![shade](analysis/shade.png)" in readme
    assert "python analysis/shade.py" in readme
    assert "analysis/shared.py" not in readme
    before = identities(home)
    assert before.keys() == {"README.md", "configured.json", *SCRIPTS_AND_PICTURES}
    await workstation.once(report=DRAWN)
    assert identities(home) == before
    assert workstation.findings() == []
    writer.log_until(12)
    writer.finish()
    await workstation.once(report=DRAWN)
    home = home_of(workstation)
    after = identities(home)
    assert {name for name in after if after[name] != before[name]} == {"README.md", "configured.json", "shade.png"}
    assert "finished at step 12" in (home / "README.md").read_text()
    assert workstation.findings() == []


async def test_what_a_person_made_stays(workstation: Workstation, writer: RunWriter) -> None:
    """Notes around the generated part, an edited script and what stands beside it survive; its picture is theirs."""
    await workstation.once(report=DRAWN)
    home = home_of(workstation)
    readme, script, picture = home / "README.md", home / "analysis" / "shade.py", home / "analysis" / "shade.png"
    readme.write_bytes(NOTE + readme.read_bytes() + NOTE)
    script.write_bytes(script.read_bytes().replace(b"len", b"LEN") + b"# mine\n")
    picture.write_bytes(b"mine")
    (home / "analysis" / "troubled.py").unlink()
    (home / "analysis" / "mine.py").write_bytes(b"1")
    edited = script.read_bytes()
    writer.log_until(8)
    await workstation.once(report=DRAWN)
    text = readme.read_bytes()
    assert text.startswith(NOTE + b"<!-- harvestd begins")
    assert text.endswith(b"<!-- harvestd ends -->\n" + NOTE)
    assert b"step 8 of 12" in text
    assert (script.read_bytes(), picture.read_bytes()) == (edited, b"mine")
    assert analysis.is_ours((home / "analysis" / "troubled.py").read_bytes())
    assert workstation.findings() == []


async def test_a_module_that_a_person_edited_makes_all_pictures_theirs(
    workstation: Workstation, writer: RunWriter
) -> None:
    """Where what all scripts share was edited, ours would draw other pictures than those of the person."""
    await workstation.once(report=DRAWN)
    home = home_of(workstation)
    with (home / "analysis" / "shared.py").open("ab") as file:
        file.write(b"# mine\n")
    before = identities(home)
    writer.log_until(8)
    await workstation.once(report=DRAWN)
    assert {name for name, each in identities(home).items() if each != before[name]} == {"README.md"}


async def test_while_a_shared_module_is_edited_the_others_stay_with_it(
    workstation: Workstation, writer: RunWriter
) -> None:
    """A module of today may have other names than those that an edited one of another version asks for."""
    await workstation.once()
    home = home_of(workstation)
    with (home / "analysis" / "shared.py").open("ab") as file:
        file.write(b"# mine\n")
    older = analysis.sealed(b"# of the version that the person edited\n")
    (home / "analysis" / "shade.py").write_bytes(older)
    writer.log_until(8)
    await workstation.once()
    assert (home / "analysis" / "shade.py").read_bytes() == older


async def test_what_the_scripts_need_of_configurations_follows_them(
    workstation: Workstation, writer: RunWriter
) -> None:
    """configured.json says what config.yaml and eval_config.yaml say, in any form, also after a change of them."""
    config = writer.directory / "config.yaml"
    kept = config.read_bytes().replace(b"total_steps: 12\n", b"<<: *plan\n")
    config.write_bytes(b"plan: &plan {total_steps: 12}\n" + kept)
    await workstation.once()
    home = home_of(workstation)
    place = home / "analysis" / "configured.json"
    (reported,) = json.loads(place.read_bytes())["evals"].values()
    assert json.loads(place.read_bytes())["run"] == {"total_steps": 12, "gns_window": RUN.gns_window}
    assert (reported["temperature"], reported["generations"]) == (0.7, 8)
    (evals,) = (writer.directory.parents[1] / "eval_runs").glob("run_*/eval_config.yaml")
    evals.write_bytes(evals.read_bytes() + b"temperature: ${hot}\nhot: 1.5\n")
    await workstation.once()
    (reported,) = json.loads(place.read_bytes())["evals"].values()
    assert reported["temperature"] == pytest.approx(1.5)
    place.unlink()
    writer.log_until(8)
    await workstation.once()
    assert place.exists()


async def test_an_older_copy_of_ours_is_replaced(workstation: Workstation, writer: RunWriter) -> None:
    """A copy that some other version of harvestd wrote, and nobody edited, becomes the one of today."""
    await workstation.once()
    script = home_of(workstation) / "analysis" / "shade.py"
    script.write_bytes(analysis.sealed(b"# of another version\n"))
    writer.log_until(8)
    await workstation.once()
    assert script.read_bytes() == analysis.sealed((SCRIPTS / "shade.py").read_bytes())


async def test_without_matplotlib_the_rest_is_made(
    workstation: Workstation, writer: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be drawn the daemon says so once, and makes README and scripts."""
    monkeypatch.setattr(analysis, "can_draw", lambda: False)
    monkeypatch.setattr(reports, "EVERY", 0.0)
    async with workstation.running(report=DRAWN) as event_log:
        await until(workstation.stands(RUN.name, "..", "README.md"))
        readme = home_of(workstation) / "README.md"
        writer.log_until(8)
        await until(lambda: "step 8 of 12" in readme.read_text())
        assert len(events(event_log, "report.plain")) == 1
        assert "harvestd[analysis]" in events(event_log, "report.plain")[0]["hint"]
    assert not list(readme.parent.glob("analysis/*.png"))


async def test_the_daemon_follows(workstation: Workstation, writer: RunWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report of a run that goes on is made again with its new lines, picture and all."""
    monkeypatch.setattr(reports, "EVERY", 0.0)
    monkeypatch.setattr(reports, "QUIET", 0.0)
    monkeypatch.setattr(reports, "REST", 0.0)
    monkeypatch.setattr(reports, "LOOK", 0.05)
    async with workstation.running(report=DRAWN) as event_log:
        await until(workstation.stands(RUN.name, "..", "analysis", "shade.png"))
        home = home_of(workstation)
        picture = (home / "analysis" / "shade.png").read_bytes()
        writer.log_until(8)
        await until(workstation.has(writer.train_log, RUN.name, "logs", "train_log.jsonl"))
        await until(lambda: (home / "analysis" / "shade.png").read_bytes() != picture)
        await until(lambda: "step 8 of 12" in (home / "README.md").read_text())
        assert not events(event_log, "report.failed")
    assert workstation.findings() == []


async def test_a_start_makes_what_the_last_process_did_not_come_to(
    workstation: Workstation, writer: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of another state are drawn by the next daemon, though nothing changes any more."""
    monkeypatch.setattr(reports, "QUIET", 0.0)
    await workstation.once()
    home = home_of(workstation)
    assert writer.last_step == 4
    assert not (home / "analysis" / "shade.png").exists()
    async with workstation.running(report=DRAWN):
        await until((home / "analysis" / "shade.png").exists)


async def test_a_script_that_fails_is_told_once(
    workstation: Workstation, writer: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last words are an event, escaped and without secrets to say; the others draw, and everything goes on."""
    monkeypatch.setenv("LAMBDA_API_KEY", "secret")
    monkeypatch.setattr(reports, "QUIET", 0.0)
    monkeypatch.setattr(reports, "REST", 0.0)
    monkeypatch.setattr(reports, "EVERY", 0.0)
    await workstation.once()
    home = home_of(workstation)
    (home / "trouble").write_text("what a mess")
    async with workstation.running(report=DRAWN) as event_log:
        await until(lambda: events(event_log, "report.failed"))
        (reported,) = events(event_log, "report.failed")
        assert reported["script"] == "troubled.py"
        assert "\\x1b[31mwhat a mess" in str(reported["error"])
        assert (home / "analysis" / "shade.png").exists()
        (home / "trouble").write_text("environment")
        writer.log_until(5)
        await until(lambda: len(events(event_log, "report.failed")) == 2)
        surroundings = str(events(event_log, "report.failed")[1]["error"])
        assert "LAMBDA" not in surroundings
        assert "MPLCONFIGDIR" in surroundings


@pytest.mark.parametrize("by", ["the end", "its deadline"])
async def test_a_script_that_hangs_is_ended(
    workstation: Workstation, writer: RunWriter, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """One that never ends is killed when its time is up, or with the daemon; nothing of it is left.

    What was late is drawn again later, although nothing changed.
    """
    monkeypatch.setattr(reports, "QUIET", 0.0)
    monkeypatch.setattr(reports, "EVERY", 0.1)
    monkeypatch.setattr(reports, "REST", 0.1)
    monkeypatch.setattr(analysis, "DEADLINE", 2.0 if by == "its deadline" else 120.0)
    await workstation.once()
    assert writer.last_step == 4
    home = home_of(workstation)
    (home / "trouble").write_text("hang")
    async with workstation.running(report=DRAWN) as event_log:
        await until(lambda: (home / "hangs").exists() and (home / "hangs").read_text())
        process = int((home / "hangs").read_text())
        if by == "its deadline":
            await until(lambda: events(event_log, "report.failed"))
            (reported,) = events(event_log, "report.failed")
            assert "not done after 2 s" in str(reported["error"])
            assert "harvestd report" in str(reported["hint"])
            # Nothing changed since: this machine may just have been busy.
            (home / "trouble").unlink()
            await until((home / "analysis" / "troubled.png").exists)
        else:
            assert is_alive(process)
    assert not is_alive(process)


async def test_what_stands_in_the_way_is_left_alone(workstation: Workstation, writer: RunWriter) -> None:
    """A link in the README's place, or in that of a script, is a person's; an experiment taken away stays away."""
    await workstation.once()
    home = home_of(workstation)
    elsewhere = workstation.data.with_name("elsewhere")
    elsewhere.write_bytes(b"theirs")
    for name in ("README.md", "analysis/shade.py"):
        (home / name).unlink()
        (home / name).symlink_to(elsewhere)
    writer.log_until(8)
    await workstation.once(report=DRAWN)
    assert elsewhere.read_bytes() == b"theirs"
    assert (home / "README.md").is_symlink()
    assert (home / "analysis" / "shade.py").is_symlink()
    shutil.rmtree(home)
    writer.log_until(9)
    await workstation.once(report=DRAWN)
    assert not home.exists()


async def by_hand(workstation: Workstation, *words: str) -> int:
    """Call `harvestd report` in a thread of this process, where our scripts stand in; gives its exit code."""
    arguments = ["report", *words, "-c", str(workstation.config)]
    call = partial(app.main, arguments, prog_name="harvestd", standalone_mode=False)
    return int(await anyio.to_thread.run_sync(ended, call))


async def test_by_hand(workstation: Workstation, writer: RunWriter, capsys: pytest.CaptureFixture[str]) -> None:
    """The command makes the report with and without a daemon, draws whatever the configuration says, and tells all."""
    await workstation.once()
    home = home_of(workstation)
    assert writer.last_step == 4
    shutil.rmtree(home / "analysis")
    capsys.readouterr()
    assert await by_hand(workstation, RUN.name, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["readme"] == f"{home.name}/README.md"
    assert answer["pictures"] == ["shade.png", "troubled.png"]
    assert answer["scripts_written"] == ["shade.py", "shared.py", "troubled.py"]
    (home / "trouble").write_text("a mess")
    async with workstation.running():
        capsys.readouterr()
        assert await by_hand(workstation, home.name) == 3
    assert "troubled.py failed: it ended with 1" in capsys.readouterr().err
    assert await by_hand(workstation, "run_2025-08-20_03-31-44") == 4
    assert f"did you mean {RUN.name}?" in capsys.readouterr().err


async def test_a_name_given_by_hand_stands_in_the_readme(workstation: Workstation, writer: RunWriter) -> None:
    """A renamed directory's README says the name of now, and which it had; the audit still finds nothing wrong."""
    writer.log_until(12)
    writer.finish()
    await workstation.once()
    before = home_of(workstation).name
    done = await anyio.to_thread.run_sync(harvestd_command, "-c", workstation.config, "name", RUN.name, "ablation")
    assert done.code == 0, done.err
    (home,) = (path for path in workstation.data.iterdir() if path.is_dir() and path.name != ".harvestd")
    assert home.name.startswith("ablation_")
    readme = (home / "README.md").read_text()
    assert f"# `{home.name}`" in readme
    assert f"Called before: `{before}`" in readme
    assert workstation.findings() == []
    done = await anyio.to_thread.run_sync(
        harvestd_command, "-c", workstation.config, "explain", f"{home.name}/README.md"
    )
    assert "`harvestd report` makes" in done.out


async def test_a_box_can_not_make_a_report_dear(
    workstation: Workstation, writer: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics without end cost a bounded number of rows, once for each version, and say what those rows say."""
    rows: list[int] = []
    real = figures_of

    def counted(metrics: bytes, meta: Callable[[], bytes]) -> Figures:
        found = real(metrics, meta)
        rows.append(found.means["pass@1"].n if found.means else 0)
        return found

    monkeypatch.setattr(small_files, "figures_of", counted)
    leaf = evals_of_run(workstation.boxes["gpu-a"].root, EvalSpec(RUN, questions=5))
    (leaf.begin(8) / "metrics.csv").write_bytes(b"pass@1\n" + b"1\n" * 200_000)
    leaf.seal(8)
    monkeypatch.setattr(reports, "EVERY", 0.0)
    monkeypatch.setattr(reports, "QUIET", 0.0)
    async with workstation.running():
        await until(lambda: sorted(rows) == [5, 50_000])
        readme = home_of(workstation) / "README.md"
        await until(lambda: readme.exists() and "| 50000 |" in readme.read_text())
        writer.log_until(8)
        await until(lambda: "step 8 of 12" in readme.read_text())
    assert sorted(rows) == [5, 50_000]
