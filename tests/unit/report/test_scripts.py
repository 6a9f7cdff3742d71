"""The analysis scripts run alone: on an experiment's directory, away from harvestd, with Python and matplotlib."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from support.analysed import PICTURES, SCRIPTS, Analysed, png_size, require_matplotlib

RUN = RunSpec()
EVAL = EvalSpec(RUN, questions=200)
EVERY_SCRIPT = pytest.mark.parametrize("script", list(PICTURES))
_INCHES = 10
_DPI = 200


@pytest.fixture
def experiment(tmp_path: Path) -> Analysed:
    """Return an experiment with nothing but the scripts in it."""
    require_matplotlib()
    return Analysed(tmp_path)


def kept(experiment: Analysed, kind: str) -> None:
    """Leave the pictures where ARTEFACTS says, for people to look at."""
    if place := os.environ.get("ARTEFACTS"):
        directory = Path(place) / kind
        directory.mkdir(parents=True, exist_ok=True)
        for picture in experiment.analysis.glob("*.png"):
            shutil.copy(picture, directory)


def names(experiment: Analysed) -> set[str]:
    """Return what lies beside the scripts, apart from themselves."""
    return {path.name for path in experiment.analysis.iterdir()} - SCRIPTS.keys() - {"configured.json"}


def test_pictures_of_a_whole_experiment(experiment: Analysed) -> None:
    """A finished run with evals and a base eval gives four pictures beside the scripts, and nothing else is left."""
    experiment.train(RUN, RUN.total_steps, finished=True)
    experiment.evaluate(EVAL, [10, 20, 30, 40, 50, 60, "final"])
    experiment.evaluate_base(EVAL)
    for script, picture in PICTURES.items():
        assert f"Wrote {experiment.analysis / picture}." in experiment.run(script)
        size = png_size(experiment.picture(script))
        assert size.width == _INCHES * _DPI
        assert _DPI * 4 < size.height < _DPI * 16
    assert names(experiment) == set(PICTURES.values())
    kept(experiment, "whole")


def test_pictures_of_many_unlike_evals(experiment: Analysed) -> None:
    """Several datasets, fractions, r and layouts are drawn apart, each with its words."""
    experiment.train(RUN, RUN.total_steps, finished=True)
    experiment.evaluate(EVAL, [10, 20, 30, 40, 50, 60, "final"])
    experiment.evaluate(EvalSpec(RUN, questions=60, subset_frac=0.15, temperature=1.0), [10, 30, 50])
    experiment.evaluate(EvalSpec(RUN, dataset="math", questions=150, temperature=0.0, generations=1), [20, 40, 60])
    experiment.evaluate(EvalSpec(RUN, dataset="short", questions=150, generations=16), [20, 40, 60])
    experiment.evaluate_batch(EvalSpec(RUN, dataset="gsm8k", questions=100), [10, 20, 30])
    experiment.evaluate_base(EVAL)
    for script in PICTURES:
        experiment.run(script)
        png_size(experiment.picture(script))
    kept(experiment, "many")


def test_table_of_pass_rates(experiment: Analysed) -> None:
    """The text says each eval's settings, step, n, rate and standard error."""
    experiment.evaluate(EvalSpec(RUN, questions=4), [10])
    (leaf,) = experiment.directory.rglob("metrics.csv")
    leaf.write_text("q_idx,pass_rate,pass@1\n0,0.5,1\n1,0.25,0\n2,0.75,1\n3,0.5,0\n")
    output = experiment.run("complete_pass_plot").splitlines()
    assert output[:2] == [
        "eval                                    step  n  pass rate  std. error",
        "gsm8k_r1_template, T 0.7, top-p 1, r 8    10  4     0.5000      0.0884",
    ]


@EVERY_SCRIPT
def test_nothing_to_draw(experiment: Analysed, script: str) -> None:
    """Without anything to draw a script says so and ends well, and an older picture stays as it is."""
    experiment.picture(script).write_bytes(b"an older picture")
    assert experiment.run(script).splitlines()[-1].startswith("Nothing to draw: ")
    assert experiment.picture(script).read_bytes() == b"an older picture"
    assert names(experiment) == {PICTURES[script]}


def test_run_without_evals_and_probe(experiment: Analysed) -> None:
    """A young run without a probe has pictures of the training, and sentences for the others."""
    experiment.train(RunSpec(gns_probe=False), 3)
    assert "There is no eval yet: the picture shows the training alone." in experiment.run("complete_pass_plot")
    experiment.run("training_analysis")
    for script in ("detailed_passk_analysis", "entropy_probe_analysis"):
        assert "Nothing to draw: " in experiment.run(script)
    assert names(experiment) == {PICTURES["complete_pass_plot"], PICTURES["training_analysis"]}
    kept(experiment, "young")


