"""The figures behind the analysis scripts' pictures: each trap of the files that training and eval software writes."""

import json
import math
from pathlib import Path

import pytest

from harvestd.convention.log_rows import number, whole
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.report.scripts.evals import Eval, Setting, answers_of, read_evals, read_means
from harvestd.report.scripts.experiment import Series, plain, read_experiment, read_log
from harvestd.report.scripts.lines import lines_of
from support.analysed import Analysed

RUN = RunSpec()
EVAL = EvalSpec(RUN, questions=20)


def written(tmp_path: Path, *lines: str) -> Path:
    """Write a log of `lines`, the last one without its newline; gives its path."""
    path = tmp_path / "train_log.jsonl"
    path.write_text("\n".join(lines))
    return path


def read(experiment: Analysed) -> list[Eval]:
    """Return the experiment's evals."""
    experiment.configure()
    return read_evals(read_experiment(experiment.directory))


@pytest.fixture
def experiment(tmp_path: Path) -> Analysed:
    """Return an experiment without anything in it."""
    return Analysed(tmp_path)


def test_no_number_is_no_point(tmp_path: Path) -> None:
    """NaN, Infinity, words and numbers beyond all measure leave a gap, and the rest of their line stays."""
    log = read_log(
        written(
            tmp_path,
            '{"step": 1, "loss": NaN, "kl": 0.5}',
            '{"step": 2, "loss": -Infinity, "kl": 1e999}',
            '{"step": 3, "loss": "much", "kl": true}',
            '{"step": 4, "loss": 0.25, "kl": 1' + "0" * 400 + "}",
            "",
        )
    )
    assert log.series("loss") == Series([4], [0.25])
    assert log.series("kl") == Series([1], [0.5])
    assert log.unread == 0


def test_torn_last_line_is_only_not_finished(tmp_path: Path) -> None:
    """A last line without its end is no row and no trouble; a whole line that is no row is counted."""
    log = read_log(written(tmp_path, '{"step": 1, "loss": 1.0}', "[1, 2]", '{"loss": 2}', '{"step": 2, "lo'))
    assert log.series("loss") == Series([1], [1.0])
    assert log.unread == 2


def test_second_line_of_a_step_adds_to_it(tmp_path: Path) -> None:
    """What the older probe writes on a line of its own belongs to the step's row."""
    log = read_log(written(tmp_path, '{"step": 1, "loss": 1.0}', '{"step": 1, "gns_B_simple": 30.0}', ""))
    assert log.rows == ({"step": 1, "loss": 1.0, "gns_B_simple": 30.0},)


def test_step_that_was_trained_anew_counts_once(tmp_path: Path) -> None:
    """After a resume the later row of a step stands, and nothing of the earlier one beside it."""
    log = read_log(
        written(
            tmp_path, '{"step": 1, "loss": 1.0, "gns_mu": 3}', '{"step": 2, "loss": 2}', '{"step": 1, "loss": 5}', ""
        )
    )
    assert log.rows == ({"step": 1, "loss": 5.0}, {"step": 2, "loss": 2.0})
    assert log.last_step == 2


def test_endless_line_is_read_in_pieces(tmp_path: Path) -> None:
    """A line that is longer than any log's is no row, however it is cut, and what follows it is read."""
    path = written(tmp_path, '{"step": 1, "x": "' + "a" * (3 << 20) + '"}', '{"step": 2, "loss": 2}', "")
    assert read_log(path).series("loss") == Series([2], [2.0])


def test_deeply_nested_line_is_no_row(tmp_path: Path) -> None:
    """A line that no parser gets to the end of is counted and left out."""
    assert read_log(written(tmp_path, "[" * 100_000, '{"step": 2, "loss": 2}', "")).unread == 1


def test_average_is_of_as_many_points_everywhere() -> None:
    """Each point of an average is the mean of the whole width around it; there is none towards the ends."""
    series = Series([1, 2, 3, 5, 8], [1.0, 2.0, 6.0, 4.0, 2.0])
    assert series.averaged(3) == Series([2, 3, 5], [3.0, 4.0, 4.0])
    assert series.averaged(7) == Series([], [])


def test_note_on_averages_counts_points(tmp_path: Path) -> None:
    """A probe that is logged every ten steps is averaged over points, whose number is not that of the steps."""
    log = read_log(written(tmp_path, *(json.dumps({"step": n, "loss": 1}) for n in range(0, 10_000, 10)), ""))
    # matplotlib takes half a second, and each worker imports this file.
    from harvestd.report.scripts.panels import Panel, averages_notes  # noqa: PLC0415

    (note,) = averages_notes([Panel("loss", ("loss",))], log)
    assert "points" in note
    assert "steps" not in note


