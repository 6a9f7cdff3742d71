"""`harvestd experiments` and `compare`: what they print of real results, and that the API answers the same."""

import csv
import io
import json
import math
import re
import sys
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import httpx
import pytest

from harvestd.catalogue import queries
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec, metrics_row
from harvestd.demo.writers import RunWriter, base_evals, evals_of_run
from harvestd.documents.experiments import ExperimentReader
from harvestd.errors import ExitCode
from harvestd.report.results import ResultsReader
from harvestd.report.small_files import Evals
from harvestd.settings import load
from harvestd.store.root import DataRoot
from harvestd.store.sockets import short_path, socket_path
from support.command import Ended, harvestd_command, on_terminal
from support.house import Workstation
from support.waiting import until

LONG = 60.0
FIRST = RunSpec(total_steps=8)
SECOND = RunSpec("2025-08-21_10-00-00", total_steps=16, gns_window=32)
THIRD = RunSpec("2025-08-22_10-00-00", total_steps=8, gns_probe=False)
EVALS = EvalSpec(FIRST, questions=60)
OTHERS = EvalSpec(SECOND, questions=60)
pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


def fill(root: Path) -> None:
    """Write two finished runs with evals of equal settings, the second also with others, and one that goes on."""
    for spec in (FIRST, SECOND, THIRD):
        writer = RunWriter(root, spec)
        writer.start()
        writer.log_until(spec.total_steps if spec is not THIRD else 3)
        if spec is not THIRD:
            writer.finish()
    base_evals(root, EVALS).evaluate("base_full")
    for evals, steps in ((EVALS, (2, 4, 8)), (OTHERS, (4, 8, 16)), (EvalSpec(SECOND, "math", questions=5), (16,))):
        writer_of_evals = evals_of_run(root, evals)
        writer_of_evals.write_config()
        for step in steps:
            writer_of_evals.evaluate(step)


def rates(spec: EvalSpec, step: int) -> list[float]:
    """Return the share of right answers of each question."""
    return [float(str(metrics_row(spec, step, question)["pass_rate"])) for question in range(spec.questions)]


def command(workstation: Workstation, *arguments: str) -> Ended:
    """Run a command on the workstation."""
    return harvestd_command("-c", workstation.config, *arguments)


@pytest.fixture
async def filled(workstation: Workstation) -> Workstation:
    """Provide a workstation that brought the three runs home."""
    fill(workstation.add_box().root)
    await workstation.once()
    return workstation


async def test_experiments_are_listed_with_their_results(filled: Workstation) -> None:
    """Each has the parts of its name, its progress, the last and best pass rates, and what is left out."""
    found = command(filled, "experiments", "--json").document["experiments"]
    assert [each["date"] for each in found] == ["2025-08-22", "2025-08-21", "2025-08-20"]
    first = found[2]
    assert (first["model"], first["hardware"], first["steps"], first["finished"]) == ("qwen2_5_1_5b", "h100", 8, True)
    assert first["setting"] == {"dataset": "gsm8k_r1_template", "temperature": 0.7, "top_p": 1.0, "r": 8, "subset": 1.0}
    last = rates(EVALS, 8)
    assert (first["last"]["step"], first["last"]["n"]) == ("8", 60)
    assert first["last"]["pass_rate"] == pytest.approx(fmean(last))
    assert first["last"]["error"] == pytest.approx(pstdev(last) / math.sqrt(60))
    best = max((2, 4, 8), key=lambda step: fmean(rates(EVALS, step)))
    assert (first["best"]["step"], first["best"]["column"]) == (str(best), "pass_rate")
    assert [each["base"]["step"] for each in found] == ["base"] * 3
    assert (found[0]["last"], found[0]["best"]) == (None, None)
    assert found[1]["settings"] == 2
    assert first["left_out"]["entries"] > 0
    readme = (filled.data / first["experiment"] / "README.md").read_text()
    assert f"{first['best']['pass_rate']:.4f} ± {first['best']['error']:.4f}" in readme


