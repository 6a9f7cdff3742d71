"""The text of index.md: rows that stay while their records do, and whose file it is."""

import re

from markdown_it import MarkdownIt

from harvestd.catalogue.queries import Holding, LeftOutTotal
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.scan.snapshot import Version
from harvestd.documents.experiments import ExperimentView
from harvestd.harvest.experiments.index_page import Row, records_of, rendered, row_of, rows_in, with_index
from harvestd.planning.records import ExperimentRecord, RunRecord
from harvestd.report.results import Results
from harvestd.report.scripts.evals import Eval, Mean, Setting
from harvestd.report.scripts.lines import Line

SETTING = Setting("gsm8k", 0.7, 1.0, 8, 1.0)
HOSTILE = "x](javascript:a)|<script>`<!-- harvestd ends -->\x1b[2J"


def view(directory: str = "trial", *, files: int = 3, is_whole: bool = True) -> ExperimentView:
    """Return a finished experiment with two evals."""
    parts = (Part(directory, "x") for _ in range(5))
    run = RunRecord("r", "fs", "/run", "gpu-a", "run_2025-08-20_03-31-43", ConfigFacts(), Version(1, 1), "e")
    evals = [
        Eval((), str(at), at, SETTING, {"pass_rate": Mean(rate, 0.01, 1319)}) for at, rate in ((8, 0.6), (16, 0.5))
    ]
    return ExperimentView(
        ExperimentRecord("e", ExperimentName(*parts), moved_to=directory),
        (
            RunRecord(
                **{**{name: getattr(run, name) for name in run.__struct_fields__}, "final": TrainingInfo(step=16)}
            ),
        ),
        Holding(files, 1024, 2, 1.0),
        LeftOutTotal(),
        None,
        Results((Line(SETTING, tuple(evals)),), is_whole=is_whole),
    )


def test_an_experiment_is_a_row() -> None:
    """It has a link, how far the run came, its last and best pass rates, and with what they were measured."""
    text = rendered([row_of(view())])
    assert (
        "| [`trial`](trial/README.md) | finished at step 16 | 0.5000 ± 0.0100 | 0.6000 ± 0.0100 | `8` | 1319 |"
        " `gsm8k, T 0.7, top-p 1, r 8` |\n" in text
    )
    assert "No experiment is here yet.\n" in rendered([])
    assert "7 earlier experiments are not listed" in rendered([], 7)


def test_rows_are_kept_while_their_records_are() -> None:
    """A page gives its rows back by the hash of the records; not once a person changed it, nor what was not whole."""
    rows = [row_of(view()), row_of(view("other"))]
    page = with_index(None, rendered(rows))
    assert page is not None
    assert rows_in(page) == {row.records: row for row in rows}
    assert records_of(view()) in rows_in(page)
    assert records_of(view(files=4)) not in rows_in(page)
    assert rows_in(page.replace(b"0.5000", b"0.9000")) == {}
    assert rows_in(b"# my own\n") == {}
    partial = with_index(None, rendered([row_of(view(is_whole=False))]))
    assert partial is not None
    assert records_of(view()) not in rows_in(partial)


def test_notes_stay_and_an_own_file_is_left_alone() -> None:
    """Only the part between the comments is replaced; a file without them is a person's, an empty one too."""
    page = with_index(None, rendered([]))
    assert page is not None
    noted = b"mine\n\n" + page + b"\nbelow\n"
    assert with_index(noted, rendered([])) is None
    after = with_index(noted, rendered([row_of(view())]))
    assert after is not None
    assert after.startswith(b"mine\n\n<!-- harvestd begins")
    assert after.endswith(b"<!-- harvestd ends -->\n\nbelow\n")
    assert with_index(b"# my index\n", rendered([])) is None
    assert with_index(b"", rendered([])) is None


def test_hostile_names_are_only_shown() -> None:
    """No name makes HTML, another link, a cell or the end of the generated part."""
    text = rendered([row_of(view(HOSTILE)), Row("0" * 16, "| [`b`](b/README.md) |")])
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert re.findall(r"<script|javascript:a\"|\x1b", html) == []
    assert html.count("<a href") == 2
    page = with_index(None, text)
    assert page is not None
    assert page.count(b"<!-- harvestd ends -->") == 1
    assert len(rows_in(page)) == 2