@pytest.mark.parametrize(("window", "steps"), [(16, list(range(16, 31))), (None, list(range(16, 31))), (20, [])])
def test_diluted_rows_of_the_probe_are_left_out(tmp_path: Path, window: int | None, steps: list[int]) -> None:
    """The probe's values count where its window is the configured one, else the greatest seen; losses always do."""
    lines = [json.dumps({"step": n, "loss": 1, "gns_mu": 1, "gns_window_size": min(n, 16)}) for n in range(1, 31)]
    log = read_log(written(tmp_path, *lines, "")).undiluted(window)
    assert log.series("gns_mu").steps == steps
    assert len(log.series("loss").steps) == 30
    assert log.diluted == 30 - len(steps)


def test_older_probe_knows_no_window(tmp_path: Path) -> None:
    """Where a step's window was not full, only what that window was for is left out."""
    row = {"step": 1, "gns_mu": 1, "gns_window_size": 3, "gns_B_simple": 7}
    log = read_log(written(tmp_path, json.dumps(row), "")).undiluted(16)
    assert log.series("gns_B_simple") == Series([1], [7.0])
    assert log.series("gns_mu").steps == []


def test_numbers_and_steps_are_told_from_words() -> None:
    """A number is finite and measurable; a step is whole, and not below 0."""
    words: tuple[object, ...] = ("NA", None, [], True, "nan", math.inf)
    assert [number(given) for given in ("0.5", 2, *words)] == [0.5, 2, *[None] * 6]
    assert [whole(given) for given in (3, 4.0, "5", -1, 2.5, 1e20)] == [3, 4, 5, None, None, None]


def test_means_leave_out_what_is_blank(tmp_path: Path) -> None:
    """Each column's mean is over the questions that have a value, with the standard error of that mean."""
    path = tmp_path / "metrics.csv"
    path.write_text("q_idx,pass@1,pass_rate,entropy_mean\n0,1,0.5,\n1,0,0.25,0.5\n2,1,7.5,nan\n3,0,0.75,1.5\n4,")
    means = read_means(path)
    assert means["pass@1"] == (0.5, math.sqrt(0.5 * 0.5 / 4), 4)
    assert means["entropy_mean"].value == 1.0
    assert means["entropy_mean"].n == 2
    assert (means["pass_rate"].value, means["pass_rate"].n) == (0.5, 3)


def test_answers_are_told_apart_by_their_question() -> None:
    """Each question's value by q_idx; without one, or where one stands twice, no question can be matched."""
    text = "q_idx,pass@1,pass_rate\n0,1,0.5\n2,0,\n7,1,1.5\n9,0,0.25\n,1,1\nx,1,1\n"
    assert answers_of(text, "pass_rate") == {0: 0.5, 9: 0.25}
    assert answers_of(text, "pass@1") == {0: 1, 2: 0, 7: 1, 9: 0}
    assert answers_of(text + "9,1,1\n", "pass_rate") == {}
    assert answers_of("pass_rate\n0.5\n", "pass_rate") == {}
    assert answers_of(text, "pass@2") == answers_of("", "pass_rate") == answers_of(text, "") == {}


def test_best_is_by_the_pass_rate(experiment: Analysed) -> None:
    """One lucky first sample makes no best step; the base is no candidate, and of equal ones the earliest counts."""
    home = experiment.evaluate(EvalSpec(RUN, questions=2), [10, 20, 30])
    experiment.evaluate_base(EvalSpec(RUN, questions=2))
    cells = {"10": ("0.75", "0"), "20": ("0.5", "1"), "30": ("0.75", "0")}
    for step, (rate, first) in cells.items():
        (metrics,) = home.rglob(f"step_{step}_*/*/metrics.csv")
        metrics.write_text(f"q_idx,pass_rate,pass@1\n0,{rate},{first}\n1,{rate},{first}\n")
    (base,) = (experiment.directory / "base_eval").rglob("metrics.csv")
    base.write_text("q_idx,pass_rate,pass@1\n0,1,1\n1,1,1\n")
    (line,) = lines_of(read(experiment)).lines
    assert [each.step if each else "" for each in (line.base, line.best, line.last)] == ["base", "10", "30"]


def test_broken_metrics_have_no_means(tmp_path: Path) -> None:
    """A file that is no table, and one without rows, give nothing."""
    path = tmp_path / "metrics.csv"
    for content in (b"", b"\xff\xfe\x00", b"pass@1\n", b"pass@1,pass_rate\n" + b"x" * 200_000 + b"\n", b"pass@01\n1\n"):
        path.write_bytes(content)
        assert read_means(path) == {}
    assert read_means(tmp_path / "absent.csv") == {}


