"""README and pictures of one experiment say the same: one reader, from records and from files."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.parse import (
    ConfigFacts,
    InvalidFacts,
    parse_config,
    parse_eval_config,
    parse_training_info,
)
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Version
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.harvest.context import Context
from harvestd.harvest.host.health import RunProgress, StallDetector
from harvestd.inventory.host import Host
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.report import analysis
from harvestd.report.facts import Facts, figures_of, gather
from harvestd.report.readme import rendered
from harvestd.report.scripts.evals import Setting, read_evals
from harvestd.report.scripts.experiment import read_experiment, read_log
from harvestd.report.scripts.lines import lines_of
from harvestd.report.small_files import Evals
from harvestd.store.root import DataRoot
from support.analysed import Analysed

pytestmark = pytest.mark.anyio

RUN = RunSpec()


def facts_of(experiment: Analysed) -> Facts:
    """Return what harvestd's README is made from, by records of the files that stand there."""
    experiment.configure()
    with DataRoot.open(experiment.directory.parent) as root:
        return gather(root, experiment.known(), (), Evals())


@pytest.fixture
def experiment(tmp_path: Path) -> Analysed:
    """Return an experiment with a log and evals of every kind."""
    found = Analysed(tmp_path)
    found.train(RUN, 40, finished=True)
    found.evaluate(EvalSpec(RUN, questions=20), [10, 20, "final"])
    found.evaluate(EvalSpec(RUN, dataset="math_500", questions=10, generations=16), [10])
    found.evaluate_batch(EvalSpec(RUN, dataset="gsm8k", questions=20), [10, 20])
    found.evaluate_batch(EvalSpec(RUN, dataset="math", questions=5, temperature=1.0), [20])
    found.evaluate_base(EvalSpec(RUN, dataset="math_500", questions=10, generations=16))
    return found


def test_readme_and_pictures_read_the_same_evals(experiment: Analysed) -> None:
    """Settings, steps, means, n and places are equal, whichever way a file came to be read."""
    given = facts_of(experiment)
    drawn = read_experiment(experiment.directory)
    assert list(given.evals.evals) == read_evals(drawn)
    assert given.training is not None
    assert given.training.last_step == drawn.log.last_step
    for key, (value, step) in given.training.last.items():
        assert (value, step) == (drawn.log.series(key).values[-1], drawn.log.series(key).steps[-1])


def test_readme_shows_the_lines_of_the_pictures(experiment: Analysed) -> None:
    """A base eval of a dataset that only the evals' directories name begins its line; unlike evals never share one."""
    text = rendered(facts_of(experiment))
    assert "| base | `base` |" in text.partition("`math_500`")[2].partition("`gsm8k")[0]
    lines = lines_of(read_evals(read_experiment(experiment.directory))).lines
    assert text.count(", means over n questions.") == len(lines)


def test_readme_and_scripts_print_the_same_pass_rate(experiment: Analysed) -> None:
    """Each row of the README's tables has the pass rate, its error and n that the scripts' table shows for the step."""
    text = rendered(facts_of(experiment))
    shown = [row for line in text.splitlines() if line.count("|") > 5 and " ± " in (row := line)]
    lines = lines_of(read_evals(read_experiment(experiment.directory))).lines
    drawn = {
        f"| `{each.step}` | {rate.n} | {rate.value:.4f} ± {rate.error:.4f} |"
        for line in lines
        for each in line.evals
        if (rate := each.rate)
    }
    assert len(shown) >= len(lines)
    assert [row for row in shown if not any(cells in row for cells in drawn)] == []
    for line in lines:
        assert line.best is not None
        assert line.best.rate == max(each.rate for each in line.evals if each.rate and not each.is_base)


def test_a_dataset_that_only_a_step_names_anchors_the_base_eval(tmp_path: Path) -> None:
    """Where the evals' directory says no dataset, those of its steps do."""
    experiment = Analysed(tmp_path)
    spec = EvalSpec(RUN, dataset="competition_math", questions=10)
    home = experiment.evaluate(spec, [10])
    home.rename(home.with_name(RUN.name))
    experiment.evaluate_base(spec)
    evals = facts_of(experiment).evals.evals
    assert {each.setting.dataset for each in evals} == {"competition_math"}
    assert list(evals) == read_evals(read_experiment(experiment.directory))