async def test_experiments_are_sorted(filled: Workstation) -> None:
    """What has no value comes last, an unknown key has a hint, and without experiments that is said."""
    for key, dates in {"best": (1, 0), "name": (0, 1), "steps": (1, 0), "last": (1, 0), "newest": (1, 0)}.items():
        found = command(filled, "experiments", "--sort", key, "--json").document["experiments"]
        with_results = [each for each in found if each["last"]]
        expected = [("2025-08-20", "2025-08-21")[place] for place in dates]
        if key in {"best", "last"}:
            assert [each["date"] for each in found][-1] == "2025-08-22"
            assert with_results == sorted(with_results, key=lambda each: -each[key]["pass_rate"])
        else:
            assert [each["date"] for each in with_results] == expected
    wrong = command(filled, "experiments", "--sort", "bets")
    assert (wrong.code, wrong.out) == (ExitCode.CONFIGURATION, "")
    assert "did you mean best? the keys are newest, name" in wrong.err


async def test_no_experiments_are_said_so(workstation: Workstation) -> None:
    """Before anything is here, the command says what to do next, and warns of nothing."""
    workstation.settings()
    empty = command(workstation, "experiments")
    assert (empty.code, empty.err) == (ExitCode.OK, "")
    assert "no experiments yet" in empty.out
    assert command(workstation, "experiments", "--json").document == {"experiments": []}


async def test_two_experiments_are_compared_question_by_question(filled: Workstation) -> None:
    """At the last step that both have; with the keys that differ, also as CSV, and with other evals beside."""
    done = command(filled, "compare", FIRST.name, "gns_test_2025-08-21", "trial", "--json")
    assert done.code == ExitCode.OK, done.err
    document = done.document
    assert [each["runs"] for each in document["experiments"]] == [[FIRST.name], [SECOND.name], [THIRD.name]]
    assert document["experiments"][2]["training"]["loss"]["step"] == 3
    table = document["evals"][0]
    assert table["setting"]["dataset"] == "gsm8k_r1_template"
    first, second, third = table["results"]
    assert (first["difference"], third["last"], third["difference"]) == (None, None, None)
    changes = [after - before for before, after in zip(rates(EVALS, 8), rates(OTHERS, 8), strict=True)]
    found = second["difference"]
    assert (found["step"], found["n"], found["paired"]) == (8, 60, True)
    assert found["value"] == pytest.approx(fmean(changes))
    assert found["error"] == pytest.approx(pstdev(changes) / math.sqrt(60))
    large = abs(found["value"]) >= 2 * found["error"]
    assert found["word"] == (("better" if found["value"] > 0 else "worse") if large else "within_error")
    assert [each["setting"]["dataset"] for each in document["evals"]] == ["gsm8k_r1_template", "math"]
    keys = {each["key"]: each["values"] for each in document["configuration"]}
    assert keys == {
        "gns_probe.enabled": [True, True, False],
        "gns_probe.window_size": [16, 32, 16],
        "total_steps": [8, 16, 8],
    }
    rows = list(csv.DictReader(io.StringIO(command(filled, "compare", FIRST.name, SECOND.name, "--csv").out)))
    assert [(each["dataset"], each["config.total_steps"]) for each in rows] == [
        ("gsm8k_r1_template", "8"),
        ("gsm8k_r1_template", "16"),
        ("math", "16"),
    ]
    assert float(rows[1]["difference_value"]) == found["value"]
    assert (rows[1]["difference_word"].replace(" ", "_"), rows[0]["difference_word"]) == (found["word"], "")


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        ((FIRST.name,), ExitCode.CONFIGURATION, "give 2 to 8 names"),
        ((), ExitCode.CONFIGURATION, "give 2 to 8 names"),
        ((FIRST.name, "gns_test_2025-08-20"), ExitCode.CONFIGURATION, "name each experiment once"),
        ((FIRST.name, "run_2025-08-31_10-00-00"), ExitCode.UNKNOWN_NAME, "did you mean run_2025-08-2"),
        ((FIRST.name, "gns"), ExitCode.UNKNOWN_NAME, "give more of the name"),
        ((FIRST.name, SECOND.name, "--csv", "--json"), ExitCode.CONFIGURATION, "choose one"),
    ],
)
async def test_what_can_not_be_compared_has_a_hint(
    filled: Workstation, names: tuple[str, ...], code: ExitCode, said: str
) -> None:
    """Too few, twice the same, unknown and ambiguous names: each with its exit code."""
    done = command(filled, "compare", *names)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


