"""The README's generated part: its exact text, what stays text, and where it stands among a person's notes."""

import re
from collections import Counter

import pytest
from markdown_it import MarkdownIt

from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.scan.snapshot import Version
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
from harvestd.report.facts import Facts, TrainingFigures, figures_of
from harvestd.report.readme import Marks, cell, code, marks_in, rendered, with_part
from harvestd.report.scripts.evals import Eval, Mean, Setting, means_of
from harvestd.report.small_files import EvalsHere, Known

NAME = ExperimentName(
    Part("gns_test", "config.yaml gns_probe.enabled"),
    Part("2025-08-20", "run directory"),
    Part("qwen2_5_1_5b", "config.yaml backbone"),
    Part("h100", "host entry gpu-a"),
    Part("64", "step_final training_info.json"),
)
RUN = RunRecord(
    id="r1",
    storage="fs-1",
    place="/lambda/nfs/localfs/training_runs/run_2025-08-20_03-31-43",
    host="gpu-a",
    name="run_2025-08-20_03-31-43",
    config=ConfigFacts(backbone="Qwen/Qwen2.5-1.5B", total_steps=64, dataset="gsm8k"),
    config_version=Version(1, 1),
    experiment="e1",
    final=TrainingInfo(step=64),
)
SETTING = Setting("gsm8k_r1_template", 0.7, 1.0, 8, 1.0)
HOSTILE = "<script>|`x`|[a](http://b)\x1b[2J<!-- harvestd ends -->\u202e\nnext"

WHOLE = """\
# `gns_test_2025-08-20_qwen2_5_1_5b_h100_64steps`

Written by harvestd, and again when something changes; notes above and below this part stay as they are.

|  |  |  |
| --- | --- | --- |
| experiment | `gns_test` | from `config.yaml gns_probe.enabled` |
| date | `2025-08-20` | from `run directory` |
| model | `qwen2_5_1_5b` | from `config.yaml backbone` |
| hardware | `h100` | from `host entry gpu-a` |
| steps | `64` | from `step_final training_info.json` |
| run | `run_2025-08-20_03-31-43` | finished at step 64 |
| where | `gpu-a:/lambda/nfs/localfs/training_runs/run_2025-08-20_03-31-43` |  |
| started | 2025-08-20 03:31:43 | the run directory's name, in the box's time |
| trained from | `Qwen/Qwen2.5-1.5B` | config.yaml |
| trained on | `gsm8k` | config.yaml |
| last line logged | 2025-08-20 07:31:43 UTC | the log's own time on its box |

## Results

`gsm8k_r1_template`, temperature 0.7, top-p 1, r 8: 4 evals, means over n questions.

|  | step | n | pass rate | pass@1 | pass@8 |
| --- | --- | --- | --- | --- | --- |
| base | `base` | 1319 | 0.3100 ± 0.0080 | 0.3000 | 0.6000 |
| best | `40` | 1319 | 0.5200 ± 0.0080 | 0.4900 | 0.8000 |
| last | `final` | 1319 | 0.4900 ± 0.0080 | 0.5000 | 0.8100 |

The pass rate is the share of a question's r answers that are right, averaged over the questions, ± one standard \
error; the best step is the one with the highest. pass@k is the share of questions of which one of the first k \
answers is right.

The training log goes from step 1 to step 64.

| training | last value | step |
| --- | --- | --- |
| `loss` | -0.0123 | 64 |
| `r_mean` | 0.71 | 64 |

## Pictures

![training progress](analysis/training_progress.png)

## Checkpoints here

| directory | size | because |
| --- | --- | --- |
| `training_run/training_state/step_final` | 1.5 KiB | `the final checkpoint` |

## Not here

| why | files | size | what |
| --- | --- | --- | --- |
| `checkpoint: intermediate` | 12 | 1.0 KiB at least | `step_10`, `step_20` |

`manifest.json` lists each of them.

## The scripts

They need Python and matplotlib, nothing else; a script that you change is yours and stays as it is.

```sh
python analysis/training_analysis.py
```
"""


