"""README and pictures of one experiment say the same: one reader, from records and from files."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from harvestd.convention.artifacts import Kind
from harvestd.convention.facts import parse_config
from harvestd.convention.naming import ExperimentName, Part
from harvestd.convention.paths import LocalPath
from harvestd.convention.progress import newest_step
from harvestd.convention.records import ExperimentRecord, FileRecord
from harvestd.convention.snapshot import Version
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.report.eval_memory import Evals
from harvestd.report.facts import Facts, gather
from harvestd.report.known import Known
from harvestd.report.readme import rendered
from harvestd.report.scripts.evals import read_evals
from harvestd.report.scripts.experiment import configured, log_of, read_experiment
from harvestd.report.scripts.lines import lines_of
from harvestd.store.root import DataRoot
from support.analysed import Analysed

RUN = RunSpec()
KINDS = {"metrics.csv": Kind.METRICS, "run_meta.json": Kind.RUN_META, "train_log.jsonl": Kind.TRAIN_LOG}
NAME = "e"


def facts_of(experiment: Analysed) -> Facts:
    """Give what harvestd's README is made from, by records of the files that stand there."""
    directory = experiment.directory
    manifest = directory / "manifest.json"
    files = json.loads(manifest.read_text())["files"] if manifest.exists() else []
    remote = {str(each["path"]): str(each["remote_path"]) for each in files}
    records = []
    for path in sorted(each for each in directory.rglob("*") if each.is_file()):
        rest = path.relative_to(directory).as_posix()
        digest = sha256(path.read_bytes()).hexdigest()
        target = LocalPath((directory.name, *rest.split("/")))
        kind = KINDS.get(path.name, Kind.EVAL_CONFIG)
        place = remote.get(rest, f"/box/{rest}")
        records.append(FileRecord("fs-1", place, target, "gpu-a", "e1", kind, Version(1, 1), 1, digest, 1.0, ""))
    name = ExperimentName(*(Part(NAME, "") for _ in range(5)))
    known = Known(ExperimentRecord("e1", name, moved_to=directory.name), files=tuple(records))
    with DataRoot.open(directory.parent) as root:
        return gather(root, known, (), Evals())


@pytest.fixture
def experiment(tmp_path: Path) -> Analysed:
    """Give an experiment with a log and evals of every kind."""
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
    said = facts_of(experiment)
    drawn = read_experiment(experiment.directory)
    assert list(said.evals.evals) == read_evals(drawn)
    assert said.training is not None
    assert said.training.last_step == drawn.log.last_step
    for key, (value, step) in said.training.last.items():
        assert (value, step) == (drawn.log.series(key).values[-1], drawn.log.series(key).steps[-1])


def test_readme_shows_the_lines_of_the_pictures(experiment: Analysed) -> None:
    """A base eval of a dataset that only the evals' directories name begins its line; unlike evals never share one."""
    text = rendered(facts_of(experiment))
    assert "| base | `base` |" in text.partition("`math_500`")[2].partition("`gsm8k")[0]
    lines = lines_of(read_evals(read_experiment(experiment.directory))).lines
    assert text.count(", means over n questions.") == len(lines)


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
    assert "| `10` | 2 | 0.5000 |" in rendered(facts_of(experiment))


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


@pytest.mark.parametrize(
    "line",
    [b'{"step": 3}', b'{"step": 3.0}', b'{"step": "3"}', b'{"step": true}', b'{"step": -1}', b'{"step": 1e999}',
     b'{"step": 1000000001}', b"[3]", b'{"step": 3', b'{"step": 3, "loss": NaN}', b'{"loss": 1}'],
)  # fmt: skip
def test_planner_and_pictures_find_the_same_step(line: bytes) -> None:
    """What is no step for one is none for the other."""
    assert newest_step((line,)) == log_of((line,)).last_step


@pytest.mark.parametrize(
    "text",
    [
        "total_steps: 64\n",
        "total_steps: 30\ntotal_steps: 64\n",
        "n: &n 64\ntotal_steps: *n\n",
        "total_steps: &n 64\nsave_every: *n\n",
        "total_steps: ${trainer.max_steps}\ntrainer:\n  max_steps: 64\n",
        "total_steps: ${trainer.max_steps}\ntrainer: {max_steps: 64}\n",
        "total_steps: ${n}\nn: ${m}\nm: 64\n",
        "total_steps: ${total_steps}\n",
        "total_steps: ${oc.env:STEPS}\n",
        "total_steps: *nowhere\n",
        "total_steps: ${a}\na: ${b}\nb: ${a}\n",
        "'total_steps': 64 # of them\n",
        "other: 1\n",
    ],
)
def test_planner_and_pictures_read_a_configuration_alike(text: str) -> None:
    """Aliases and placeholders too, though the scripts have no YAML library."""
    said = configured(text, "total_steps")
    assert parse_config(text.encode()).total_steps == (int(said) if said else None)