@pytest.mark.parametrize("columns", [80, 160])
async def test_tables_fit_a_terminal(filled: Workstation, columns: int) -> None:
    """No line is longer than the terminal is wide, and every experiment has its figures."""
    for arguments in (("experiments",), ("compare", FIRST.name, SECOND.name)):
        drawn = on_terminal(["-c", filled.config, *arguments], COLUMNS=str(columns))
        shown = re.sub(r"\x1b\[[0-9;]*m|\r", "", drawn)
        sys.stdout.write(f"\n{shown}")
        assert max(map(len, shown.splitlines())) <= columns
        assert shown.count(" ± ") >= 4
        assert "…" not in shown


def asked(workstation: Workstation, target: str) -> httpx.Response:
    """Return the answer of the daemon's socket."""
    with (
        short_path(socket_path(load(workstation.config, env={}))) as path,
        httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client,
    ):
        return client.get(f"http://harvestd{target}", timeout=LONG)


def evaluated(workstation: Workstation, evals: int = 10) -> bool:
    """Return whether the daemon answers with all evals."""
    if not socket_path(load(workstation.config, env={})).exists():
        return False
    found: list[dict[str, Any]] = asked(workstation, "/v1/experiments").json().get("experiments", [])
    return sum(int(each["evals"]) for each in found) == evals


async def test_results_have_one_form_over_http_and_as_json(workstation: Workstation) -> None:
    """The answers over HTTP are those of `--json`; wrong parameters are refused, unknown names are not found."""
    fill(workstation.add_box().root)
    workstation.settings()
    with workstation.program():
        await until(lambda: evaluated(workstation), LONG)
        asked(workstation, "/v1/pause")
        compared = f"/v1/compare?id={FIRST.name}&id={SECOND.name}"
        listed = asked(workstation, "/v1/experiments").json()
        assert listed == asked(workstation, "/v1/experiments").json()
        assert steady(listed) == steady(command(workstation, "experiments", "--json").document)
        assert asked(workstation, compared).json() == json.loads(
            command(workstation, "compare", FIRST.name, SECOND.name, "--json").out
        )
        assert len(asked(workstation, "/v1/experiments?limit=1").json()["experiments"]) == 1
        for target, status in {
            "/v1/experiments?limit=x": 400,
            "/v1/experiments?most=1": 400,
            "/v1/compare": 400,
            f"/v1/compare?id={FIRST.name}": 400,
            f"/v1/compare?id={FIRST.name}&id={FIRST.name}": 400,
            f"/v1/compare?id={FIRST.name}&id=nothing": 404,
            f"/v1/compare?id={FIRST.name}&id={SECOND.name}&x=1": 400,
        }.items():
            answer = asked(workstation, target)
            assert (answer.status_code, bool(answer.json()["error"])) == (status, True), target


def steady(document: dict[str, Any]) -> list[dict[str, object]]:
    """Return the experiments without what changes from one second to the next."""
    return [{key: value for key, value in each.items() if key != "state_since"} for each in document["experiments"]]


async def test_an_unchanged_experiment_is_not_read_again(filled: Workstation) -> None:
    """A repeated question opens no file; what could not be read is no result that is kept."""
    settings = load(filled.config, env={})
    with DataRoot.open(settings.data_root, create=False) as root, queries.questions(filled.state) as connection:
        reader = ExperimentReader(root, ResultsReader(Evals()))
        before = reader.views(connection)
        for path in filled.data.glob("*/*/**/metrics.csv"):
            path.rename(path.with_name("away"))
        assert reader.views(connection) == before
        other = ExperimentReader(root, ResultsReader(Evals()))
        fresh = other.views(connection)
        assert [view.results.is_whole for view in fresh] == [False] * 3
        assert [view.results.lines for view in fresh] == [()] * 3
        for path in filled.data.glob("*/*/**/away"):
            path.rename(path.with_name("metrics.csv"))
        assert other.views(connection) == before