def test_evals_without_a_run(experiment: Analysed) -> None:
    """Evals whose log is not here are drawn alone."""
    experiment.evaluate(EVAL, [10])
    experiment.run("complete_pass_plot")
    experiment.run("detailed_passk_analysis")
    assert "Nothing to draw: there is no training log" in experiment.run("training_analysis")
    kept(experiment, "evals_alone")


def test_probes_of_entropy_are_drawn(experiment: Analysed) -> None:
    """The keys of every probe, the older one's second lines among them, are in the text and the picture."""
    log = experiment.directory / "training_run" / "logs" / "train_log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(
        "".join(
            f'{{"step": {n}, "entropy": {1 / n}, "simple_entropy_delta_h_predicted": -{1 / n}, '
            f'"entropy_probe_delta_h": {n}, "entropy_probe_fisher_diag_mean": 1e-{n % 9}}}\n'
            f'{{"step": {n}, "gns_B_simple": {n * n}}}\n'
            for n in range(1, 30)
        )
    )
    output = experiment.run("entropy_probe_analysis")
    for key in ("gns_B_simple", "simple_entropy_delta_h_predicted", "entropy_probe_delta_h"):
        assert f"\n{key} " in output
    kept(experiment, "probes")


def test_same_picture_is_not_written_again(experiment: Analysed) -> None:
    """A second run on the same files leaves the picture alone, and one on new files replaces it whole."""
    experiment.evaluate(EVAL, [10])
    experiment.run("complete_pass_plot")
    first = experiment.picture("complete_pass_plot").stat()
    assert "is as it was." in experiment.run("complete_pass_plot")
    assert experiment.picture("complete_pass_plot").stat().st_mtime_ns == first.st_mtime_ns
    experiment.evaluate(EVAL, [20])
    experiment.run("complete_pass_plot")
    assert experiment.picture("complete_pass_plot").stat().st_ino != first.st_ino


@EVERY_SCRIPT
def test_isolated_python_draws_where_it_is_told(experiment: Analysed, tmp_path: Path, script: str) -> None:
    """`python -I`, which leaves a script's directory out, draws the experiment that it is given where it is told to."""
    elsewhere, output = Analysed(tmp_path / "elsewhere", "other_experiment"), tmp_path / "pictures"
    output.mkdir()
    elsewhere.train(RUN, 20)
    elsewhere.evaluate(EVAL, [10])
    elsewhere.configure()
    arguments = (str(elsewhere.directory), "--output", str(output))
    assert "Wrote " in experiment.run(script, *arguments, isolated=True)
    assert [path.name for path in output.iterdir()] == [PICTURES[script]]
    assert names(experiment) == names(elsewhere) == set()


@EVERY_SCRIPT
def test_without_matplotlib_a_sentence_says_so(tmp_path: Path, script: str) -> None:
    """A Python without matplotlib is told what is missing and how to get it, without a traceback."""
    path = Analysed(tmp_path).analysis / f"{script}.py"
    done = subprocess.run([sys.executable, "-I", "-S", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "This script draws with matplotlib, which is not installed here: python -m pip install matplotlib\n"
    )


def test_wrong_directory_is_an_error(experiment: Analysed) -> None:
    """A directory that is not there ends with exit code 2 and a sentence."""
    with pytest.raises(subprocess.CalledProcessError) as error:
        experiment.run("training_analysis", "/nowhere/at/all")
    assert error.value.returncode == 2
    assert "there is no directory /nowhere/at/all" in error.value.stderr


@EVERY_SCRIPT
def test_names_with_signs_are_text(tmp_path: Path, script: str) -> None:
    """Dollars, backslashes and letters that no font has, in names and numbers beyond all measure, break no picture."""
    require_matplotlib()
    experiment = Analysed(tmp_path, "$\\frac{_^&%$ 実験\x1b[31m" + "x" * 120)
    experiment.train(RUN, 30)
    with (experiment.directory / "training_run/logs/train_log.jsonl").open("a") as log:
        log.write('{"step": 31, "loss": 1e99, "gns_mu": -1e99, "gns_window_size": 16, "kl": 1e-300}\n')
        log.write('{"step": 999999999, "loss": 1e300, "r_mean": 1e308}\n')
    experiment.evaluate(EvalSpec(RUN, dataset="_$x^{$_" + "y" * 60, questions=5), [10])
    output = experiment.run(script)
    assert "\x1b" not in output
    png_size(experiment.picture(script))
    kept(experiment, "signs")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_of_an_older_python(name: str) -> None:
    """A person's Python may be 3.9, and has nothing but itself and matplotlib."""
    module = ast.parse(SCRIPTS[name], feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(module)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert "harvestd" not in imported
    assert not imported & {"yaml", "numpy", "pandas"}