def test_the_number_of_questions_is_that_of_the_figure(experiment: Analysed) -> None:
    """A question whose cell is blank is none of those that a mean is over."""
    (leaf, *_) = experiment.directory.rglob("step_10_math_500/*/metrics.csv")
    leaf.write_text("q_idx,pass@1,entropy_mean\n0,1,0.5\n1,,0.5\n2,0,0.5\n")
    (found,) = (each for each in facts_of(experiment).evals.evals if each.setting.dataset == "math_500" and each.at)
    assert (found.n, found.means["pass@1"].n, found.means["entropy_mean"].n) == (2, 2, 3)
    assert "| `10` | 2 | 0.5000 ± 0.3536 | 0.5000 |" in rendered(facts_of(experiment))


def test_hundreds_of_evals_are_all_counted(tmp_path: Path) -> None:
    """A line has as many as there are, far beyond what fits a table."""
    experiment = Analysed(tmp_path)
    spec = EvalSpec(RUN, questions=1)
    home = experiment.evaluate(spec, [1])
    step = next(home.rglob("step_1_*"))
    for number in range(2, 802):
        leaf = step.with_name(step.name.replace("step_1_", f"step_{number}_")) / next(step.iterdir()).name
        leaf.mkdir(parents=True)
        (leaf / "metrics.csv").write_text(f"pass@1\n{number % 2}\n")
        (leaf / "run_meta.json").write_bytes(next(step.rglob("run_meta.json")).read_bytes())
    assert "801 evals, means over n questions" in rendered(facts_of(experiment))


LINES = (
    b'{"step": 3}', b'{"step": 3.0}', b'{"step": "3"}', b'{"step": true}', b'{"step": -1}', b'{"step": 1e999}',
    b'{"step": 1000000001}', b"[3]", b'{"step": 3', b'{"step": 3, "loss": NaN}', b'{"loss": 1}', b'{"step": 0}',
    b'{"step": 3}\r\n{"step": 4}\r\n', b'{"step": 3}\r{"step": 4}\n', b'{"step":\r3}\n', b'\x0b{"step": 3}\n',
    b'{"step": 3, "x": "' + b"x" * (1 << 20) + b'"}\n{"step": 2}\n', b"\0" * 64 + b'{"step": 3}\n',
    b'\xff{"step": 3}\n',
    b'{"step": 3, "step": 4}\n', b'\xef\xbb\xbf{"step": 3}\n', b'{"step": 3}\n{"step": 4',
)  # fmt: skip


@pytest.mark.parametrize("log", LINES, ids=range(len(LINES)))
async def test_status_readme_and_pictures_find_the_same_step(tmp_path: Path, log: bytes) -> None:
    """What is no step for one is none for the others, however its lines end; a log may begin with step 0."""
    path = tmp_path / "train_log.jsonl"
    path.write_bytes(log)
    drawn = read_log(path).last_step
    assert figures_of(log).last_step == drawn
    assert await step_heard(log) == drawn


class OneRun:
    """A catalogue with one run."""

    def __init__(self) -> None:
        self.run = RunRecord("r1", "fs-1", "/box/run", "gpu-a", RUN.name, ConfigFacts(), Version(1, 1))
        self.knowledge = self

    def run_at(self, _storage: str, _place: str) -> RunRecord:
        """Return the run."""
        return self.run

    async def change_run(self, _key: object, change: Callable[[RunRecord], RunRecord]) -> None:
        """Change it."""
        self.run = change(self.run)


async def step_heard(log: bytes) -> int | None:
    """Return what status says of a run after these bytes of its log arrived."""
    catalogue = OneRun()
    context = SimpleNamespace(storage_of=lambda _: "fs-1", catalogue=catalogue, step_rates={})
    host = Host("static:gpu-a", "gpu-a", "127.0.0.1", "static")
    stepping = RunProgress(host, cast("Context", context), StallDetector(host, cast("Context", context)))
    target, version = LocalPath(("e", "training_run", "logs", "train_log.jsonl")), Version(len(log), 1)
    record = FileRecord(
        "fs-1", "/box/run/logs/train_log.jsonl", target, "gpu-a", "e1", Kind.TRAIN_LOG, version, len(log), "", 1.0, ""
    )
    await stepping.record_lines(record, log, version)
    return catalogue.run.step


