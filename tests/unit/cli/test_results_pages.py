"""The tables of results: what a narrow terminal leaves out, and what is said of settings that differ."""

import re

import pytest

from harvestd.catalogue.queries import Holding, LeftOutTotal
from harvestd.cli.output.page import Page
from harvestd.cli.output.results_pages import text_of, write_experiments
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.documents.experiments import ExperimentView
from harvestd.planning.records import ExperimentRecord
from harvestd.planning.run_status import CurrentStatus, RunStatus
from harvestd.report.results import Results
from harvestd.report.scripts.evals import Eval, Mean, Setting
from harvestd.report.scripts.lines import Line

SETTING = Setting("gsm8k", 0.7, 1.0, 8, 1.0)
NAME = ExperimentName(*(Part(value, "x") for value in ("ablation", "2025-08-20", "qwen2_5_1_5b", "8x_h100", "64")))


def view(setting: Setting | None = SETTING, *, gone: bool = False, unknown: int = 0) -> ExperimentView:
    """Return a finished experiment with one eval, or with none."""
    means = {"pass_rate": Mean(0.4123, 0.0131, 1319)}
    lines = () if setting is None else (Line(setting, (Eval((), "64", 64, setting, means),)),)
    return ExperimentView(
        ExperimentRecord("e", NAME, gone=gone),
        (),
        Holding(3, 2048, len(lines)),
        LeftOutTotal(1, 1024, unknown),
        CurrentStatus(RunStatus.FINISHED),
        Results(lines),
    )


def shown(capsys: pytest.CaptureFixture[str], *views: ExperimentView) -> list[str]:
    """Return the lines of the table, without colours."""
    write_experiments(Page(), views)
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


def test_off_a_terminal_every_column_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each experiment, with its directory, which commands take."""
    head, first, second, *_ = shown(capsys, view(), view(None, gone=True, unknown=2))
    assert head.split() == [
        *("NAME", "DATE", "MODEL", "HARDWARE", "STEP", "STATE", "LAST", "BEST", "AT", "N"),
        *("SIZE", "LEFT", "OUT", "DIRECTORY"),
    ]
    assert first.split()[5:] == [
        *("finished", "0.412", "±", "0.013", "0.412", "±", "0.013", "64", "1319", "2.0", "KiB", "1.0", "KiB"),
        NAME.directory,
    ]
    assert re.search(r"taken away +- +- +- +- +2\.0 KiB +≥ 1\.0 KiB", second)


@pytest.mark.parametrize("columns", [80, 132, 170])
def test_settings_that_differ_are_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Beside each experiment where there is room; else it is said that they differ, and no line is folded."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = shown(capsys, view(), view(SETTING._replace(dataset="math")))
    assert len(lines) == 6
    assert max(map(len, lines)) <= columns
    assert ("EVALUATED ON" in lines[0]) == (columns > 160)
    assert lines[-1] == "on the settings that most of its evals have"


def test_values_are_written_as_in_the_configuration() -> None:
    """Booleans as YAML has them, numbers without change, and nothing for what is not set."""
    assert [text_of(each) for each in (True, False, 1e-05, 64, "x", None)] == ["true", "false", "1e-05", "64", "x", ""]
