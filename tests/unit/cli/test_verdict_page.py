"""Verdicts in lists and on pages: short, never older than they look, and never what a box made of them."""

import time

import pytest

from harvestd.catalogue.entries import VerdictRecord
from harvestd.cli.output import verdict_page
from harvestd.cli.output.page import Page, Styled, plain
from harvestd.convention.kinds import LossKind
from harvestd.documents import forms
from harvestd.safety.verdict import Loss, Reason, ReasonKind, Survival, Verdict, VerdictAnswer

CHECKPOINT = Loss(LossKind.CHECKPOINTS, "/r/step_final", 3 << 30, 6)
EXCEPT = Verdict(VerdictAnswer.SAFE_EXCEPT, losses=(CHECKPOINT, Loss(LossKind.OUTSIDE_FILES, "~/notes", None)))
BUSY = Verdict(
    VerdictAnswer.NOT_SAFE,
    (Reason(ReasonKind.GPU_BUSY, "2 processes run on its GPUs"), Reason(ReasonKind.NOT_QUIET, "it moved", seconds=60)),
)
SAFE = Verdict(VerdictAnswer.SAFE)


def record(verdict: Verdict, ago: float = 1.0, idle: float | None = None, cents: int | None = 249) -> VerdictRecord:
    """Return a verdict that was made so many seconds ago, on a host that has been idle for so many."""
    now = time.time()
    return VerdictRecord("static:gpu-a", "gpu-a", verdict, now - ago, None if idle is None else now - idle, cents)


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (SAFE, "safe"),
        (EXCEPT, "safe except checkpoints (3.0 GiB), outside files"),
        (BUSY, "not safe: gpu busy, not quiet"),
        (Verdict(VerdictAnswer.NOT_SAFE), "not safe: for an unknown reason"),
    ],
)
def test_verdict_in_a_line(verdict: Verdict, text: str) -> None:
    """A line says the answer, and the first reason or what would be lost."""
    assert verdict_page.short(verdict) == text
    shown = verdict_page.cell(record(verdict), watched=True)
    assert isinstance(shown, Styled)
    assert shown.text == text


def test_old_verdict_is_not_shown_as_one_that_holds() -> None:
    """Without a daemon, or after it has not judged for long, a verdict of safe is only what was known once."""
    for shown in (
        verdict_page.cell(record(SAFE), watched=False),
        verdict_page.cell(record(SAFE, ago=7_200), watched=True),
    ):
        assert plain(shown).startswith("not known (")
        assert plain(shown).endswith(" ago: safe)")
    assert verdict_page.cell(None, watched=True) == "-"


def test_cost_in_a_list() -> None:
    """An hour's price, and what it has cost since it went idle where that is being counted."""
    assert verdict_page.cost(record(SAFE, idle=3_600), watched=True) == "$2.49/h, $2.49 since idle"
    assert verdict_page.cost(record(SAFE, idle=3_600), watched=False) == "$2.49/h"
    assert verdict_page.cost(record(BUSY), watched=True) == "$2.49/h"
    assert verdict_page.cost(record(BUSY, cents=None), watched=True) == ""
    assert verdict_page.cost(None, watched=True) == ""


def test_page_names_everything_and_escapes_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Reasons, losses, what survives and what it costs stand on the page; a name from a box can't draw there."""
    evil = "\x1b[2Jsafe\nsafe"
    verdict = Verdict(
        VerdictAnswer.NOT_SAFE,
        (Reason(ReasonKind.OUTSTANDING, f"{evil} is not here", 2048), *BUSY.reasons),
        (CHECKPOINT, Loss(LossKind.UNCOMMITTED_WORK, evil, None)),
        (Survival(Loss(LossKind.RECORDS, evil, 5), "gpu-b"),),
        frozenset({LossKind.RECORDS}),
    )
    verdict_page.write(Page(), record(verdict, idle=7_200))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\nsafe" not in out
    assert out.startswith("gpu-a: not safe to switch off\n")
    for part in (
        "outstanding  2.0 KiB        -  \\x1b[2Jsafe\\nsafe is not here",
        "gpu busy           -        -  2 processes run on its GPUs",
        "not quiet          -    1m00s  it moved",
        "would be lost (accepted: records)",
        "checkpoints           6  3.0 GiB  /r/step_final",
        "uncommitted work      1  unknown  \\x1b[2Jsafe\\nsafe",
        "gpu-b",
        "outstanding: 2.0 KiB",
        "time left:   unknown",
        "$2.49/h, $4.98 since it went idle",
    ):
        assert part in out, out


def test_document_has_its_keys_where_nothing_is_known() -> None:
    """A host that was never judged has the same keys as any other."""
    nothing, something = (
        forms.verdict_document(None, watched=True),
        forms.verdict_document(record(EXCEPT, idle=3_600), watched=True),
    )
    assert nothing.keys() == something.keys()
    assert set(nothing.values()) == {None}
    assert something["verdict"]["answer"] == "safe_except"
    assert (something["cents_per_hour"], something["cents_since_idle"]) == (249, 249)