async def test_hostile_files_are_bounded_and_only_shown(workstation: Workstation) -> None:
    """Text of a configuration moves no cursor and is no formula, a secret is hidden, and a huge table is no eval."""
    root = workstation.add_box().root
    fill(root)
    with RunWriter(root, SECOND).directory.joinpath("config.yaml").open("a") as config:
        config.write('note: "\\e[2J<b>"\nsum: "=1+1"\nless: "-1+1"\nrate: -0.5\nwandb_api_key: 0123456789abcdef\n')
    evals = evals_of_run(root, EvalSpec(THIRD, questions=1))
    evals.write_config()
    (evals.begin(2) / "metrics.csv").write_bytes(b"q_idx,pass_rate\n" + b"0,1\n" * 2_500_000)
    evals.seal(2)
    await workstation.once()
    names = (FIRST.name, SECOND.name, THIRD.name)
    done = command(workstation, "compare", *names, "--json")
    keys = {each["key"]: each["values"] for each in done.document["configuration"]}
    assert (keys["note"], keys["sum"]) == ([None, "\x1b[2J<b>", None], [None, "=1+1", None])
    assert keys["wandb_api_key"] == [None, "[hidden]", None]
    assert done.document["evals"][0]["results"][2]["last"] is None
    shown = command(workstation, "compare", *names).out
    assert "\\x1b[2J<b>" in shown
    assert "\x1b" not in shown
    rows = list(csv.DictReader(io.StringIO(command(workstation, "compare", *names, "--csv").out)))
    assert [rows[1][f"config.{key}"] for key in ("sum", "less", "rate")] == ["'=1+1", "'-1+1", "-0.5"]
    workstation.settings()
    with workstation.program():
        await until(lambda: evaluated(workstation, 11), LONG)
        over_http = asked(workstation, f"/v1/compare?id={FIRST.name}&id={SECOND.name}").json()
    assert {each["key"]: each["values"] for each in over_http["configuration"]}["note"] == [None, "\\x1b[2J<b>"]


async def test_the_index_lists_all_experiments(workstation: Workstation) -> None:
    """It is written at the end of a pass that changed something, the newest first; notes around it stay."""
    box = workstation.add_box()
    fill(box.root)
    await workstation.once()
    index = workstation.data / "index.md"
    before = index.read_text()
    links = re.findall(r"^\| \[`[^`]+`\]\((.+?)\)", before, re.MULTILINE)
    assert [link[:-10].rpartition("_2025-08-")[2][:2] for link in links] == ["22", "21", "20"]
    assert all((workstation.data / link).is_file() for link in links)
    (first,) = [
        each
        for each in command(workstation, "experiments", "--json").document["experiments"]
        if each["steps"] == 8 and each["best"]
    ]
    assert f"{first['best']['pass_rate']:.4f} ± {first['best']['error']:.4f} | `{first['best']['step']}` | 60" in before
    index.write_text(f"mine\n{before}")
    evals_of_run(box.root, EVALS).evaluate(6)
    await workstation.once()
    after = index.read_text()
    assert after.startswith("mine\n<!-- harvestd begins")
    rows, rows_before = ([line for line in text.splitlines() if line.startswith("| [")] for text in (after, before))
    assert rows[:2] == rows_before[:2]
    hashes, hashes_before = (re.findall(r"<!-- rows: (.*) -->", text)[0].split() for text in (after, before))
    assert [one == other for one, other in zip(hashes, hashes_before, strict=True)] == [True, True, False]


async def test_a_persons_own_index_stays(workstation: Workstation) -> None:
    """A file of that name that harvestd did not write is not touched."""
    fill(workstation.add_box().root)
    workstation.data.mkdir()
    index = workstation.data / "index.md"
    index.write_text("# my experiments\n")
    await workstation.once()
    assert index.read_text() == "# my experiments\n"


async def test_the_daemon_writes_the_index(workstation: Workstation) -> None:
    """It follows the experiments without a command, also where nothing changed since the last process."""
    fill(workstation.add_box().root)
    await workstation.once()
    index = workstation.data / "index.md"
    index.unlink()
    workstation.settings()
    with workstation.program():
        await until(index.exists, LONG)
    assert index.read_text().count("\n| [") == 3