VALUES = (
    b"64",
    b"64.0",
    b"6.4e+1",
    b"1e-4",
    b"0.7",
    b".5",
    b"'64' # of them",
    b'"0.7"',
    b"&n 64",
    b"*anchored",
    b"*nowhere",
    b"${a.b.c}",
    b"${a.list[1]}",
    b"${.top}",
    b"${self}",
    b"${oc.env:STEPS}",
    b"x${top}",
    b"\n  64",
    b"!!int 64",
    b"!!float 64",
    b"[64]",
    b"{n: 64}",
    b"1_000",
    b"0x40",
    b"1:30",
    b"null",
    b"~",
    b"",
    b"yes",
    b"true",
    b".nan",
    b"-.inf",
    b"1e999",
    b"-1",
    b"2025-08-20",
    b"|\n  64",
    b"\t64",
    b"\xe9",
    "é".encode(),
    b'"\\ud800"',
    b"64 " + b"# " + b"x" * 70_000,
    b"[\n",
    b"9" * 400,
)
AROUND = (
    b"top: 64\nmark: &anchored 64\na: {b: {c: 64}, list: [1, 64]}\nself: ${self}\n%s\n",
    b"%s\nother: 1\ntop: 3\n",
    b"\xef\xbb\xbf%s\r\ntop: 64\r\n",
    b"# a comment\n---\n%s\n...\n",
    b"%s\n---\nsecond: 1\n",
)
SETTINGS = ("temperature", "top_p", "num_return_sequences", "subset_frac", "eval_dataset")


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("given", VALUES)
def test_planner_readme_and_pictures_read_a_configuration_alike(tmp_path: Path, around: bytes, given: bytes) -> None:
    """Whatever form a value has: one reader reads it, and the scripts find what that found."""
    experiment = Analysed(tmp_path)
    run = around % b"\n".join((b"total_steps: 3", b"total_steps: " + given, b"gns_probe:\n  window_size: " + given))
    config = experiment.directory / "training_run" / "config.yaml"
    config.parent.mkdir()
    config.write_bytes(run)
    evals = experiment.directory / "eval_results" / "on_gpu-b" / RUN.name
    leaf = evals / "results" / "step_final"
    leaf.mkdir(parents=True)
    (leaf / "metrics.csv").write_text("pass@1\n1\n")
    told = around % b"\n".join(name.encode() + b": " + given for name in SETTINGS)
    (evals / "eval_config.yaml").write_bytes(told)
    readme = facts_of(experiment)
    drawn = read_experiment(experiment.directory)
    assert drawn.configured == json.loads(json.dumps(readme.configured))
    (found,) = read_evals(drawn)
    assert readme.evals.evals == (found,)
    assert drawn.last_step == found.at == total_steps(run)
    assert found.setting == setting(told)


def total_steps(config: bytes) -> int | None:
    """Return what the planner takes from a run's configuration."""
    try:
        return parse_config(config).total_steps
    except InvalidFacts:
        return None


def setting(config: bytes) -> Setting:
    """Return what the planner's reader takes from an eval's configuration."""
    try:
        given = parse_eval_config(config)
    except InvalidFacts:
        return Setting(None, None, None, None, None)
    return Setting(given.dataset, given.temperature, given.top_p, given.generations, given.subset)


@pytest.mark.parametrize(
    "content",
    [b'{"step": 64}', b'{"step": 64.0}', b'{"step": "64"}', b'{"step": 64', b'\xef\xbb\xbf{"step": 64}', b"[64]",
     b'{"step": 64, "x": "\xe9"}', b'{"step": 3, "step": 64}', b'{"step": 64, "x": "' + b"x" * 70_000 + b'"}',
     '{"step": 64}'.encode("utf-16"), b'{"step": 64, "loss": NaN}', b""],
)  # fmt: skip
def test_planner_readme_and_pictures_read_the_final_step_alike(tmp_path: Path, content: bytes) -> None:
    """What step_final's training_info.json says is the planner's answer everywhere."""
    experiment = Analysed(tmp_path)
    info = experiment.directory.joinpath("training_run", "training_state", "step_final", "training_info.json")
    info.parent.mkdir(parents=True)
    info.write_bytes(content)
    facts_of(experiment)
    try:
        planned = parse_training_info(content).step
    except InvalidFacts:
        planned = None
    assert read_experiment(experiment.directory).last_step == planned


def test_the_scripts_have_no_reader_of_yaml() -> None:
    """They name no YAML file: what they need of one is in configured.json."""
    scripts = analysis.scripts().items()
    assert [name for name, content in scripts if b".yaml" in content or b"import yaml" in content] == []