@pytest.mark.parametrize(("generations", "column"), [(8, "pass_rate"), (16, "pass@1"), (4, "pass@1"), (1, "pass@1")])
def test_pass_rate_counts_for_eight_answers_alone(experiment: Analysed, generations: int, column: str) -> None:
    """Where r is not 8 the column pass_rate is divided wrongly: pass@1 stands for it; each k that r allows is there."""
    experiment.evaluate(EvalSpec(RUN, questions=20, generations=generations), [10])
    (found,) = read(experiment)
    assert found.setting.generations == generations
    assert found.rate == found.means[column]
    assert found.ks == [k for k in (1, 2, 4, 8, 16) if k <= generations]


def test_settings_come_from_the_leaf_and_its_path(experiment: Analysed) -> None:
    """An eval's settings are those of its run_meta.json, its dataset what follows the step."""
    experiment.evaluate(EvalSpec(RUN, questions=20, subset_frac=0.25, temperature=0.0), [10])
    (found,) = read(experiment)
    assert found.setting == Setting("gsm8k_r1_template", 0.0, 1.0, 8, 0.25)
    assert (found.step, found.at, found.n) == ("10", 10, 20)


def test_unlike_evals_are_on_lines_of_their_own(experiment: Analysed) -> None:
    """A part of the questions, another temperature or another r is never on one line with the rest."""
    experiment.evaluate(EVAL, [10, 20, 30])
    for other in (
        EvalSpec(RUN, questions=5, subset_frac=0.25, top_p=0.9),
        EvalSpec(RUN, questions=20, temperature=1.0),
        EvalSpec(RUN, questions=20, generations=4),
    ):
        experiment.evaluate(other, [10])
    # One leaf was evaluated again with fewer questions: it stands where the full one stood.
    experiment.evaluate(EvalSpec(RUN, questions=5, subset_frac=0.25), [20])
    lines = lines_of(read(experiment)).lines
    longest, *others = [[each.step for each in line.evals] for line in lines]
    assert longest == ["10", "30"]
    assert sorted(others) == [["10"], ["10"], ["10"], ["20"]]
    assert len({line.setting for line in lines}) == 5


def test_base_eval_of_equal_settings_is_step_0(experiment: Analysed) -> None:
    """The base model's eval begins the line of its settings, though its dataset is only in the manifest."""
    experiment.evaluate(EVAL, [10, 20])
    experiment.evaluate(EvalSpec(RUN, dataset="math", questions=20), [10])
    experiment.evaluate_base(EVAL)
    lines, left_out = lines_of(read(experiment))
    assert {line.setting.dataset: [each.at for each in line.evals] for line in lines} == {
        "gsm8k_r1_template": [0, 10, 20],
        "math": [10],
    }
    assert left_out == []


def test_base_eval_of_other_settings_stays_out(experiment: Analysed) -> None:
    """A base eval of another fraction of the questions is told, not drawn."""
    experiment.evaluate(EVAL, [10, 20])
    experiment.evaluate_base(EvalSpec(RUN, questions=5, subset_frac=0.25))
    (line,), (sentence,) = lines_of(read(experiment))
    assert [each.at for each in line.evals] == [10, 20]
    assert "0.25 of the questions" in sentence


def test_base_eval_without_a_record_is_of_the_only_dataset(experiment: Analysed) -> None:
    """A tree that was copied by hand has no manifest: the dataset is taken for the only one, if n agrees."""
    experiment.evaluate(EVAL, [10])
    experiment.evaluate_base(EVAL, on_record=False)
    assert [each.at for each in lines_of(read(experiment)).lines[0].evals] == [0, 10]


@pytest.mark.parametrize("other", [EvalSpec(RUN, dataset="math", questions=20), EvalSpec(RUN, questions=30)])
def test_base_eval_without_a_record_is_not_guessed(tmp_path: Path, other: EvalSpec) -> None:
    """With several datasets, or another number of questions, nobody says that a base eval belongs to this line."""
    experiment = Analysed(tmp_path)
    experiment.evaluate(other, [10])
    if other.dataset != EVAL.dataset:
        experiment.evaluate(EVAL, [10])
    experiment.evaluate_base(EVAL, on_record=False)
    lines, left_out = lines_of(read(experiment))
    assert all(each.at == 10 for line in lines for each in line.evals)
    assert len(left_out) == 1


def test_unknown_settings_agree_with_nothing(experiment: Analysed) -> None:
    """Two evals of which nobody knows which questions they asked are not taken for evals of the same ones."""
    directory = experiment.evaluate(EVAL, [10])
    experiment.evaluate_base(EVAL)
    (directory / "eval_config.yaml").unlink()
    for meta in experiment.directory.rglob("run_meta.json"):
        meta.unlink()
    lines, left_out = lines_of(read(experiment))
    assert [[each.at for each in line.evals] for line in lines] == [[10]]
    assert len(left_out) == 1