def evaluated(step: str, at: int, rate: float, first: float, last: float) -> Eval:
    """Return an eval with this pass rate, and these means of pass@1 and pass@8."""
    means = {
        "pass_rate": Mean(rate, 0.008, 1319),
        "pass@1": Mean(first, 0.01, 1319),
        "pass@8": Mean(last, 0.01, 1319),
    }
    place = ("base_eval",) if step == "base" else ("eval_results", "run_2025-08-20_03-31-43_gsm8k_r1_template")
    return Eval(place, step, at, SETTING, means)


def known(**changes: object) -> Known:
    """Return the finished run of the convention's example."""
    target = LocalPath.parse(f"{NAME.directory}/training_run/training_state/step_final/optimizer.pt")
    checkpoint = FileRecord(
        storage="fs-1",
        place="/x",
        target=target,
        host="gpu-a",
        experiment="e1",
        kind=Kind.CHECKPOINT,
        version=Version(1536, 1),
        size=1536,
        sha256="1" * 64,
        fetched_at=1.0,
        reason="the final checkpoint",
    )
    left_out = (
        LeftOut("/lambda/step_10", 1024, 6, "checkpoint: intermediate"),
        LeftOut("/lambda/step_20", None, 6, "checkpoint: intermediate"),
    )
    fields: dict[str, object] = {
        "experiment": ExperimentRecord("e1", NAME),
        "runs": (RUN,),
        "files": (checkpoint,),
        "left_out": tuple(("gpu-a", each) for each in left_out),
    }
    return Known(**(fields | changes))  # type: ignore[arg-type]  # of the field's own kind


def test_a_finished_run_is_told_whole() -> None:
    """What, when, where, on what, best and last figures, what is here, what is not and why, and how to draw again."""
    facts = Facts(
        known=known(),
        evals=EvalsHere(
            (
                evaluated("final", 64, 0.49, 0.5, 0.81),
                evaluated("40", 40, 0.52, 0.49, 0.8),
                evaluated("base", 0, 0.31, 0.3, 0.6),
                evaluated("8", 8, 0.41, 0.4, 0.7),
            )
        ),
        training=TrainingFigures(1, 64, {"loss": (-0.0123, 64), "r_mean": (0.71, 64)}),
        logged_at=1755675103 * 10**9,
        pictures=("training_progress.png",),
        scripts=("training_analysis.py",),
    )
    assert rendered(facts) == WHOLE


def test_a_run_without_anything_yet_is_told_too() -> None:
    """Where nothing is here yet the README says so, and has no empty tables."""
    text = rendered(Facts(Known(ExperimentRecord("e1", NAME))))
    assert "No eval is here yet.\n" in text
    assert "## Checkpoints here\n\nNone.\n" in text
    assert "Nothing was left out.\n" in text
    assert "Pictures" not in text
    assert "python" not in text