def test_base_eval_alone_is_a_line(experiment: Analysed) -> None:
    """Before any checkpoint is evaluated the base model's eval stands alone."""
    experiment.evaluate_base(EVAL)
    (line,) = lines_of(read(experiment)).lines
    assert [(each.at, each.step) for each in line.evals] == [(0, "base")]


@pytest.mark.parametrize(("finished", "until", "at"), [(True, 40, 40), (False, 35, 35), (False, 0, 64)])
def test_final_stands_at_the_last_step(experiment: Analysed, until: int, at: int, *, finished: bool) -> None:
    """An eval of "final" is of the step of step_final, else the log's last, else what is configured."""
    experiment.train(RUN, until, finished=finished)
    experiment.evaluate(EVAL, [10, "final"])
    assert [(each.step, each.at) for each in lines_of(read(experiment)).lines[0].evals] == [("10", 10), ("final", at)]


def test_final_of_a_run_that_went_on_stays_where_it_was(experiment: Analysed) -> None:
    """A run that is resumed after its finish logs further steps: step_final is still that of its checkpoint."""
    experiment.train(RUN, 40, finished=True)
    with (experiment.directory / "training_run" / "logs" / "train_log.jsonl").open("a") as log:
        log.write('{"step": 50, "loss": 1}\n')
    experiment.configure()
    assert read_experiment(experiment.directory).last_step == 40


def test_two_evals_of_one_step_are_one_point(experiment: Analysed) -> None:
    """Where step_40 was the last one, and it and step_final were evaluated, the line has one point there."""
    experiment.train(RUN, 40, finished=True)
    experiment.evaluate(EVAL, [40, "final"])
    (line,) = lines_of(read(experiment)).lines
    assert [each.step for each in line.evals] == ["40"]


def test_final_of_an_unknown_step_is_told(experiment: Analysed) -> None:
    """Where nothing says which step was the last, the eval of "final" has no place among the steps."""
    experiment.evaluate(EVAL, [10, "final"])
    (line,), (sentence,) = lines_of(read(experiment))
    assert [each.step for each in line.evals] == ["10"]
    assert sentence.startswith("Left out: the eval of step final in eval_results/run_")


def test_batch_eval_has_its_settings_from_its_configuration(experiment: Analysed) -> None:
    """A batch eval's steps are read from its results, its settings from the directory's config.yaml."""
    experiment.evaluate_batch(EvalSpec(RUN, dataset="gsm8k", questions=20), [10, 20])
    (line,) = lines_of(read(experiment)).lines
    assert line.setting == Setting("gsm8k", 0.7, 1.0, 8, 1.0)
    assert [each.at for each in line.evals] == [10, 20]


def test_batch_eval_without_a_configuration_has_unknown_settings(experiment: Analysed) -> None:
    """What nothing says is unknown: the rate is pass@1, and no base eval begins the line."""
    directory = experiment.evaluate_batch(EvalSpec(RUN, dataset="gsm8k", questions=20), [10])
    (directory / "config.yaml").unlink()
    experiment.evaluate_base(EvalSpec(RUN, dataset="gsm8k", questions=20))
    (line,), left_out = lines_of(read(experiment))
    (found,) = line.evals
    assert line.setting == Setting("gsm8k", None, None, None, None)
    assert found.rate == found.means["pass@1"]
    assert str(line) == "gsm8k, settings unknown, n = 20"
    assert len(left_out) == 1


def test_equal_settings_at_two_places_are_told_apart(experiment: Analysed) -> None:
    """Two evals of equal settings on two lines say where each of them lies."""
    directory = experiment.evaluate(EVAL, [10])
    (directory / "qwen2_5_15_gsm8k_finetuned").rename(directory / "other_gsm8k_finetuned")
    experiment.evaluate(EVAL, [10])
    lines = lines_of(read(experiment)).lines
    assert [line.apart.rpartition("/")[2] for line in lines] == ["other_gsm8k_finetuned", "qwen2_5_15_gsm8k_finetuned"]


def test_words_of_a_box_are_shown_as_text(experiment: Analysed) -> None:
    """A step that a run_meta.json claims where the path says nothing, and a path itself, can't draw on a terminal."""
    directory = experiment.evaluate(EVAL, [10])
    (leaf,) = directory.rglob("temp*")
    (leaf / "run_meta.json").write_text('{"step": "7\\u001b[31m"}')
    leaf.rename(experiment.directory / "eval_results" / "a\x1b[31m")
    (sentence,) = lines_of(read(experiment)).left_out
    assert sentence.isprintable()
    assert "step 7" in sentence


def test_names_of_a_box_are_shown_as_text() -> None:
    """What is not printable does not reach a terminal, and a name has an end."""
    assert plain("a\x1b[31m\nb") == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b"
    assert len(plain("x" * 500)) == 100
    assert str(Setting("_hidden$x$", 1, 1, 8, 1)).startswith("hidden$x$,")