def test_hostile_text_stays_text() -> None:
    """No name or reason makes HTML, a link, a cell, a line, a control character or the end of the generated part."""
    entry = LeftOut(f"/x/{HOSTILE}", 1, 1, HOSTILE)
    hostile = Setting(HOSTILE, None, None, None, None)
    run = RunRecord("r", "fs", f"/{HOSTILE}", HOSTILE, HOSTILE, ConfigFacts(HOSTILE, dataset=HOSTILE), Version(1, 1))
    facts = Facts(
        known=known(runs=(run,), left_out=((HOSTILE, entry),)),
        evals=EvalsHere(
            (
                Eval((HOSTILE, HOSTILE), HOSTILE, 1, hostile, {"pass@1": Mean(0.5, 0.1, 1)}),
                Eval((HOSTILE, "x"), HOSTILE, 1, hostile, {"pass@1": Mean(0.5, 0.1, 1)}),
                Eval((HOSTILE,), HOSTILE, None, hostile, {"pass@1": Mean(0.5, 0.1, 1)}),
            )
        ),
    )
    text = rendered(facts)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)
    assert with_part(b"", Marks(), text).count(b"<!-- harvestd") == 2
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    kinds = Counter(one.type for token in tokens for one in [token, *(token.children or ())])
    assert not {kind for kind in kinds if kind.startswith(("html", "link", "image"))}
    assert kinds["table_open"] == 5
    shown = [one.content for token in tokens for one in token.children or () if one.type == "code_inline"]
    assert sum("<script>|" in content for content in shown) == 11


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "`plain`"),
        ("a`b", "`` a`b ``"),
        ("``", "``` `` ```"),
        ("", "`   `"),
        ("a\nb\x1b", r"`a\nb\x1b`"),
        ("<!-- a -->", "`<! -- a -- >`"),
        ("x" * 301, f"`{'x' * 300}…`"),
    ],
)
def test_a_code_span_holds_any_text(text: str, shown: str) -> None:
    """The fence is longer than any run of backticks within, and nothing breaks the line or opens a comment."""
    assert code(text) == shown


def test_a_bar_does_not_end_a_cell() -> None:
    """In a table a bar is escaped, since it would end even a code span."""
    assert cell("a|b") == r"`a\|b`"


ONE, TWO = Marks("1" * 16, "-"), Marks("2" * 16, "a" * 16)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b""), (b"Mine.\n\n", b"\n\nAfter\r\n\xff"), (b"\xfe<!-- harvestd ends -->", b"<!-- harvestd begins: -->")],
)
def test_notes_survive_every_rewrite(before: bytes, after: bytes) -> None:
    """What stands before and after the generated part is the same bytes after it was made anew."""
    part = with_part(b"", ONE, "one\n").removesuffix(b"\n")
    again = with_part(before + part + after, TWO, "two\n")
    assert again == before + with_part(b"", TWO, "two\n").removesuffix(b"\n") + after
    assert marks_in(again) == TWO


def test_a_readme_of_a_person_gets_the_part_at_its_end_once() -> None:
    """One without the generated part keeps every byte, and is not appended to twice."""
    first = with_part(b"# My own\nText", ONE, "one\n")
    assert first.startswith(b"# My own\nText\n\n<!-- harvestd begins")
    assert marks_in(b"# My own\nText") is None
    second = with_part(first, TWO, "two\n")
    assert second.startswith(b"# My own\nText\n\n<!-- harvestd begins")
    assert second.count(b"harvestd begins") == 1
    assert b"one" not in second


def test_evals_that_are_too_many_are_counted() -> None:
    """What a README can't afford to read is said, not dropped."""
    assert "3 more evals of this experiment are here" in rendered(Facts(known(), evals=EvalsHere(uncounted=3)))
    assert "not counted" not in rendered(Facts(known()))


@pytest.mark.parametrize(
    "metrics", [b"", b"\0" * 9, b"pass@1\nx\n", b'pass@1\n"', b"pass@1\n" + b"9" * 200_000, b"\xff\xfe"]
)
def test_metrics_that_say_nothing_are_no_eval(metrics: bytes) -> None:
    """What holds no number between 0 and 1 in a pass column is left out, whatever it is."""
    assert means_of(metrics.decode("utf-8", "replace")) == {}


def test_a_training_log_is_read_at_its_ends() -> None:
    """The last finite value of each key counts, with its step; torn lines and NaN are passed over."""
    head = b'{"step": 1, "loss": 0.5}\n{"step": 2, "lo'
    end = (
        b'oss": 3}\n{"step": 8, "loss": 0.25, "r_mean": 1}\n{"step": 9, "loss": NaN, "entropy": Infinity}\n{"step": 10'
    )
    found = figures_of(head, end)
    assert found == TrainingFigures(1, 9, {"loss": (0.25, 8), "r_mean": (1.0, 8)})
